"""Workers of the tests' local cluster as forks of one process, which has imported torch and Ray."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from tests import worker_client, worker_server

ROOT = Path(__file__).parent.parent


@contextmanager
def forked_workers() -> Iterator[None]:
    """Lets clusters that this process starts in the block fork their workers.

    Where coverage is measured, workers have interpreters of their own, because it does not begin in a fork; so they do
    on other systems than Linux.
    """
    if sys.platform != "linux" or {"COVERAGE_RUN", "COVERAGE_PROCESS_CONFIG"} & os.environ.keys():
        yield
        return
    folder = tempfile.mkdtemp(prefix="w", dir="/tmp")  # paths of sockets must be short
    path = f"{folder}/workers"
    command = [sys.executable, "-m", "tests.worker_server", path]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == worker_server.READY
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(worker_client.SOCKET_VARIABLE, path)
            start_clients(patch)
            yield
    finally:
        server.kill()
        server.communicate()
        shutil.rmtree(folder)


def start_clients(patch: pytest.MonkeyPatch) -> None:
    """Lets the raylets of this process start `tests/worker_client.py` for a worker."""
    from ray._private.parameter import RayParams

    original = RayParams.update_if_absent

    @wraps(original)
    def update_if_absent(self: Any, **defaults: Any) -> None:
        if "setup_worker_path" in defaults:
            defaults["setup_worker_path"] = worker_client.__file__
        original(self, **defaults)

    patch.setattr(RayParams, "update_if_absent", update_if_absent)
