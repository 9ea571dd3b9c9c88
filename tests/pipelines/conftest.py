"""Credentials that the S3 server of the tests takes; Ray's workers see what is set before the cluster starts."""

import os
import pickle
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.applications import deployed

os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.fixture(scope="module", autouse=True)
def _no_application() -> None:
    """Stops an application that other tests of this process left: its replicas reserve processors."""
    deployed.stop()


@pytest.fixture
def workers_in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs the function of a training's only worker in this process.

    For tests of what stands around the training: Ray Train starts five processes for each, and has tests of its own.
    """
    import ray.train.torch
    import torch

    kept: list[ray.train.Checkpoint] = []
    numbers = count()

    def report(figures: Mapping[str, Any], checkpoint: ray.train.Checkpoint) -> None:
        folder = shutil.copytree(checkpoint.path, tmp_path / "reported" / str(next(numbers)))
        kept.append(ray.train.Checkpoint.from_directory(folder))

    def fit(trainer: Any, _: object) -> object:
        try:
            value = trainer.train_loop_per_worker(trainer.train_loop_config)
        except Exception as error:
            raise AssertionError("Ray Train would start a worker again that raises an error") from error
        shipped = pickle.loads(pickle.dumps(value))  # as from another process
        return SimpleNamespace(return_value=shipped, checkpoint=kept.pop() if kept else None)

    context = SimpleNamespace(get_storage=lambda: SimpleNamespace(experiment_fs_path=str(tmp_path / "reported")))
    monkeypatch.setattr("pipelines.training.workers.set_up_torch", lambda _: None)  # other tests run beside this one
    monkeypatch.setattr("pipelines.training.workers.fit", fit)
    monkeypatch.setattr("pipelines.distributed.progress.channel", nullcontext)
    monkeypatch.setattr(ray.train, "report", report)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
