"""Errors of a cluster whose machines cannot do the work."""

import os
from pathlib import Path

import pytest

from pipelines.distributed import cluster, machines
from pipelines.distributed.machines import View, look, require
from txrec import __version__
from txrec.config import Config
from txrec.errors import ClusterError, StorageError

CONFIG = Config(name="shop")
TWO_WORKERS = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"num_workers": 2})})
GOOD = View(__version__, "10.0.0.2", (), "")


def test_a_machine_that_has_everything_passes() -> None:
    require(TWO_WORKERS, "m2", GOOD, {})


@pytest.mark.parametrize(
    ("view", "error", "says"),
    [
        (
            View("0.0", "10.0.0.2", (), ""),
            ClusterError,
            "machine m2: has txrec 0.0, the driver",
        ),
        (View(__version__, "127.0.1.1", (), ""), ClusterError, "its own name resolves to 127.0.1.1 there.*/etc/hosts"),
        (View(__version__, "", (), ""), ClusterError, "its own name does not resolve there"),
        (View(__version__, "10.0.0.2", (), "s3://shop: no"), StorageError, "machine m2: s3://shop: no"),
        (
            View(__version__, "10.0.0.2", ("/data/raw",), ""),
            StorageError,
            "data.root = /data/raw: the machine m2 does not see it, only the driver does; set data.root to object",
        ),
        (View(__version__, "10.0.0.2", ("/runs/.seen-1",), ""), StorageError, "runs_root = /runs: the machine m2"),
    ],
)
def test_the_first_thing_that_a_machine_lacks_is_named_with_the_remedy(
    view: View, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        require(TWO_WORKERS, "m2", view, {"/data/raw": "data.root", "/runs/.seen-1": "runs_root"})
    assert caught.value.exit_code == 3  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)


def test_a_name_that_means_loopback_matters_only_to_workers_that_train_together() -> None:
    require(CONFIG, "m2", View(__version__, "127.0.1.1", (), ""), {})


def test_a_machine_says_which_paths_it_does_not_see(tmp_path: Path) -> None:
    view = look((str(tmp_path), str(tmp_path / "absent")), None)
    assert view.absent == (str(tmp_path / "absent"),)
    assert view.version == __version__


@pytest.mark.ray
def test_one_machine_is_not_asked(ray_cluster: None, tmp_path: Path) -> None:
    machines.require_ready(CONFIG.model_copy(update={"runs_root": str(tmp_path / "runs")}))
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore lines.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", "10.0.0.1:6379")
    message = r"RAY_ADDRESS = 10.0.0.1:6379: no Ray cluster answers \(Could not find any running Ray instance.\); start"
    with pytest.raises(ClusterError, match=message), cluster.connect():
        raise AssertionError("must not connect")
