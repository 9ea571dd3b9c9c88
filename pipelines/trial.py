"""One trial of a hyperparameter search: a small function that trains in workers of its own, as `txrec train` does."""

from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from pipelines.runs import run_files
from pipelines.train import text_folder
from pipelines.training import workers
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.data.prepared import PreparedData
from txrec.train.retrieval.loop import Trainer
from txrec.train.retrieval.setup import trainer_for
from txrec.train.text import pretrain

TRIALS_FOLDER = "ray-tune/trials"
"""Below the checkpoints: files of trials under way."""
SCORE = "score"
"""Key of a trial's report: the best validation figure so far."""


def run_trial(params: dict[str, Any], config: Config, pretrains: bool, threads: int) -> None:
    """One trial; importable, so that it is shipped by name. Its failure is the trial's, not the search's."""
    trial = with_overrides(config, {**params, "train.validate_every": 1})
    number = str(tune.get_context().get_trial_id())
    folder = trial.checkpoints_dir / TRIALS_FOLDER / number
    settings = {"config": trial, "trial": number, "pretrains": pretrains, "threads": threads}
    callbacks = [TuneReportCallback()]  # type: ignore[no-untyped-call]
    run = workers.WorkerRun(folder, "history", trial.train.num_workers, callbacks)
    workers.return_value(workers.fit(workers.trainer(trial_worker, settings, trial.train, run), trial.train))
    workers.remove(folder)


@workers.returning_errors
def trial_worker(settings: dict[str, Any]) -> None:
    """Function of every Ray Train worker of a trial; importable, so that it is shipped by name."""
    config: Config = settings["config"]
    workers.set_up_torch(settings["threads"])
    run_files.fetch_training_inputs(config)
    data = PreparedData.open(config.data_dir)
    folder = config.checkpoints_dir / TRIALS_FOLDER / settings["trial"]
    text = _own_text(config, data, folder / "text") if settings["pretrains"] else text_folder(config)
    device = str(ray.train.torch.get_device()) if config.train.use_gpu else "cpu"
    trainer = trainer_for(config, data, text, device)
    workers.resume(trainer.restore)
    if trainer.finished and trainer.state.history:  # ended between its last checkpoint and the search's reading of it
        _report(trainer)
    trainer.run(lambda one, _: _report(one))


def _own_text(config: Config, data: PreparedData, folder: Path) -> Path | None:
    if config.text.encoder == "none":
        return None
    if not folder.is_dir():
        pretrain.fit(config, data, folder)
    return folder


def _report(trainer: Trainer) -> None:
    """Reports the best validation figure so far to Ray Train, and through it to Ray Tune."""
    last = trainer.state.history[-1]
    figures = {SCORE: trainer.state.best, "epoch": last["epoch"], "loss": last["loss"], "ended": trainer.finished}
    workers.report(figures, trainer.save, trainer.world.rank)
