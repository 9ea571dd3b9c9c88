"""Ray jobs, one file per stage, glue only: the work itself is in `txrec`.

Every stage module has `run(config, progress) -> Summary`; `pipelines.__main__` is the command line, and the
subpackages hold the parts that stages and commands share.
"""
