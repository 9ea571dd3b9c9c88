"""Fixtures shared by all tests."""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
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


WHOLLY_SLOW = ("test_openapi.py",)
"""Files of slow tests only that take seconds to collect: a run without slow tests does not read them."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return (
        True
        if collection_path.name in WHOLLY_SLOW and re.search(r"not \(?[^()]*\bslow\b", config.option.markexpr)
        else None
    )


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


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once per test run, by the first of its processes that needs it.

    The environment variable TXREC_TEST_CACHE names a folder that keeps it for later runs: for mutation tests, which
    run the suite once per mutant. Nothing there is ever made again; remove it when the code changes.
    """
    cache = os.environ.get("TXREC_TEST_CACHE")
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    root = (
        Path(cache) if cache else tmp_path_factory.getbasetemp().parent if parallel else tmp_path_factory.mktemp(name)
    )
    root.mkdir(parents=True, exist_ok=True)
    folder, made = root / f"shared-{name}", root / f"shared-{name}.made"
    with (root / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle with a trained ranker, shared: do not write into it."""
    from tests import tiny_bundle

    def make(folder: Path) -> None:
        tiny_bundle.write(folder, tiny_data(folder / "data", num_users=240))

    return shared_folder(tmp_path_factory, "tiny-bundle", make) / "candidate"


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
