"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.tiny import tiny_data
from txrec.data.prepared import PreparedData

os.environ.setdefault("OMP_NUM_THREADS", "2")
hypothesis.settings.register_profile("txrec", deadline=None)  # first calls import, busy machines wait
hypothesis.settings.load_profile("txrec")


MARKERS = {
    **dict.fromkeys(("ray_cluster", "fake_server"), "ray"),
    **dict.fromkeys(("redis", "cluster", "redis_url", "cluster_url", "plain_server"), "server"),
}
"""Marker of the tests that use a fixture, or a parameter, of this name."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by the fixtures and parameters that they use, so that none can lack its marker."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        parameters = [value for value in callspec.params.values() if isinstance(value, str)] if callspec else []
        for name in {*getattr(item, "fixturenames", ()), *parameters} & MARKERS.keys():
            item.add_marker(MARKERS[name])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny prepared data set, shared: do not write into it."""
    return tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle with a trained ranker, shared: do not write into it."""
    from tests import tiny_bundle

    folder = tmp_path_factory.mktemp("tiny-bundle")
    return tiny_bundle.write(folder, tiny_data(folder / "data", num_users=240))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    root = os.environ.get("TXREC_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("set TXREC_DATA to the folder above the real data sets to run this test")
    return Path(root)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real local Ray cluster, started once for all tests that need one and stopped after them."""
    from pipelines import cluster

    with cluster.connect():
        yield
