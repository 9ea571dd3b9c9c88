"""Ray Train workers: how every stage that trains starts them, and where one that was started again goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from txrec import object_storage, objects
from txrec.config import TrainConfig


def trainer(
    work: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    cfg: TrainConfig,
    folder: Path,
    name: str,
    num_workers: int = 1,
    callbacks: Sequence[UserCallback] = (),
) -> TorchTrainer:
    """A run that has not started, or that of this name that was interrupted.

    Args:
        work: what every worker does; importable, so that it is shipped by name. What it returns reaches the result.
        settings: its argument.
        cfg: what a worker is given, and how often one that was killed is started again.
        folder: for Ray Train's own files.
        name: of the run.
        num_workers: how many train together.
        callbacks: told about reports.
    """
    filesystem, place = storage(folder)
    resources = {"CPU": cfg.cpus_per_worker} | ({"GPU": 1} if cfg.use_gpu else {})
    return TorchTrainer(
        work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=cfg.use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=name,
            storage_path=place,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=cfg.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=list(callbacks),  # type: ignore[arg-type]  # typed for the Ray Train before this one
        ),
    )


def storage(folder: Path) -> tuple[pafs.FileSystem | None, str]:
    """File system and path by which Ray keeps a run's checkpoints; None = the local one."""
    uri = object_storage.uri_of(folder.absolute())
    return (None, str(folder.absolute())) if uri is None else objects.arrow_filesystem(uri)


def resume(restore: Callable[[Path], None]) -> None:
    """In a worker: restores the last checkpoint of its run, if there is one."""
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            restore(Path(folder))
