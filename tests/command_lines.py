"""Runs command lines of txrec in one process, on one connection to Ray: starting each anew takes seconds.

    python -m tests.command_lines

Reads one JSON list of words per line and writes one JSON list of exit code, standard output and error for each.
"""

import json
import sys
import traceback

from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.distributed import cluster


def main() -> None:
    runner = CliRunner()
    with cluster.connect():
        for line in sys.stdin:
            result = runner.invoke(app, json.loads(line))
            error = "".join(traceback.format_exception(result.exception)) if result.exit_code else ""
            sys.stdout.write(json.dumps([result.exit_code, result.stdout, result.stderr + error]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
