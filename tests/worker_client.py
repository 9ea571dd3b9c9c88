"""Script that the raylet of the tests starts for a worker: hands the worker over to the fork server, and ends.

It stands where Ray has setup_worker.py, and imports as little as it can. See `tests.worker_server`.
"""

import json
import os
import socket
import sys

SOCKET_VARIABLE = "TXREC_TEST_WORKERS"
"""Environment variable that names the server's socket."""


def main() -> None:
    """Sends arguments, environment, folder and standard streams."""
    request = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(os.environ[SOCKET_VARIABLE])
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])


if __name__ == "__main__":
    main()
