"""`txrec train`: the history model under Ray Train, then sources, fusion and ranker, then the candidate bundle.

The result is `checkpoints/history/` (the model with the best validation figure, and `training.json`, its learning
curve) and `candidate/`. A killed worker goes on from its last epoch, and so does a run that was interrupted and is
started again with the same settings and data. `checkpoints/tensorboard/` can be watched while it trains, and so can
MLflow if `train.mlflow_uri` names one.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray.train
import ray.train.torch
from rich.table import Table

from pipelines import pretrain
from pipelines.distributed import progress as progress_channel
from pipelines.runs import run_files
from pipelines.runs.bundles import bundle_folder
from pipelines.training import workers
from pipelines.training.records import Records
from pipelines.training.warm_start import NO_START, Start, continues, start_of
from txrec import object_storage
from txrec.config import Config, fingerprint
from txrec.data.prepared import PreparedData
from txrec.errors import StageError, TrainingError
from txrec.index.source_registry import source_names
from txrec.loop.drift import traffic
from txrec.loop.drift.traffic import TrafficProfile
from txrec.model.retrieval import RetrievalModel
from txrec.progress import Progress, silent
from txrec.recommender import bundle
from txrec.recommender.bundle import Bundle
from txrec.storage import replace_folder
from txrec.train import checkpoint
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.loop import EpochReport, Trainer
from txrec.train.retrieval.setup import text_vectors, trainer_for
from txrec.train.warm_start import Lineage, shortened, shortfall

_WORK_FOLDER = "ray-history"  # Ray Train's own files; removed when the bundle is in place


@dataclass(frozen=True)
class TrainSummary:
    """Result of training."""

    history: tuple[EpochReport, ...]
    """Epochs of the history model."""
    decision: bundle.RankerDecision
    """Decision about the ranker, with its reason."""
    num_parameters: int
    """Trained numbers of the history model."""
    lineage: Lineage = field(default_factory=Lineage)
    """Full or warm training of the history model, and why."""

    @property
    def best(self) -> EpochReport:
        """The epoch whose weights were kept."""
        return [report for report in self.history if report.improved][-1]

    def headline(self) -> str:
        """One line: the figures that matter most."""
        kept = "kept" if self.decision.keep else "not kept"
        start = f"; {self.lineage.start} training: {self.lineage.reason}" if self.lineage.reason else ""
        figures = f"{_figures(self.best)} on validation after {self.best.epoch} epochs"
        return f"{figures}{start}; ranker {kept}: {self.decision}"

    def render(self) -> Table:
        """The whole of it, for a terminal."""
        table = Table(
            "epoch", "loss", "validation", "tokens/s", "seconds", box=None, pad_edge=False, header_style="dim"
        )
        for report in self.history:
            mark = " *" if report is self.best else ""
            rate, seconds = f"{report.tokens_per_s:,.0f}", f"{report.seconds:.0f}"
            table.add_row(f"{report.epoch}{mark}", f"{report.loss:.3f}", _figures(report), rate, seconds)
        table.caption = f"* kept; {self.num_parameters:,} parameters. Ranker: {self.decision}"
        return table


def _figures(report: EpochReport) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in report.figures.items()) or "-"


def run(config: Config, progress: Progress = silent) -> TrainSummary:
    """Trains under Ray Train, fits what stands behind the model and writes the candidate bundle.

    Raises:
        StageError: an earlier stage is missing.
        TrainingError: nothing to learn from, the loss is no longer a number, or workers died too often.
        ConfigError: `retrieval.sources` names a source that does not exist; said before anything is trained.
    """
    source_names(config.retrieval)
    data = PreparedData.open(config.data_dir)
    text_dir = text_folder(config)
    work = config.checkpoints_dir.absolute() / _WORK_FOLDER
    trained = _history_from(start_of(config, data), config, data, text_dir, work, progress)
    profile = TrafficProfile.of(data)
    ranking = fit_ranker(config, data, trained.model, text_dir, progress)
    more = {} if profile is None else {traffic.FILE: profile.to_bytes()}
    ranking = replace(ranking, lineage=asdict(trained.lineage), files={**ranking.files, **more})
    bundle.write(config.candidate_dir, config, data, trained.model, text_dir, ranking)
    workers.remove(work)
    num_parameters = sum(p.numel() for p in trained.model.parameters())
    return TrainSummary(trained.reports, ranking.decision, num_parameters, trained.lineage)


class _TrainedHistory(NamedTuple):
    """A trained history model with its learning curve and its lineage."""

    model: RetrievalModel
    reports: tuple[EpochReport, ...]
    lineage: Lineage


def _history_from(
    start: Start, config: Config, data: PreparedData, text_dir: Path | None, work: Path, progress: Progress
) -> _TrainedHistory:
    """The history model trained from a start; in full where a warm start falls short of the last full training."""
    if not continues(text_dir, start):
        pretrain.run_from(start, config, data, progress)
    settings = config if start.earlier is None else shortened(config)
    model, reports = train_history(settings, data, text_dir, work, progress, start)
    best = [report for report in reports if report.improved][-1]
    lineage = start.lineage(best.figures.get(config.train.metric), reports[-1].seconds)
    why = shortfall(config, lineage, lineage.reached) if start.earlier is not None else ""
    if not why:
        return _TrainedHistory(model, reports, lineage)
    full = Start(None, f"a warm start from {start.version} was tried: {why}")
    if text_dir is not None:
        pretrain.run_from(full, config, data, progress)
    return _history_from(full, config, data, text_dir, work, progress)


def text_folder(config: Config) -> Path | None:
    """Folder of the pre-trained text encoder, None where the text encoder is off.

    Raises:
        StageError: it is not there yet.
    """
    if config.text.encoder == "none":
        return None
    folder = config.checkpoints_dir / "text"
    if not (folder / "vectors.safetensors").is_file():
        raise StageError(f"{object_storage.place_of(folder)}: no text encoder here; run `txrec pretrain CONFIG` first")
    return folder


def train_history(
    config: Config,
    data: PreparedData,
    text_dir: Path | None,
    work: Path,
    progress: Progress = silent,
    start: Start = NO_START,
) -> tuple[RetrievalModel, tuple[EpochReport, ...]]:
    """Runs the workers, puts the best model into `checkpoints/history` and returns it with its learning curve."""
    sections = (config.text, config.pretrain, config.model, config.train)
    key = fingerprint(data.meta.fingerprint, *sections, config.seed, start.version)
    settings = {"config": config, "key": key, "start": start.version}
    with progress_channel.channel(progress) as remote_progress:
        settings |= {"progress": remote_progress}
        run = workers.WorkerRun(work, key, config.train.num_workers)
        result = workers.fit(workers.trainer(train_worker, settings, config.train, run), config.train)
    workers.return_value(result)
    if result.checkpoint is None:
        raise TrainingError(f"{work / key}: the workers ended without a checkpoint; run `txrec train CONFIG` again")
    model = RetrievalModel.for_data(config.model, data, text_vectors(text_dir)[0])
    with result.checkpoint.as_directory() as folder:
        best, state = checkpoint.read(Path(folder))
    model.load_state_dict(best)
    history = tuple(EpochReport(**report) for report in state["history"])
    _save(config.checkpoints_dir / "history", model, state["history"])
    return model.eval(), history


def _save(folder: Path, model: RetrievalModel, history: list[dict[str, Any]]) -> None:
    with replace_folder(folder) as fresh:
        model.save(fresh)
        (fresh / "training.json").write_text(json.dumps(history, indent=2), encoding="utf-8")


@workers.returning_errors
def train_worker(settings: dict[str, Any]) -> None:
    """Function of every Ray Train worker; importable, so that it is shipped by name."""
    config: Config = settings["config"]
    workers.set_up_torch(max((os.cpu_count() or 1) // config.train.num_workers, 1))
    run_files.fetch_training_inputs(config)
    device = str(ray.train.torch.get_device()) if config.train.use_gpu else "cpu"
    earlier = Bundle.open(bundle_folder(config, config.train.start_from)) if settings.get("start") else None
    trainer = trainer_for(config, PreparedData.open(config.data_dir), text_folder(config), device, earlier)
    workers.resume(trainer.restore)
    if trainer.finished:  # interrupted between its last epoch and the end of the run
        _report(trainer, {})
    first = trainer.world.rank == 0
    tensorboard = config.checkpoints_dir / "tensorboard" / settings["key"]
    with Records.of(config, tensorboard, settings["key"]) if first else Records([]) as records:
        trainer.run(lambda run, report: _on_epoch(run, report, records), settings["progress"])
    if first:
        object_storage.share(tensorboard)


def _on_epoch(trainer: Trainer, report: EpochReport, records: Records) -> None:
    figures = {"loss": report.loss, "tokens_per_s": report.tokens_per_s, **report.figures}
    records.add(figures, report.epoch)
    _report(trainer, {**figures, "epoch": report.epoch, "seconds": report.seconds})


def _report(trainer: Trainer, figures: dict[str, float]) -> None:
    workers.report(figures, trainer.save, trainer.world.rank)
    trainer.last_checkpoint = (
        f"epoch {trainer.state.epoch} in {ray.train.get_context().get_storage().experiment_fs_path}"
    )
