"""Ranker training loop over candidate sets: linear scorer, epochs, early stopping, decision to keep it."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.model.ranker import NUM_REQUEST_FEATURES, CandidateBatch, Ranker, RankerSizes
from txrec.progress import Progress, silent
from txrec.recommender.bundle import RankerDecision
from txrec.train.optimizer import adamw, lr_at, set_lr

PATIENCE = 3
"""Epochs without improvement before training stops."""
METRIC = "ndcg@10"
PRIOR = 20.0
"""Inverse variance of the prior that holds the linear scorer to retrieval order, in sets."""
LINEAR_ITERATIONS = 100
"""Maximum of L-BFGS."""
LINEAR_TOLERANCE = 1e-5
"""Gain of an iteration, nats, below which L-BFGS ends."""
LINEAR_SETS = 4_096
"""Sets whose loss is computed at once while the linear scorer is fitted."""


class CandidateSets(Protocol):
    """n candidate sets with the outcomes or grades of their candidates."""

    @property
    def batch(self) -> CandidateBatch:
        """Input of the ranker."""

    def __len__(self) -> int:
        """Number of sets."""

    def select(self, rows: Tensor | slice) -> Self:
        """Some of the sets."""


Sets = TypeVar("Sets", bound=CandidateSets)


@dataclass(frozen=True)
class ValidationScore:
    """Quality of a ranker on sets that it was not trained on."""

    value: float
    """Early stopping keeps the epoch with the largest."""
    ndcg: float


class TrainedRanker(NamedTuple):
    """A ranker in inference mode."""

    ranker: Ranker
    num_epochs: int
    """Epochs that it was trained for."""


@dataclass(frozen=True)
class Objective(Generic[Sets]):
    """Loss of a ranker's training, and the score that picks the epoch."""

    loss: Callable[[Tensor, Sets], Tensor]
    """Mean over n sets of the loss of their (n, K) scores."""
    validation_score: Callable[[Ranker, Sets], ValidationScore]
    """Score of a ranker in inference mode on the deciding sets."""


def fit_linear(ranker: Ranker, training: Sets, loss: Callable[[Tensor, Sets], Tensor]) -> None:
    """Fits the linear scorer alone, to the optimum: a convex problem, so neither seed nor learning rate matter.

    Grades have a level, which a linear function of scaled features lacks: an intercept is fitted with the weights, and
    left to calibration afterwards.

    Args:
        ranker: with fitted scaling, its linear scorer still retrieval order.
        training: sets to learn from.
        loss: the mean over n sets of a convex function of their (n, K) scores.
    """
    starts = range(0, len(training), LINEAR_SETS)
    parts = [training.select(slice(start, start + LINEAR_SETS)) for start in starts]  # views: nothing is copied
    scaled = [(part, *ranker.scaled(part.batch)) for part in parts]
    weights = list(ranker.weights.parameters())
    start = [weight.detach().clone() for weight in weights]
    level = [torch.zeros((), requires_grad=True)] if ranker.graded else []
    solver = torch.optim.LBFGS(
        [*weights, *level],
        max_iter=LINEAR_ITERATIONS,
        tolerance_change=LINEAR_TOLERANCE,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        distance = sum(((now - before) ** 2).sum() for now, before in zip(weights, start, strict=True))
        total = torch.as_tensor(PRIOR / len(training) * distance)
        total.backward()  # type: ignore[no-untyped-call]
        for part, features, request in scaled:
            scores = ranker.linear_scores(features, request) + sum(level)
            part_loss = loss(scores.masked_fill(~part.batch.mask, -torch.inf), part) * (len(part) / len(training))
            part_loss.backward()  # type: ignore[no-untyped-call]
            total = total + part_loss
        return total.detach()

    solver.step(closure)  # type: ignore[no-untyped-call]


def learn(
    ranker: Ranker,
    training: Sets,
    deciding: Sets | None,
    objective: Objective[Sets],
    num_epochs: int,
    progress: Progress = silent,
) -> int:
    """Trains a ranker by AdamW, which is in inference mode afterwards.

    Args:
        ranker: its scaling is fitted.
        training: sets to learn from.
        deciding: sets that pick the epoch, with early stopping; None = the last epoch is taken.
        objective: loss and validation score.
        num_epochs: passes over the sets.
        progress: called after every epoch.

    Returns:
        The epochs that the ranker was trained for; 0 = it is unchanged.
    """
    cfg = ranker.cfg
    optimizer, steps = adamw(ranker.modules(), cfg), math.ceil(len(training) / cfg.batch_size)
    best, best_epoch, kept = -math.inf, num_epochs, copy.deepcopy(ranker.state_dict())
    for epoch in range(num_epochs + 1):
        figures: dict[str, float] = {}
        if epoch:
            rates = [lr_at(cfg, (epoch - 1 + step / steps) / cfg.max_epochs) for step in range(steps)]
            figures["loss"] = _epoch(ranker, training, objective.loss, optimizer, rates)
        if deciding is not None:
            now = objective.validation_score(ranker.eval(), deciding)
            figures["ndcg"] = now.ndcg
            if now.value > best:
                best, best_epoch, kept = now.value, epoch, copy.deepcopy(ranker.state_dict())
        if figures:
            progress("training ranker", epoch, num_epochs, **figures)
        if deciding is not None and epoch - best_epoch >= PATIENCE:
            break
    if deciding is not None:
        ranker.load_state_dict(kept)
    ranker.eval()
    return best_epoch


def decide(
    mode: str, ranked: NDArray[np.float64], retrieved: NDArray[np.float64], of: str = "held-out requests"
) -> RankerDecision:
    """Keeps the ranker if its mean (n,) NDCG beats retrieval order's by over one standard error of the gain.

    `ranker.mode = on` keeps it anyway. The reason names the number of requests and their kind, `of`.
    """
    gain, count = ranked - retrieved, len(ranked)
    error = float(gain.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    better = bool(gain.mean() > error)
    keep = mode == "on" or better
    reason = (
        f"{'keep' if keep else 'leave out'} the ranker: {METRIC} {ranked.mean():.4f}"
        f" {'>' if better else '<='} {retrieved.mean():.4f} + {error:.4f}"
        f" (retrieval order + one standard error, {count} {of}{', ranker.mode = on' * (mode == 'on')})"
    )
    return RankerDecision(keep, METRIC, float(ranked.mean()), float(retrieved.mean()), count, reason)


@torch.no_grad()
def scores_of(ranker: Ranker, batch: CandidateBatch) -> Tensor:
    """(n, K) scores of n candidate sets, without dropout."""
    ranker.eval()
    return torch.cat([ranker(batch.select(rows)) for rows in torch.split(torch.arange(len(batch)), 256)])


def in_order(batch: CandidateBatch) -> Tensor:
    """(n, K) scores that keep retrieval order."""
    count = batch.mask.shape[1]
    return (-torch.arange(count).float()).expand_as(batch.mask).masked_fill(~batch.mask, -torch.inf)


def sizes(batch: CandidateBatch) -> RankerSizes:
    """Sizes of a ranker for such batches."""
    return RankerSizes(batch.features.shape[2], NUM_REQUEST_FEATURES, batch.items.shape[2], batch.query.shape[1])


def _epoch(
    ranker: Ranker,
    training: Sets,
    loss: Callable[[Tensor, Sets], Tensor],
    optimizer: torch.optim.Optimizer,
    rates: list[float],
) -> float:
    """One epoch; the mean loss of its sets."""
    ranker.train()
    total = 0.0
    for rows, rate in zip(torch.split(torch.randperm(len(training)), ranker.cfg.batch_size), rates, strict=True):
        set_lr(optimizer, rate)
        part = training.select(rows)
        part_loss = loss(ranker(part.batch), part)
        optimizer.zero_grad()
        part_loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), ranker.cfg.clip_norm)
        optimizer.step()
        total += float(part_loss.detach()) * len(rows)
    return total / len(training)
