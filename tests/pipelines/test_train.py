"""Training as a Ray job: one or two workers, killed or interrupted, the same model in the end."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import ray.train
import torch
from torch import Tensor

from pipelines import train
from tests.tiny import tiny_data
from txrec.config import Config, ModelConfig, RankerConfig, TextConfig, TrainConfig
from txrec.data.prepared import PreparedData
from txrec.errors import StageError, TrainingError
from txrec.model.retrieval import RetrievalModel
from txrec.recommender.bundle import Bundle
from txrec.train.retrieval.loop import EpochReport
from txrec.train.retrieval.setup import trainer_for

pytestmark = pytest.mark.ray


def config_in(root: Path, **train_settings: object) -> Config:
    settings = {"max_epochs": 4, "batch_size": 16, "lr": 3e-3, "patience": 50, "cpus_per_worker": 0.5, **train_settings}
    return Config(
        name="tiny",
        runs_root=str(root),
        text=TextConfig(encoder="none"),
        model=ModelConfig(dim=16, num_layers=1, num_heads=2, max_length=20, dropout=0.1, use_text=False),
        train=TrainConfig.model_validate(settings),
        ranker=RankerConfig(mode="off"),
    )


def trained(config: Config) -> tuple[dict[str, Tensor], tuple[EpochReport, ...]]:
    tiny_data(config.data_dir)
    summary = train.run(config)
    return RetrievalModel.open(config.checkpoints_dir / "history").state_dict(), summary.history


@pytest.fixture(scope="module")
def whole(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Config]:
    """An uninterrupted run."""
    config = config_in(tmp_path_factory.mktemp("whole"))
    return trained(config)[0], config


def test_it_leaves_a_model_a_learning_curve_and_a_complete_bundle(whole: tuple[dict[str, Tensor], Config]) -> None:
    weights, config = whole
    assert sorted(os.listdir(config.checkpoints_dir)) == ["history", "tensorboard"]
    curve = json.loads((config.checkpoints_dir / "history" / "training.json").read_text())
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3, 4]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert list((config.checkpoints_dir / "tensorboard").glob("*/events*"))
    opened = Bundle.open(config.candidate_dir)
    assert torch.equal(opened.model.state_dict()["encoder.ids.weight"], weights["encoder.ids.weight"])


def _dying(folder: Path) -> Callable[[dict[str, object]], object]:
    """The real worker, killed without warning the first two times that it is in its third epoch."""

    def worker(settings: dict[str, object]) -> object:
        from pipelines.train import train_worker

        def die_in_the_third_epoch(phase: str, step: int, total: int | None, **_: float) -> None:
            marker = folder / f"killed-{len(list(folder.glob('killed-*'))) + 1}"
            if phase == "training" and total and marker.name != "killed-3":
                if marker.name == "killed-2":
                    assert step > total / 4, "the first epoch was done: it must not be trained again"
                if step > total * 0.6:
                    ray.train.get_all_reported_checkpoints()  # what is not committed yet would be lost with the worker
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

        return train_worker({**settings, "progress": die_in_the_third_epoch})

    return worker


def test_a_killed_worker_goes_on_and_a_run_whose_worker_died_too_often_resumes_to_the_same_bits(
    whole: tuple[dict[str, Tensor], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path, max_failures=1)
    with monkeypatch.context() as patched:
        patched.setattr(train, "train_worker", _dying(tmp_path))
        with pytest.raises(TrainingError, match="the worker died 2 times; run again"):
            trained(config)
    assert sorted(file.name for file in tmp_path.glob("killed-*")) == ["killed-1", "killed-2"]
    assert not (config.checkpoints_dir / "history").exists()
    done: list[float] = []  # of all steps; the display may miss reports, so some may be absent
    tiny_data(config.data_dir)
    summary = train.run(
        config, lambda phase, step, total, **_: done.append(step / (total or 1)) if phase == "training" else None
    )
    assert all(part > 1 / 4 for part in done)  # at least the first of four epochs was not done again
    assert [report.epoch for report in summary.history] == [1, 2, 3, 4]
    weights = RetrievalModel.open(config.checkpoints_dir / "history").state_dict()
    _assert_equal(weights, whole[0])


def test_two_workers_that_share_the_batches_equal_one(ray_cluster: None, tmp_path: Path) -> None:
    config = config_in(tmp_path, num_workers=2, batch_size=16, cpus_per_worker=0.25, precision="fp32")
    without_dropout = {"model": ModelConfig(dim=16, num_layers=1, num_heads=2, dropout=0.0, use_text=False)}
    config = config.model_copy(update=without_dropout)
    weights, history = trained(config)
    alone = trainer_for(config, PreparedData.open(config.data_dir), None, "cpu")  # in this process
    alone.run(lambda *_: None)
    assert [report.loss for report in history] == pytest.approx(
        [epoch["loss"] for epoch in alone.state.history], rel=1e-4
    )
    own = alone.objective.model.state_dict()["encoder.ids.weight"]
    torch.testing.assert_close(weights["encoder.ids.weight"], own, rtol=1e-2, atol=1e-3)


def test_without_the_text_encoder_it_names_the_stage_before(ray_cluster: None, tmp_path: Path) -> None:
    config = config_in(tmp_path).model_copy(update={"text": TextConfig()})
    tiny_data(config.data_dir)
    with pytest.raises(StageError, match="run `txrec pretrain CONFIG` first"):
        train.run(config)


@pytest.mark.usefixtures("workers_in_process")
def test_an_error_that_trying_again_would_not_mend_reaches_the_caller_as_it_is(tmp_path: Path) -> None:
    config = config_in(tmp_path, target_events=("cart",))
    with pytest.raises(TrainingError, match="no training example"):
        trained(config)


def _assert_equal(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, found in weights.items():
        assert torch.equal(found, wanted[name]), name


@pytest.mark.usefixtures("workers_in_process")
def test_training_continues_from_a_bundle_in_a_fifth_of_the_epochs_and_says_so(
    whole: tuple[dict[str, Tensor], Config], tmp_path: Path
) -> None:
    first = whole[1].candidate_dir
    config = config_in(tmp_path, start_from=str(first), max_epochs=5)
    tiny_data(config.data_dir)
    summary = train.run(config)
    assert len(summary.history) == 1
    lineage = Bundle.open(config.candidate_dir).manifest.lineage
    assert lineage["start"] == "warm"
    assert lineage["rounds"] == 1
    assert lineage["earlier"] == Bundle.open(first).manifest.version
    assert f"warm training: continues {lineage['earlier']}" in summary.headline()
    reference = Bundle.open(first).manifest.lineage["reference"]
    assert lineage["reached"] >= reference * (1 - config.train.warm_start.tolerance)


@pytest.mark.usefixtures("workers_in_process")
def test_a_warm_start_that_falls_short_is_followed_by_a_full_training(
    whole: tuple[dict[str, Tensor], Config], tmp_path: Path
) -> None:
    better = shutil.copytree(whole[1].candidate_dir, tmp_path / "better")
    manifest = json.loads((better / "manifest.json").read_text())
    manifest["lineage"]["reference"] = 2.0  # nothing reaches that
    (better / "manifest.json").write_text(json.dumps(manifest))
    config = config_in(tmp_path / "runs", start_from=str(better), max_epochs=2)
    tiny_data(config.data_dir)
    summary = train.run(config)
    assert len(summary.history) == 2
    assert summary.lineage.start == "full"
    assert "a warm start from" in summary.lineage.reason
    assert "< 2.0000" in summary.lineage.reason
    assert f"full training: {summary.lineage.reason}" in summary.headline()
