"""Figures of a training run reach TensorBoard and, where asked for, MLflow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.training.records import MlflowRecord, Records
from txrec.config import Config, TrainConfig
from txrec.errors import TrainingError


@dataclass
class FakeClient:
    """As much of `mlflow.MlflowClient` as is used; may be down."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    down: bool = False

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def search_runs(self, places: list[str], wanted: str, max_results: int) -> list[SimpleNamespace]:
        found = [key for key in self.runs if wanted == f"tags.`txrec.key` = '{key}'"]
        return [SimpleNamespace(info=SimpleNamespace(run_id=key)) for key in found]

    def create_run(self, place: str, tags: dict[str, str], run_name: str) -> SimpleNamespace:
        self.runs[run_name] = {"params": {}, "metrics": [], "closed": False, "tags": tags}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_param(self, run: str, name: str, value: object) -> None:
        assert name not in self.runs[run]["params"]
        self.runs[run]["params"][name] = value

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        if self.down:
            raise ConnectionError("nobody there")
        self.runs[run]["metrics"].append((name, value, step))

    def set_terminated(self, run: str) -> None:
        self.runs[run]["closed"] = True


def test_figures_of_every_epoch_reach_tensorboard(tmp_path: Path) -> None:
    with Records.of(Config(name="shop"), tmp_path, "abc") as records:
        records.add({"loss": 2.0, "ndcg@10": 0.1}, 1)
        records.add({"loss": 1.5, "ndcg@10": 0.2}, 2)
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in seen.Scalars("loss")] == [(1, 2.0), (2, 1.5)]


def test_mlflow_gets_the_settings_once_and_the_figures_of_every_epoch() -> None:
    client = FakeClient()
    record = MlflowRecord(client, "shop", "abc", {"train.lr": 1e-3})
    record.add({"loss": 2.0, "ndcg@10": 0.1}, 1)
    record.close()
    assert client.runs["abc"]["params"] == {"train.lr": 1e-3}
    assert client.runs["abc"]["metrics"] == [("loss", 2.0, 1), ("ndcg_at_10", 0.1, 1)]
    assert client.runs["abc"]["closed"]


def test_training_that_goes_on_goes_on_in_the_same_mlflow_run() -> None:
    client = FakeClient()
    for epoch in (1, 2):
        MlflowRecord(client, "shop", "abc", {"train.lr": 1e-3}).add({"loss": 2.0}, epoch)
    assert list(client.runs) == ["abc"]
    assert [step for _, _, step in client.runs["abc"]["metrics"]] == [1, 2]
    MlflowRecord(client, "shop", "other", {})
    assert list(client.runs) == ["abc", "other"]
    assert len(client.experiments) == 1


def test_a_server_that_goes_down_costs_figures_and_not_the_training(caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()
    record = MlflowRecord(client, "shop", "abc", {})
    client.down = True
    record.add({"loss": 2.0}, 1)
    assert "epoch 1 was not logged to MLflow: nobody there" in caplog.text


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


@pytest.mark.skipif(_importable("mlflow"), reason="MLflow is installed here")
def test_without_mlflow_it_says_how_to_install_it(tmp_path: Path) -> None:
    config = Config(name="shop", train=TrainConfig(mlflow_uri="http://localhost:1"))
    with pytest.raises(
        TrainingError, match=r"train\.mlflow_uri = 'http://localhost:1' .* pip install 'txrec\[mlflow\]'"
    ):
        Records.of(config, tmp_path, "abc")


@pytest.mark.skipif(not _importable("mlflow"), reason="needs the extra `mlflow`")
def test_a_real_mlflow_store_holds_what_was_written(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db" if _importable("sqlalchemy") else (tmp_path / "runs").as_uri()
    config = Config(name="shop", train=TrainConfig(mlflow_uri=uri))
    for epoch in (1, 2):
        with Records.of(config, tmp_path / "tensorboard", "abc") as records:
            records.add({"loss": 2.0 / epoch, "ndcg@10": 0.1}, epoch)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("shop")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["train.lr"] == str(config.train.lr)
    history: Callable[[str], list[Any]] = lambda name: client.get_metric_history(run.info.run_id, name)  # noqa: E731
    assert [(metric.step, metric.value) for metric in history("loss")] == [(1, 2.0), (2, 1.0)]
    assert run.data.metrics["ndcg_at_10"] == 0.1
