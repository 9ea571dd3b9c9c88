"""Retrieval training loop in plain torch, for one process or one of several workers.

Everything random at a step follows from (seed, step, rank), so a run that was interrupted after any epoch and resumed
from its checkpoint ends with the same bits as one that was not. Losses are summed and divided by the number of targets
of the whole step, over all workers, so that two workers that share its sequences equal one. On an accelerator figures
are read back now and then only, so that it never waits for the loop; a single GPU replays recorded steps.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from txrec.config import TrainConfig
from txrec.errors import TrainingError
from txrec.evals.protocol import EvalRequests
from txrec.model.batch import Batch
from txrec.progress import Progress, silent
from txrec.train import checkpoint
from txrec.train.distributed import DistributedContext
from txrec.train.retrieval import validation
from txrec.train.retrieval.examples import Step
from txrec.train.retrieval.next_item_objective import NextItem
from txrec.train.retrieval.train_step import TrainStep

ACCELERATOR_READ_STEPS = 32
"""Steps between two readings of loss and gradient norm on an accelerator; a CPU is read at every step."""


class Source(Protocol):
    """Source of training steps: examples in memory, or those that stream."""

    @property
    def query_vectors(self) -> Tensor | None:
        """Table of query vectors that the batches index."""

    def steps(self, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> Iterator[Step]:
        """The steps of one worker in an epoch."""


@dataclass(frozen=True)
class EpochReport:
    """Result of one epoch."""

    epoch: int
    """Epochs done."""
    loss: float
    """Mean training loss, nats per target."""
    figures: dict[str, float]
    """Validation figures; empty if this epoch was not validated."""
    tokens_per_s: float
    """Positions trained on per second, validation not counted."""
    seconds: float
    """Seconds since the beginning of training, validation and earlier runs included."""
    improved: bool
    """Best validation so far."""


@dataclass
class TrainState:
    """Progress of training; everything that a checkpoint holds next to weights and moments."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    stale: int = 0
    seconds: float = 0.0
    history: list[dict[str, object]] = field(default_factory=list)


class Trainer:
    """Trains an objective on examples until the epochs are done or validation no longer improves."""

    def __init__(
        self,
        objective: NextItem,
        examples: Source,
        cases: EvalRequests,
        cfg: TrainConfig,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.world = DistributedContext.current()
        self.device = torch.device(device)
        self.train_step = TrainStep(objective, cfg, seed, self.world, self.device)
        self.objective = objective
        self.examples = examples
        self.cases = cases.select(np.arange(self.world.rank, len(cases), self.world.size))
        self.most_cases = -(-len(cases) // self.world.size)
        self.cfg = cfg
        self.state = TrainState()
        self._keep_best()
        self.last_checkpoint = "none yet"

    @property
    def finished(self) -> bool:
        """True where nothing is left to train."""
        return self.state.epoch >= self.cfg.max_epochs or self.state.stale >= self.cfg.patience

    def run(self, on_epoch: Callable[["Trainer", EpochReport], None], progress: Progress = silent) -> None:
        """Trains from where the state stands to the end; afterwards the model holds the best weights.

        Args:
            on_epoch: called after every epoch in every process; the place for checkpoints and records.
            progress: called after steps.

        Raises:
            TrainingError: the loss is no longer a number; names the step and the last good checkpoint.
        """
        while not self.finished:
            started = time.monotonic()
            loss, tokens_per_s = self._epoch(progress)
            self.state.epoch += 1
            figures, improved = self._validate(progress)
            self.state.seconds += time.monotonic() - started
            report = EpochReport(self.state.epoch, loss, figures, tokens_per_s, self.state.seconds, improved)
            self.state.history.append(asdict(report))
            on_epoch(self, report)
        self.objective.model.load_state_dict(self.best_weights)
        self.objective.model.eval()

    def save(self, path: Path) -> None:
        """Writes a checkpoint that `restore` takes up with any number of processes; each calls this, one writes."""
        model, best = self.objective.model.state_dict(), self.best_weights
        content = {
            "model": model,
            "best": best,
            "optimizer": self.train_step.optimizer.state_dict(),
            "state": vars(self.state),
        }
        table = self.train_step.table
        if table is not None:
            content |= {"model": table.whole(model), "best": table.whole(best), "table": table.moments()}
        if self.world.rank == 0:
            checkpoint.write(path, content)
        self.last_checkpoint = f"epoch {self.state.epoch} in {path}"

    def restore(self, path: Path) -> None:
        """Takes up the state that `save` wrote."""
        content = checkpoint.load(path)
        table = self.train_step.table
        if table is not None:
            content |= {name: table.part(content[name]) for name in ("model", "best")}
            table.load_moments(content.get("table", {}))
        checkpoint.take(path, content, self.objective.model, self.train_step.optimizer)
        self.best_weights, self.state = content["best"], TrainState(**content["state"])
        self.last_checkpoint = f"epoch {self.state.epoch} in {path}"

    def _epoch(self, progress: Progress) -> tuple[float, float]:
        self.train_step.module.train()
        total = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, targets, tokens
        started = time.monotonic()
        for step in self.examples.steps(self.train_step.seed, self.state.epoch, self.world.rank, self.world.size):
            update = (step.place + 1) % self.cfg.accumulate == 0 or step.last
            total += self.step(step.batch, step.place / step.of, update)
            if step.last or self.device.type == "cpu" or self.state.step % ACCELERATOR_READ_STEPS == 0:
                self._read(step, total, time.monotonic() - started, progress)
        seconds = time.monotonic() - started
        loss, targets, tokens = self.world.sum(total).tolist()
        return loss / max(targets, 1), tokens / seconds

    def step(self, batch: Batch, epoch_frac: float, update: bool) -> Tensor:
        """Forward and backward for one batch, and the optimisers' step.

        Args:
            batch: of this process.
            epoch_frac: share of the epoch done before it.
            update: False while gradients are accumulated.

        Returns:
            (3,) sum of the losses, number of targets, number of tokens.
        """
        done_frac = (self.state.epoch + epoch_frac) / self.cfg.max_epochs
        result = self.train_step(batch, self.state.step, done_frac, update)
        self.state.step += 1
        return result

    def _read(self, step: Step, total: Tensor, seconds: float, progress: Progress) -> None:
        broken = self.train_step.broken()
        if broken is not None:
            raise TrainingError(
                f"step {broken.step}: the gradient's norm is {broken.norm}; "
                f"last good checkpoint: {self.last_checkpoint}; "
                f"lower train.lr (now {self.cfg.lr}) or raise model.temperature, then run again to resume"
            )
        loss, targets, tokens = total.tolist()
        progress(
            "training",
            self.state.epoch * step.of + step.place + 1,
            self.cfg.max_epochs * step.of,
            loss=loss / max(targets, 1),
            tokens_per_s=tokens * self.world.size / seconds,
            ndcg=max(self.state.best, 0),
        )

    def _validate(self, progress: Progress) -> tuple[dict[str, float], bool]:
        if self.state.epoch % self.cfg.validate_every and not self.state.epoch >= self.cfg.max_epochs:
            return {}, False
        progress("validating", self.state.epoch, self.cfg.max_epochs)
        model, vectors = self.objective.model, self.examples.query_vectors
        with torch.compiler.set_stance("force_eager"):  # compiling for other shapes takes longer than it saves
            totals = self.world.sum(validation.measure(model, self.cases, vectors, least_cases=self.most_cases))
        figures = validation.figures(totals)
        if totals[2] == 0:  # nothing to validate on: the latest weights are the best known
            self._keep_best()
            return {}, True
        score = figures[self.cfg.metric]
        improved = score > self.state.best
        self.state.stale = 0 if improved else self.state.stale + 1
        if improved:
            self.state.best = score
            self._keep_best()
        return figures, improved

    def _keep_best(self) -> None:
        model = self.objective.model
        fixed = {name for name, _ in model.named_buffers()}  # the catalogue's features: large, and never another
        state = model.state_dict()
        self.best_weights = {name: value if name in fixed else value.clone() for name, value in state.items()}
