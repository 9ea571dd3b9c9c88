"""Fixtures shared by all tests."""

import fcntl
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.tiny import tiny_data
from txrec.data.prepared import PreparedData

if TYPE_CHECKING:
    from tests.services import Head

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")  # seconds that each report of a worker may wait
os.environ.setdefault("RAY_worker_niceness", "0")  # by default 15: whatever else runs on the machine goes first
os.environ.setdefault("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", str(512 << 20))  # one per cluster of the tests
hypothesis.settings.register_profile("txrec", deadline=None)  # first calls import, busy machines wait
hypothesis.settings.load_profile("txrec")


MARKERS = {
    **dict.fromkeys(("ray_cluster", "shared_ray_head", "fake_server"), "ray"),
    **dict.fromkeys(("redis", "cluster", "redis_url", "cluster_url", "plain_server"), "server"),
}
"""Marker of the tests that use a fixture, or a parameter, of this name."""


LONGEST = (
    "tests/pipelines/test_own_machines.py",
    "tests/test_readme_commands.py",
    "tests/pipelines/test_prepare.py",
    "tests/pipelines/test_run_in_object_storage.py",
    "tests/pipelines/test_tune.py",
    "tests/pipelines/test_train.py",
    "tests/serve/test_live_shop.py",
    "tests/test_demo.py",
    "tests/serve/test_deployed_stores.py",
    "tests/pipelines/test_pretrain.py",
    "tests/serve/test_openapi.py",
    "tests/txrec/train/ranker/test_fit.py",
    "tests/txrec/train/ranker/test_outcomes.py",
    "tests/pipelines/closed_loop/test_off_policy.py",
    "tests/test_package.py",
)
"""Files that take longest: they begin first, so that no process waits for one of them in the end."""


TOGETHER = {
    **dict.fromkeys(("tests/test_readme_commands.py", "tests/pipelines/test_jobs.py"), "a cluster to submit to"),
    **dict.fromkeys(
        ("tests/serve/deployment/test_deployments.py", "tests/serve/http/test_hostile.py"), "the fake recommender"
    ),
}
"""Group of files that share a fixture of the session which takes seconds to start."""


WHOLLY_SLOW = ("test_openapi.py",)
"""Files of slow tests only that take seconds to collect: a run without slow tests does not read them."""


SHARED = ("ray", "server", "browser", "data")
"""Markers of the tests that `make test` runs apart."""
_SHARED_NAMES = re.compile(rf"\bmark\.(?:{'|'.join(SHARED)})\b|\b(?:{'|'.join(MARKERS)})\b")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Reads no file in vain: each process of a run reads all others, which takes seconds."""
    expression = config.option.markexpr
    if collection_path.name in WHOLLY_SLOW and re.search(r"not \(?[^()]*\bslow\b", expression):
        return True
    only_shared = expression == " or ".join(SHARED)
    is_test_file = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if only_shared and is_test_file and not _names_shared(collection_path) else None


@cache
def _names_shared(file: Path) -> bool:
    """Whether a file of tests names a marker of `SHARED`, or a fixture that brings one, its folders' included."""
    text = file.read_text(encoding="utf-8")
    folders = [folder for folder in file.parents if Path(__file__).parent in folder.parents]
    fixtures = frozenset[str]().union(*map(_fixtures_with_services, folders))
    return bool(_SHARED_NAMES.search(text) or set(re.findall(r"\w+", text)) & fixtures)


@cache
def _fixtures_with_services(folder: Path) -> frozenset[str]:
    """Functions of a folder's conftest.py that name a fixture of `MARKERS`."""
    file = folder / "conftest.py"
    if not file.is_file():
        return frozenset()
    functions = re.findall(r"^def (\w+)(\(.*?)(?=\n\n\n|\Z)", file.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return frozenset(name for name, text in functions if _SHARED_NAMES.search(text))


UNNAMED = pytest.StashKey[list[str]]()
"""Tests with a marker of `SHARED` whose file names neither it nor its fixture: the part with services leaves it out."""

REPEATED = pytest.StashKey[list[str]]()
"""Names of more than one test: pytest-xdist runs the first of them alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests by the fixtures and parameters that they use, so that none can lack its marker; the longest first."""
    items.sort(key=_place)
    for item in items:
        callspec = getattr(item, "callspec", None)
        parameters = [value for value in callspec.params.values() if isinstance(value, str)] if callspec else []
        for name in {*getattr(item, "fixturenames", ()), *parameters} & MARKERS.keys():
            item.add_marker(MARKERS[name])
    shared = [item for item in items if any(item.get_closest_marker(name) for name in SHARED)]
    names = Counter(item.nodeid for item in items)
    config.stash[REPEATED] = [name for name, count in names.items() if count > 1]
    config.stash[UNNAMED] = [item.nodeid for item in shared if not _names_shared(item.path)]


def _place(item: pytest.Item) -> int:
    file = item.nodeid.split("::", 1)[0]
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals whole files to the processes, those of a group of `TOGETHER` to the same one."""
    from xdist.scheduler import LoadFileScheduling

    class ByGroup(LoadFileScheduling):  # type: ignore[misc]  # the package has no types
        """Files, or groups of them."""

        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    return ByGroup(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """Fails a test that leaves this process with denormal numbers read as zero: later tests would compute so."""
    yield
    assert sys.float_info.min / 2 > 0, "torch.set_flush_denormal(True) was called in the tests' own process"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny prepared data set, shared: do not write into it."""
    return tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@cache
def _code_key() -> str:
    """Hash of everything that a trained bundle of the tests depends on."""
    root = Path(__file__).parent.parent
    files = [*(root / "txrec").rglob("*.py"), *(root / "tests").glob("tiny*.py"), root / "tests" / "outcome_bundle.py"]
    digest = hashlib.sha256(version("torch").encode())
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once per test run, by the first of its processes that needs it.

    The environment variable TXREC_TEST_CACHE names a folder that keeps it for later runs of the same code.
    """
    if kept := os.environ.get("TXREC_TEST_CACHE"):
        root = Path(kept) / _code_key()
    elif "PYTEST_XDIST_WORKER" in os.environ:
        root = tmp_path_factory.getbasetemp().parent
    else:
        root = tmp_path_factory.mktemp(name)
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
def outcome_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle whose ranker estimates purchases, shared: do not write into it."""
    from tests import outcome_bundle

    return shared_folder(tmp_path_factory, "outcome-bundle", outcome_bundle.write) / "candidate"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    root = os.environ.get("TXREC_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("set TXREC_DATA to the folder above the real data sets to run this test")
    return Path(root)


@pytest.fixture(scope="session")
def shared_ray_head() -> Iterator["Head"]:
    """A Ray cluster of its own processes, as `ray start --head` starts it, shared by the tests that submit to one."""
    from tests.services import ray_head

    with ray_head() as head:
        yield head


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real local Ray cluster, started once per process for all tests that need one and stopped after them.

    With the dashboard: Ray Tune frees the resources of stopped trials only with it.
    """
    from pipelines.distributed import cluster
    from tests.workers import forked_workers

    cluster.set_environment()
    with forked_workers(), cluster.connect(dashboard=True):
        yield
