"""`txrec pretrain`: the text encoder, pre-trained and fine-tuned on the shop's own text in a Ray Train worker.

The result is `checkpoints/text/`: the encoder and the vectors of all products and queries. A killed
worker is started again from its last checkpoint, and so is a run that was interrupted and is started again with
the same settings and data.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from rich.table import Table

from pipelines.distributed import progress as progress_channel
from pipelines.runs import run_files
from pipelines.runs.bundles import bundle_folder
from pipelines.training import workers
from pipelines.training.warm_start import Start, mark, start_of
from txrec.config import Config, fingerprint
from txrec.data.prepared import PreparedData
from txrec.errors import TxrecError
from txrec.evals import text_quality
from txrec.evals.text_quality import TextQuality
from txrec.model.text_encoder import load_vectors
from txrec.progress import Progress, silent
from txrec.schema import Split
from txrec.storage import replace_folder
from txrec.train.text import pretrain
from txrec.train.text.corpus import Corpus
from txrec.train.text.pretrain import Pretrainer
from txrec.train.warm_start import shortened

_WORK_FOLDER = "ray-pretrain"  # Ray Train's own files; removed when the result is in place
_RESULT_FOLDER = "text"  # inside the last checkpoint


@dataclass(frozen=True)
class PretrainSummary:
    """Result of pre-training."""

    skipped: str | None = None
    """Reason of skipped pre-training; None where it ran."""
    num_products: int = 0
    """Products whose text was learned from."""
    num_queries: int = 0
    """Training queries learned from."""
    num_pairs: int = 0
    """Distinct pairs of a query or product and a product learned from."""
    losses: tuple[tuple[str, float], ...] = ()
    """(phase, running mean of its loss at the end), nats."""
    seconds: float = 0.0
    """Seconds from the start of the worker to the last vector, this run only."""
    validation: TextQuality | None = None
    """Text alone on the validation clicks."""
    validation_unseen: TextQuality | None = None
    """The same for queries that training never saw."""

    def headline(self) -> str:
        """One line: the figures that matter most."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        texts = f"{self.num_products:,} products, {self.num_queries:,} queries, {self.num_pairs:,} pairs"
        if self.validation is None or not self.validation.num_clicks:
            return texts
        return f"{texts}; validation MRR by text alone {self.validation.mrr:.3f}"

    def render(self) -> Table:
        """The whole of it, for a terminal."""
        table = Table("text pre-training", "", box=None, pad_edge=False, header_style="dim")
        if self.skipped:
            table.add_row("skipped", self.skipped)
            return table
        for phase, loss in self.losses:
            table.add_row(f"loss, {phase}", f"{loss:.3f}")
        for name, quality in (("all clicks", self.validation), ("unseen queries", self.validation_unseen)):
            if quality is not None and quality.num_clicks:
                figures = f"MRR {quality.mrr:.4f}  NDCG@10 {quality.ndcg_at_10:.4f}  ({quality.num_clicks:,} clicks)"
                table.add_row(f"validation by text alone, {name}", figures)
        return table


def run(config: Config, progress: Progress = silent) -> PretrainSummary:
    """Pre-trains under Ray Train and puts the result into `checkpoints/text`.

    Raises:
        TrainingError: there is no text to learn from, the loss is not a number, or the worker died too often.
    """
    if config.text.encoder == "none":
        return PretrainSummary(skipped='text.encoder = "none"')
    data = PreparedData.open(config.data_dir)
    return run_from(start_of(config, data), config, data, progress)


def run_from(start: Start, config: Config, data: PreparedData, progress: Progress = silent) -> PretrainSummary:
    """Pre-trains from a given start.

    Raises:
        TrainingError: there is no text to learn from, or the loss is not a number.
    """
    if start.earlier is not None:
        config = shortened(config)
    started = time.monotonic()
    texts = Corpus.of(data, config.pretrain)
    pretrain.start_of(config, data, texts, _encoder_in(start))  # says here what is wrong
    losses = _train(start, config, data, progress)
    scores = text_quality.cosines(*(vectors[1:] for vectors in load_vectors(config.checkpoints_dir / "text")))
    return PretrainSummary(
        num_products=len(texts.products),
        num_queries=len(texts.queries),
        num_pairs=len(texts.pairs),
        losses=tuple(losses.items()),
        seconds=time.monotonic() - started,
        validation=text_quality.quality(scores, data, Split.VALIDATION),
        validation_unseen=text_quality.quality(scores, data, Split.VALIDATION, unseen=True),
    )


def _encoder_in(start: Start) -> Path | None:
    return None if start.earlier is None else start.earlier.path / "text"


def _train(start: Start, config: Config, data: PreparedData, progress: Progress) -> dict[str, float]:
    """Runs the worker and moves its result into place; returns the phases' losses."""
    work = config.checkpoints_dir.absolute() / _WORK_FOLDER
    key = fingerprint(data.meta.fingerprint, config.text, config.pretrain, config.seed, start.version)
    with progress_channel.channel(progress) as remote_progress:
        settings = {"config": config, "progress": remote_progress, "start": start.version}
        run = workers.trainer(train_worker, settings, config.train, workers.WorkerRun(work, key))
        result = workers.fit(run, config.train)
    try:
        losses: dict[str, float] = workers.return_value(result)
    except TxrecError:
        workers.remove(work)  # the next run, with other settings or mended data, is to start anew
        raise
    with result.checkpoint.as_directory() as folder, replace_folder(config.checkpoints_dir / "text") as fresh:
        shutil.copytree(Path(folder) / _RESULT_FOLDER, fresh, dirs_exist_ok=True)
        mark(fresh, start)
    workers.remove(work)
    return losses


@workers.returning_errors
def train_worker(settings: dict[str, Any]) -> dict[str, float]:
    """Function of the Ray Train worker; importable, so that it is shipped by name.

    Returns:
        Loss per phase.
    """
    workers.set_up_torch(os.cpu_count() or 1)
    config: Config = settings["config"]
    run_files.fetch_training_inputs(config)
    return _train_here(config, PreparedData.open(config.data_dir), settings)


def _train_here(config: Config, data: PreparedData, settings: dict[str, Any]) -> dict[str, float]:
    texts, progress = Corpus.of(data, config.pretrain), settings["progress"]
    earlier = bundle_folder(config, config.train.start_from) / "text" if settings.get("start") else None
    encoder = pretrain.start_of(config, data, texts, earlier)
    encoder.to(ray.train.torch.get_device())
    trainer = Pretrainer(encoder, texts, config.pretrain, config.seed)
    workers.resume(trainer.restore)
    trainer.run(progress, lambda: _report(trainer, None))
    progress("encoding texts", 0, data.meta.num_items + data.meta.num_queries)
    _report(trainer, data)
    return trainer.losses


def _report(trainer: Pretrainer, finished: PreparedData | None) -> None:
    """Hands a checkpoint to Ray Train; the last one carries the result, encoder and vectors of the finished data."""

    def save(folder: Path) -> None:
        trainer.save(folder)
        if finished is not None:
            pretrain.write(trainer.encoder, finished, folder / _RESULT_FOLDER)

    workers.report({"phase": trainer.phase, "step": trainer.step}, save)
