"""A command line in a process whose clusters fork their workers: `python tests/forking.py MODULE ARGUMENT ...`."""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Runs the module as `python -m` would in the checkout, from any folder."""
    _, module, *arguments = sys.argv
    sys.path[0] = str(Path(__file__).parent.parent)
    from tests.workers import forked_workers

    sys.argv = [module, *arguments]
    with forked_workers():
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
