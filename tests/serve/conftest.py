"""A cluster with the application over the fake recommender, shared by the tests that need one."""

import socket
from collections.abc import Iterator

import psutil
import pytest
from ray import serve as ray_serve

from txrec.config import ServeConfig


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def fake_server(ray_cluster: None) -> Iterator[str]:
    """URL of the deployed application over the fake recommender."""
    from serve import app
    from tests.serve.fake import open_fake

    config = ServeConfig(port=free_port(), console=False, max_waiting=64, ranker_timeout_s=2.0, body_timeout_s=0.5)
    try:
        yield app.launch(app.bind(open_fake, config), config)
    finally:
        ray_serve.shutdown()


def replicas(kind: str) -> list[psutil.Process]:
    """Processes of this test's own cluster that run a deployment."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(f"ServeReplica:txrec:{kind}" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:  # it ended while we looked
            continue
    return found
