"""The training loop: plain torch, one process or one of several.

Everything random at a step follows from (seed, step, rank), so a run that was interrupted after any epoch and resumed
from its checkpoint ends with the same bits as one that was not. Losses are summed and divided by the number of targets
of the whole step, over all workers, so that two workers equal one with the double batch.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from txrec.batch import Batch
from txrec.config import TrainConfig
from txrec.errors import TrainingError
from txrec.evals.protocol import Cases
from txrec.progress import Progress, silent
from txrec.train import checkpoint, optimizer, validation
from txrec.train.examples import Examples
from txrec.train.objective import NextItem


@dataclass(frozen=True)
class World:
    """The processes that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        """As torch.distributed says; one process where it is not initialised."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return tensor
        shared = tensor.cuda() if dist.get_backend() == "nccl" else tensor
        dist.all_reduce(shared)
        return shared.to(tensor.device)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """Epochs done."""
    loss: float
    """Mean training loss, nats a target."""
    figures: dict[str, float]
    """Validation figures; empty if this epoch was not validated."""
    tokens_per_s: float
    """Positions trained on a second, validation not counted."""
    seconds: float
    """Since the beginning of training, validation and earlier runs included."""
    improved: bool
    """Best validation so far."""


@dataclass
class TrainState:
    """How far training is; everything that a checkpoint holds beside weights and moments."""

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
        examples: Examples,
        cases: Cases,
        cfg: TrainConfig,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.world = World.current()
        self.objective = objective.to(device)
        self.module: nn.Module = objective
        if self.world.size > 1:
            # which parts a batch uses differs: one without a query leaves the query encoder out
            self.module = nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)
        self.examples = examples
        self.cases = cases.select(np.arange(self.world.rank, len(cases), self.world.size))
        self.cfg = cfg
        self.seed = seed
        self.device = torch.device(device)
        self.optimizer = optimizer.adamw(objective.modules(), cfg)
        self.state = TrainState()
        self.best_weights = copy.deepcopy(objective.model.state_dict())
        self.last_checkpoint = "none yet"

    @property
    def finished(self) -> bool:
        """Nothing is left to train."""
        return self.state.epoch >= self.cfg.max_epochs or self.state.stale >= self.cfg.patience

    def run(self, on_epoch: Callable[["Trainer", EpochReport], None], progress: Progress = silent) -> None:
        """Trains from where the state stands to the end; afterwards the model holds the best weights.

        Args:
            on_epoch: called after every epoch in every process; the place for checkpoints and records.
            progress: told about steps.

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
        """Writes a checkpoint that `restore` takes up."""
        checkpoint.save(path, self.objective.model, self.best_weights, self.optimizer, vars(self.state))
        self.last_checkpoint = f"epoch {self.state.epoch} in {path}"

    def restore(self, path: Path) -> None:
        """Takes up the state that `save` wrote."""
        self.best_weights, state = checkpoint.restore(path, self.objective.model, self.optimizer)
        self.state = TrainState(**state)
        self.last_checkpoint = f"epoch {self.state.epoch} in {path}"

    def _epoch(self, progress: Progress) -> tuple[float, float]:
        self.module.train()
        batches = self.examples.batches(self.seed, self.state.epoch, self.world.size)
        total = torch.zeros(3, dtype=torch.float64)  # loss, targets, tokens
        started = time.monotonic()
        for place, (starts, ends) in enumerate(batches):
            mine = slice(self.world.rank, None, self.world.size)
            batch = self.examples.batch(starts[mine], ends[mine])
            last = (place + 1) % self.cfg.accumulate == 0 or place + 1 == len(batches)
            total += self._step(batch, place / len(batches), last)
            loss, targets, tokens = total.tolist()
            rate = tokens * self.world.size / (time.monotonic() - started)
            step = self.state.epoch * len(batches) + place + 1
            progress(
                "training",
                step,
                self.cfg.max_epochs * len(batches),
                loss=loss / max(targets, 1),
                tokens_per_s=rate,
                ndcg=max(self.state.best, 0),
            )
        seconds = time.monotonic() - started
        loss, targets, tokens = self.world.sum(total).tolist()
        return loss / max(targets, 1), tokens / seconds

    def _step(self, batch: Batch, epoch_frac: float, last_of_accumulation: bool) -> Tensor:
        torch.manual_seed(hash((self.seed, self.state.step, self.world.rank)))
        batch = batch.to(self.device)
        mine = (batch.target != 0).sum()
        targets = self.world.sum(mine.clone())
        loss = self.module(batch)
        (loss * (self.world.size / targets / self.cfg.accumulate)).backward()
        if last_of_accumulation:
            self._update((self.state.epoch + epoch_frac) / self.cfg.max_epochs)
        self.state.step += 1
        return torch.stack([loss.detach(), mine, batch.length.sum()]).double().cpu()

    def _update(self, done_frac: float) -> None:
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), self.cfg.clip_norm)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"step {self.state.step}: the gradient's norm is {norm.item()}; "
                f"last good checkpoint: {self.last_checkpoint}; "
                f"lower train.lr (now {self.cfg.lr}) or raise model.temperature, then run again to resume"
            )
        optimizer.set_lr(self.optimizer, optimizer.lr_at(self.cfg, done_frac))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _validate(self, progress: Progress) -> tuple[dict[str, float], bool]:
        if self.state.epoch % self.cfg.validate_every and not self.state.epoch >= self.cfg.max_epochs:
            return {}, False
        progress("validating", self.state.epoch, self.cfg.max_epochs)
        totals = self.world.sum(validation.measure(self.objective.model, self.cases, self.examples.query_vectors))
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
        self.best_weights = copy.deepcopy(self.objective.model.state_dict())
