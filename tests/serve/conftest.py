"""A cluster with the application over the fake recommender, shared by the tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis as redis_client

from tests import services
from tests.applications import deployed
from tests.services import free_port
from txrec.config import ServeConfig
from txrec.recommender.recommender import Recommender


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """URL of a Redis server."""
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty state of the server that several replicas can share: a SQLite file, and a Redis server."""
    if request.param == "sqlite":
        return str(tmp_path / "state.sqlite")
    url: str = request.getfixturevalue("redis_url")
    redis_client.Redis.from_url(url).flushall()
    return url


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    """The trained tiny bundle, opened."""
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def fake_server(ray_cluster: None) -> str:
    """URL of the deployed application over the fake recommender."""
    return deployed.use("fake", _launch_fake)


def _launch_fake() -> str:
    from serve import app
    from tests.serve.fake import open_fake

    config = ServeConfig(
        port=free_port(), console=False, max_waiting=64, ranker_timeout_s=20, request_timeout_s=30, body_timeout_s=2.0
    )
    return app.launch(app.bind(open_fake, config), config)


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
