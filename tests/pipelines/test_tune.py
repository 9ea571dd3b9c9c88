"""Hyperparameter search as Ray jobs, on the tiny data set."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import tune
from pipelines.training import workers
from pipelines.trial import SCORE, trial_worker
from tests.tiny import tiny_data
from txrec.config import Config
from txrec.config_loader import load, with_overrides
from txrec.errors import ConfigError, StageError
from txrec.train.retrieval.setup import trainer_for
from txrec.train.search_space import Search, space

ROOT = Path(__file__).parents[2]
NOT_POSITIVE = "train.lr = -1.0: input should be greater than 0"


def _config(root: Path, space: dict[str, Any], **settings: Any) -> Config:
    return Config.model_validate(
        {
            "name": "tiny",
            "runs_root": str(root),
            "text": {"encoder": "none"},
            "model": {"dim": 16, "num_layers": 1, "num_heads": 2, "max_length": 20},
            "train": {"max_epochs": 2, "batch_size": 16, "max_failures": 0},
            "tune": {"space": space, **settings},
        }
    )


def test_a_space_that_cannot_be_searched_stops_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean model\.dropout"):
        tune.run(_config(tmp_path, {"model.dropuot": {"choice": [0.1]}}))
    with pytest.raises(StageError, match="txrec prepare"):
        tune.run(_config(tmp_path, {"model.dropout": {"choice": [0.1]}}))


@pytest.mark.parametrize(
    ("resources", "settings", "asked", "expected"),
    [
        ({"CPU": 2.0}, {}, 0, 2),  # a trial takes .25 for itself and .5 for its worker
        ({"CPU": 2.0}, {}, 1, 1),
        ({"CPU": 2.0}, {}, 50, 2),
        ({"CPU": 0.5}, {}, 0, 1),
        ({"CPU": 9.0}, {"num_workers": 2, "cpus_per_worker": 1.0}, 0, 4),
        ({"CPU": 64.0, "GPU": 4.0}, {"use_gpu": True}, 0, 4),
        ({"CPU": 64.0, "GPU": 4.0}, {"use_gpu": True, "num_workers": 2}, 3, 2),
    ],
)
def test_as_many_trials_run_at_once_as_fit_with_their_workers(
    resources: dict[str, float], settings: dict[str, Any], asked: int, expected: int, tmp_path: Path
) -> None:
    config = with_overrides(
        _config(tmp_path, {}, max_concurrent=asked), {f"train.{key}": value for key, value in settings.items()}
    )
    assert tune.concurrent(config, resources) == expected


@pytest.mark.usefixtures("ray_cluster")
def test_optuna_searches_text_and_training_together_first_as_they_are_configured(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        {"train.lr": {"loguniform": [1e-6, 3e-2]}, "pretrain.contrastive_epochs": {"randint": [1, 2]}},
        num_trials=2,
        max_concurrent=2,
    )
    text = {"encoder": "transformer", "dim": 16, "num_layers": 1, "num_heads": 2, "ngram_buckets": 256}
    settings = {**config.model_dump(), "text": text, "pretrain": {"masked_epochs": 0, "contrastive_epochs": 2}}
    config = Config.model_validate(settings)
    tiny_data(config.data_dir)
    search = tune.run(config).search
    assert len(search.trials) == 2
    assert search.count("failed") == 0
    assert len({trial.params["train.lr"] for trial in search.trials}) == 2
    assert all(1e-6 <= trial.params["train.lr"] <= 3e-2 for trial in search.trials)
    assert search.as_configured is not None
    assert search.as_configured.params == {"train.lr": 2e-3, "pretrain.contrastive_epochs": 2}


def test_a_hopeless_trial_is_stopped_after_the_grace_epochs(tmp_path: Path) -> None:
    config = _config(tmp_path, {"train.lr": {"loguniform": [1e-6, 3e-2]}}, num_trials=4, grace_epochs=2)
    config = with_overrides(config, {"train.max_epochs": 9})
    tune_config = tune._tune_config(config, Search("ndcg@10", space(config), own={}), 2)
    scheduler: Any = tune_config.scheduler
    scheduler.set_search_properties(tune_config.metric, tune_config.mode)
    decisions = {}
    for score in (0.4, 0.5, 0.45, 0.1):
        trial = SimpleNamespace(trial_id=f"trial of {score}")
        scheduler.on_trial_add(None, trial)
        reports = [{"epoch": epoch, SCORE: score} for epoch in (1, 2)]
        decisions[score] = [scheduler.on_trial_result(None, trial, report) for report in reports]
    assert decisions[0.5] == ["CONTINUE", "CONTINUE"]
    assert decisions[0.1] == ["CONTINUE", "STOP"]


def test_a_trial_that_ended_between_its_last_checkpoint_and_its_reading_reports_its_score_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = _config(tmp_path, {"train.lr": {"grid": [1e-3]}}), tmp_path / "checkpoint"
    path.mkdir()
    trainer = trainer_for(config, tiny_data(config.data_dir), None)
    trainer.run(lambda one, _: one.save(path))
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(workers, "set_up_torch", lambda _: None)
    monkeypatch.setattr(workers, "resume", lambda restore: restore(path))
    monkeypatch.setattr(workers, "report", lambda figures, _, rank: reports.append({**figures, "rank": rank}))
    trial_worker({"config": config, "trial": "t1", "pretrains": False, "threads": 1})
    assert [(one["epoch"], one[SCORE], one["ended"]) for one in reports] == [(2, trainer.state.best, True)]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on_with_failed_and_finished_trials_recorded_and_its_best_can_be_trained(
    tmp_path: Path,
) -> None:
    config = _config(tmp_path, {"train.lr": {"grid": [-1.0, 1e-6, 3e-2]}}, search="grid", max_concurrent=1)
    tiny_data(config.data_dir)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    process = _search_in_a_process(tmp_path)
    _wait_for(process, "trial train.lr=0.03 2 of 3", times=2)  # begun, and validated once
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # waits, and closes the pipe
    told: list[tuple[str, int, int | None]] = []
    seen: list[str] = []
    summary = tune.run(
        config,
        lambda phase, step, total, **_: told.append((phase, step, total)),
        lambda table: seen.append(_text(table)),
    )

    again = {phase.split(" epoch")[0] for phase, _, _ in told if phase.startswith("trial train.lr=")}
    assert again == {"trial train.lr=0.03"}  # those that ended are not run again
    assert told[-1][1:] == (3, 3)
    rows = pq.read_table(config.reports_dir / "tune" / "trials.parquet").to_pylist()
    assert sorted(row["train.lr"] for row in rows) == [-1.0, 1e-6, 3e-2]
    failed = [row for row in rows if row["state"] == "failed"]
    assert [row["train.lr"] for row in failed] == [-1.0]
    assert NOT_POSITIVE in failed[0]["error"]
    assert {row["state"] for row in rows if row not in failed} <= {"finished", "stopped"}
    assert summary.search.best.params == {"train.lr": 3e-2}
    assert load(config.reports_dir / "tune" / "best.toml").train.lr == 3e-2
    assert (config.reports_dir / "tune" / "report.html").is_file()
    assert not (config.checkpoints_dir / "ray-tune").exists()
    assert NOT_POSITIVE in _text(summary.render())
    assert any("running" in table for table in seen)
    assert any("failed" in table and NOT_POSITIVE in table for table in seen)


_SCRIPT = """
import sys
from pathlib import Path
from pipelines import tune
from pipelines.training import workers
from pipelines.trial import SCORE, trial_worker
from txrec.config import Config

config = Config.model_validate_json((Path(sys.argv[1]) / "config.json").read_text())
tune.run(config, lambda phase, step, total, **_: print(phase, step, "of", total, flush=True))
"""


def _search_in_a_process(root: Path) -> "subprocess.Popen[str]":
    """A search in a process of its own, on the cluster of the tests."""
    import ray

    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(root)],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _wait_for(process: "subprocess.Popen[str]", line: str, times: int) -> None:
    assert process.stdout is not None
    seen = []
    deadline = time.monotonic() + 240
    for output in process.stdout:
        seen.append(output)
        if sum(other.startswith(line) for other in seen) == times:
            return
        assert time.monotonic() < deadline, "".join(seen)
    raise AssertionError(f"the search ended before {line!r}:\n" + "".join(seen))


def _text(renderable: Any) -> str:
    from rich.console import Console

    console = Console(record=True, width=200, file=io.StringIO())
    console.print(renderable)
    return console.export_text()
