"""A cluster with the application over the fake recommender, shared by the tests that need one."""

import socket
from collections.abc import Iterator

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
