"""Trains a ranker on candidate sets whose right items are known.

The loss is listwise over the candidates, hard negatives all. Where the log has impressions, what was shown and passed
over counts twice: half of the loss is then over the shown candidates alone. The linear reading is fitted to its optimum
first, the whole ranker goes on from there.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.bundle import RankerDecision
from txrec.config import OptimizerConfig, RankerConfig
from txrec.evidence import NUM_REQUEST_FEATURES
from txrec.model.ranker import CandidateBatch, Ranker, RankerSizes, log_odds
from txrec.progress import Progress, silent
from txrec.train.optimizer import adamw, lr_at, set_lr

PRIOR = 20.0
"""Inverse variance of the prior that holds the linear reading to retrieval order, in examples."""
LINEAR_ITERATIONS = 100
"""Of L-BFGS at most."""
PATIENCE = 3
"""Passes without improvement before training stops."""
METRIC = "ndcg@10"


@dataclass(frozen=True, eq=False)
class Examples:
    """n candidate sets with their outcomes."""

    batch: CandidateBatch
    positive: Tensor  # (n, K) bool
    offered: Tensor  # (n, K) bool: right or shown; every candidate where the log does not tell what was shown
    num_right: Tensor  # (n,) right items of each request, retrieved or not

    def __len__(self) -> int:
        return len(self.positive)

    def select(self, rows: Tensor) -> "Examples":
        """Some of the examples."""
        return Examples(self.batch.select(rows), self.positive[rows], self.offered[rows], self.num_right[rows])

    @classmethod
    def joined(cls, given: Sequence["Examples"]) -> "Examples":
        """One set of examples from several."""
        positive, offered = torch.cat([e.positive for e in given]), torch.cat([e.offered for e in given])
        return cls(
            CandidateBatch.joined([e.batch for e in given]), positive, offered, torch.cat([e.num_right for e in given])
        )


def train(
    cfg: RankerConfig,
    training: Examples,
    held_out: Examples | None,
    num_epochs: int,
    seed: int,
    progress: Progress = silent,
    unread: Sequence[int] = (),
) -> tuple[Ranker, int]:
    """Trains a ranker on listwise softmax cross-entropy.

    Args:
        cfg: its section.
        training: examples; those without a retrieved right item teach nothing and are left out.
        held_out: picks the epoch, early stopping after three without improvement; None = the last epoch is taken.
        num_epochs: passes of the whole ranker over the examples; before them the linear reading is fitted alone.
        seed: of weights, order and dropout.
        progress: told after every epoch.
        unread: features, decided by trained vectors, that it shall not read; then it does not read vectors either.

    Returns:
        The ranker in inference mode, and the epochs that it was trained for.
    """
    torch.manual_seed(seed)
    useful = training.select(torch.nonzero(training.positive.any(1)).ravel())
    ranker = Ranker(cfg, sizes(training.batch), by_vectors=not unread)
    ranker.fit_scaling(useful.batch, unread)
    fit_linear(ranker, useful)
    steps = math.ceil(len(useful) / cfg.batch_size)
    optimizer = adamw(ranker.modules(), cfg)
    best, best_epoch, kept = -1.0, num_epochs, copy.deepcopy(ranker.state_dict())
    for epoch in range(num_epochs + 1):
        if epoch:
            rates = _rates(cfg, epoch - 1, cfg.max_epochs, steps)
            progress("training ranker", epoch, num_epochs, loss=_epoch(ranker, useful, optimizer, rates))
        if held_out is None:
            continue
        ndcg = float(ndcg_at_10(scores_of(ranker, held_out.batch), held_out).mean())
        progress("training ranker", epoch, num_epochs, ndcg=ndcg)
        if ndcg > best:
            best, best_epoch, kept = ndcg, epoch, copy.deepcopy(ranker.state_dict())
        elif epoch - best_epoch >= PATIENCE:
            break
    if held_out is not None:
        ranker.load_state_dict(kept)
    return ranker.eval(), best_epoch


def fit_linear(ranker: Ranker, given: Examples) -> None:
    """Fits the linear reading alone, to the optimum: a convex problem, so no seed and no learning rate decide.

    Args:
        ranker: its scaling is fitted, its linear reading still retrieval order.
        given: examples, each with a right item among the candidates.
    """
    scaled, mask = ranker.scaled(given.batch), given.batch.mask
    weights = list(ranker.weights.parameters())
    start = [weight.detach().clone() for weight in weights]
    solver = torch.optim.LBFGS(weights, max_iter=LINEAR_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        scores = ranker.reading(*scaled).masked_fill(~mask, -torch.inf)
        distance = sum(((now - before) ** 2).sum() for now, before in zip(weights, start, strict=True))
        loss = listwise_loss(scores, given.positive, given.offered) + PRIOR / len(given) * distance
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]


def listwise_loss(scores: Tensor, positive: Tensor, offered: Tensor) -> Tensor:
    """Softmax cross-entropy over each set, all of its right items weighing the same.

    Half of it is over all candidates, half over those that the user could choose from.
    """
    among_all = torch.log_softmax(scores, dim=-1).masked_fill(~positive, 0.0)
    among_offered = torch.log_softmax(scores.masked_fill(~offered, -torch.inf), dim=-1).masked_fill(~positive, 0.0)
    loss: Tensor = -((among_all + among_offered).sum(1) / (2 * positive.sum(1))).mean()
    return loss


def ndcg_at_10(scores: Tensor, given: Examples) -> Tensor:
    """(n,) NDCG@10 of the orders by (n, K) scores; right items that were not retrieved count as missed."""
    k = min(10, scores.shape[1])
    discounts = 1 / torch.log2(torch.arange(2, 12, dtype=torch.float64))
    top = scores.topk(k, dim=1).indices
    gains = given.positive.gather(1, top) * discounts[:k]
    ideal = torch.cumsum(discounts, 0)[given.num_right.clamp(1, 10) - 1]
    return gains.sum(1) / ideal


def decide(
    mode: str, ranked: NDArray[np.float64], retrieved: NDArray[np.float64], of: str = "held-out requests"
) -> RankerDecision:
    """Keeps the ranker if its mean (n,) NDCG beats retrieval order's by over one standard error of the gain.

    `ranker.mode = on` keeps it anyway. The reason says how many `of` what were ranked.
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


def calibrate(ranker: Ranker, held_out: Examples) -> None:
    """Platt scaling of the candidates' log-odds within their set, on held-out requests (Platt, 1999)."""
    counted = held_out.batch.mask & held_out.offered
    odds = log_odds(scores_of(ranker, held_out.batch))[counted].double()
    outcome = held_out.positive[counted].double()
    ranker.calibrate(odds, outcome)


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
    """Of a ranker that reads such batches."""
    return RankerSizes(batch.features.shape[2], NUM_REQUEST_FEATURES, batch.items.shape[2], batch.query.shape[1])


def _epoch(ranker: Ranker, given: Examples, optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> float:
    ranker.train()
    total = 0.0
    for rows, rate in zip(torch.split(torch.randperm(len(given)), ranker.cfg.batch_size), rates, strict=True):
        set_lr(optimizer, rate)
        part = given.select(rows)
        loss = listwise_loss(ranker(part.batch), part.positive, part.offered)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), ranker.cfg.clip_norm)
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    ranker.eval()
    return total / len(given)


def _rates(cfg: OptimizerConfig, epoch: int, num_epochs: int, steps: int) -> list[float]:
    """Learning rate of each step of pass number `epoch`, from 0, where `num_epochs` are planned."""
    return [lr_at(cfg, (epoch + step / steps) / num_epochs) for step in range(steps)]
