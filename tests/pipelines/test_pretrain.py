"""Text pre-training as a Ray job."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray.train

from pipelines import pretrain as pretrain_job
from tests.tiny import tiny_data
from txrec.config import Config, PretrainConfig, TextConfig, TrainConfig
from txrec.errors import TrainingError
from txrec.model.text_encoder import load_vectors
from txrec.model.text_encoders import open_text_encoder
from txrec.train.text import pretrain


def _config(root: Path, **pretrain_settings: float) -> Config:
    settings = {"batch_size": 16, "masked_epochs": 2, "contrastive_epochs": 20, "lr": 3e-3, **pretrain_settings}
    return Config(
        name="tiny",
        runs_root=str(root),
        text=TextConfig(dim=32, num_layers=1, num_heads=2, ngram_buckets=1_024),
        pretrain=PretrainConfig.model_validate(settings),
        train=TrainConfig(max_failures=1),
    )


def test_without_an_encoder_it_is_skipped_and_says_why(tmp_path: Path) -> None:
    summary = pretrain_job.run(_config(tmp_path).model_copy(update={"text": TextConfig(encoder="none")}))
    assert summary.headline() == 'skipped: text.encoder = "none"'
    assert not (tmp_path / "tiny").exists()


@pytest.mark.usefixtures("workers_in_process")
def test_the_result_is_an_encoder_and_the_vectors_of_all_texts(tmp_path: Path) -> None:
    config = _config(tmp_path)
    data = tiny_data(config.data_dir)
    told: list[str] = []
    summary = pretrain_job.run(config, lambda phase, *_, **__: told.append(phase))
    items, queries = load_vectors(config.checkpoints_dir / "text")
    assert items.shape == (data.meta.num_items + 1, 32)
    assert queries.shape == (data.meta.num_queries + 1, 32)
    encoder = open_text_encoder(config.checkpoints_dir / "text")
    np.testing.assert_allclose(encoder.encode(data.items["text"].to_pylist()), items[1:], atol=1e-5)
    assert summary.validation is not None
    assert summary.validation.mrr > 0.2  # a query fits ten products, of which one is clicked: about .29 at best
    assert "encoding texts" in told
    assert os.listdir(config.checkpoints_dir) == ["text"]


def test_no_text_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    config = _config(tmp_path)
    tiny_data(config.data_dir)
    (config.data_dir / "tokenizer.json").unlink()
    with pytest.raises(TrainingError, match=r'text\.encoder = "none"'):
        pretrain_job.run(config)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_goes_on_and_so_does_a_run_whose_worker_was_killed_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path, masked_epochs=1, contrastive_epochs=3)  # survives one crash
    data = tiny_data(config.data_dir)
    pretrain.fit(config, data, tmp_path / "uninterrupted")
    monkeypatch.setattr(pretrain_job, "train_worker", _dying(tmp_path))
    with pytest.raises(TrainingError, match="the worker died 2 times; run again"):
        pretrain_job.run(config)
    pretrain_job.run(config)
    whole, _ = load_vectors(tmp_path / "uninterrupted")
    resumed, _ = load_vectors(config.checkpoints_dir / "text")
    np.testing.assert_allclose(resumed, whole, atol=1e-3)
    assert sorted(file.name for file in tmp_path.glob("killed-*")) == ["killed-1", "killed-2"]


def _dying(folder: Path) -> Callable[[dict[str, object]], object]:
    """The real worker, killed in the second phase, and again when it is started the second time."""

    def worker(settings: dict[str, object]) -> object:
        from pipelines.pretrain import train_worker

        def die_in_the_middle(phase: str, step: int, total: int | None, **_: float) -> None:
            marker = folder / f"killed-{len(list(folder.glob('killed-*'))) + 1}"
            if phase == "queries and clicks" and marker.name != "killed-3":
                ray.train.get_all_reported_checkpoints()  # what is not committed yet would be lost with the worker
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if phase == "masked tokens":
                assert marker.name == "killed-1", "the first phase was done: it must not be trained again"

        return train_worker({**settings, "progress": die_in_the_middle})

    return worker
