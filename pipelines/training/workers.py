"""Ray Train workers of all training stages: start, resumption, reports with checkpoints, errors."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pyarrow.fs as pafs
import ray.train
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchTrainer

from pipelines.training.ray_compat import TrainerWithoutDatasets
from txrec import object_storage, objects
from txrec.config import TrainConfig
from txrec.errors import TrainingError, TxrecError

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerRun:
    """A run of Ray Train workers."""

    folder: Path
    """Ray Train's own files."""
    name: str
    """Name of the run; an interrupted one is continued under its name."""
    num_workers: int = 1
    """Workers that train together."""
    callbacks: Sequence[UserCallback] = ()
    """Called with every report."""


def set_up_torch(threads: int) -> None:
    """Threads and arithmetic of torch in a process that does nothing but train.

    Denormal numbers, which optimizers' moments decay into, count as zero: arithmetic on them is up to a hundred times
    slower. The processor's mode is the whole thread's, so other work in the same process would compute with it too.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def trainer(
    work: Callable[[dict[str, Any]], Any], settings: dict[str, Any], cfg: TrainConfig, run: WorkerRun
) -> TorchTrainer:
    """Ray Train's trainer of a run, not started.

    Args:
        work: function of every worker; importable, so that it is shipped by name. Its value reaches the result.
        settings: its argument.
        cfg: resources of a worker, and how often one that was killed is started again.
        run: folder, name and size of the run.
    """
    filesystem, place = storage(run.folder)
    resources = {"CPU": cfg.cpus_per_worker} | ({"GPU": 1} if cfg.use_gpu else {})
    return TrainerWithoutDatasets(
        work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=run.num_workers, use_gpu=cfg.use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=run.name,
            storage_path=place,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=cfg.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=list(run.callbacks),  # type: ignore[arg-type]  # typed for the Ray Train before this one
        ),
    )


def fit(trainer: TorchTrainer, cfg: TrainConfig) -> Any:
    """Ray Train's result of a run.

    Raises:
        TrainingError: its workers died more often than they may.
    """
    try:
        return trainer.fit()
    except TrainingFailedError as error:
        reason = (str(error).strip().splitlines() or ["no reason"])[-1][:300]
        raise TrainingError(
            f"the worker died {cfg.max_failures + 1} times; run again to go on from its last checkpoint, or raise"
            f" train.max_failures; the last time: {reason}"
        ) from error


def storage(folder: Path) -> tuple[pafs.FileSystem | None, str]:
    """File system and path by which Ray keeps a run's checkpoints; None = the local one."""
    uri = object_storage.uri_of(folder.absolute())
    return (None, str(folder.absolute())) if uri is None else objects.arrow_filesystem(uri)


def remove(folder: Path) -> None:
    """Removes Ray's files of a run, with the empty objects that Arrow keeps for folders in object storage."""
    object_storage.remove(folder)
    filesystem, place = storage(folder)
    if filesystem is not None:
        with suppress(FileNotFoundError):
            filesystem.delete_dir(place)


def resume(restore: Callable[[Path], None]) -> None:
    """Restores the last checkpoint of a worker's run, if there is one."""
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            restore(Path(folder))


def report(figures: Mapping[str, Any], save: Callable[[Path], None], rank: int = 0) -> None:
    """Reports a worker's figures to Ray Train with a checkpoint; all workers make it, the first one hands it in.

    Args:
        figures: of the report.
        save: writes the checkpoint into a folder.
        rank: of the worker.
    """
    with TemporaryDirectory() as folder:
        save(Path(folder))
        ray.train.report(dict(figures), checkpoint=Checkpoint.from_directory(folder) if rank == 0 else None)


def returning_errors(work: Callable[[dict[str, Any]], T]) -> Callable[[dict[str, Any]], T | TxrecError]:
    """Decorator of a worker's function: an error that starting again would not mend is returned, not raised."""

    @wraps(work)
    def returning(settings: dict[str, Any]) -> T | TxrecError:
        try:
            return work(settings)
        except TxrecError as error:
            return error

    return returning


def return_value(result: Any) -> Any:
    """Value that the first worker of a finished run returned.

    Raises:
        TxrecError: the worker returned it.
    """
    if isinstance(result.return_value, TxrecError):
        raise result.return_value
    return result.return_value
