"""Listwise ranker training on candidate sets with known relevant items.

The loss is listwise over the candidates, which are hard negatives. Where the log has impressions, candidates that were
shown and not chosen count twice: half of the loss is then over the shown candidates alone. The linear scorer is fitted
to its optimum first; the training of the whole ranker starts from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from txrec.arrays import ndcg
from txrec.config import RankerConfig
from txrec.model.ranker import CandidateBatch, Ranker, log_odds
from txrec.progress import Progress, silent
from txrec.train.ranker.loop import (
    Objective,
    TrainedRanker,
    ValidationScore,
    fit_linear,
    learn,
    scores_of,
    sizes,
)


@dataclass(frozen=True, eq=False)
class Examples:
    """n candidate sets with their outcomes."""

    batch: CandidateBatch
    positive: Tensor  # (n, K) bool
    offered: Tensor  # (n, K) bool: right or shown; every candidate where the log has no impressions
    num_right: Tensor  # (n,) right items of each request, retrieved or not
    weight: Tensor | None = None  # (n, K) of right candidates, see `click_weights.ClickWeights`; None = 1
    outcomes: Tensor | None = None  # (n, K, len(OUTCOMES)) bool: right, and put into the cart, bought; None = unknown
    kind: Tensor | None = None  # (n, K) int8 `rare.ItemKind` of every candidate; None = unknown
    num_right_of_kind: Tensor | None = None  # (n, len(ItemKind)) right items of each request, retrieved or not

    def __len__(self) -> int:
        return len(self.positive)

    def select(self, rows: Tensor | slice) -> "Examples":
        """Some of the examples."""
        optional = (self.weight, self.outcomes, self.kind, self.num_right_of_kind)
        chosen = self.positive[rows], self.offered[rows], self.num_right[rows]
        return Examples(self.batch.select(rows), *chosen, *(None if one is None else one[rows] for one in optional))

    @classmethod
    def joined(cls, parts: Sequence["Examples"]) -> "Examples":
        """One set of examples from several."""
        positive, offered = torch.cat([e.positive for e in parts]), torch.cat([e.offered for e in parts])
        weight = None
        if any(e.weight is not None for e in parts):
            weight = torch.cat([torch.ones(e.positive.shape) if e.weight is None else e.weight for e in parts])
        return cls(
            CandidateBatch.joined([e.batch for e in parts]),
            positive,
            offered,
            torch.cat([e.num_right for e in parts]),
            weight,
            _joined([e.outcomes for e in parts]),
            _joined([e.kind for e in parts]),
            _joined([e.num_right_of_kind for e in parts]),
        )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenation of what all parts have; None where one lacks it."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


@dataclass(frozen=True)
class TrainingRun:
    """Settings of one training."""

    num_epochs: int
    """Passes over the examples."""
    seed: int
    """Seed of weights, order and dropout."""
    dropped_columns: Sequence[int] = ()
    """Features derived from trained vectors that the ranker must not read; it then reads no vectors either."""


def train(
    cfg: RankerConfig,
    training: Examples,
    held_out: Examples | None,
    run: TrainingRun,
    progress: Progress = silent,
) -> TrainedRanker:
    """Trains a ranker on listwise softmax cross-entropy.

    Args:
        cfg: its section.
        training: examples; those without a retrieved right item are left out.
        held_out: picks the epoch, early stopping after three without improvement; None = the last epoch is taken.
        run: epochs of the whole ranker, after the linear scorer is fitted alone; seed; dropped features.
        progress: called after every epoch.
    """
    torch.manual_seed(run.seed)
    useful = training.select(torch.nonzero(training.positive.any(1)).ravel())
    if useful.weight is not None:  # a mean of 1 leaves learning rate and prior what they are
        useful = replace(useful, weight=useful.weight / useful.weight[useful.positive].mean())
    ranker = Ranker(cfg, sizes(training.batch), by_vectors=not run.dropped_columns)
    ranker.fit_scaling(useful.batch, run.dropped_columns)
    fit_linear(ranker, useful, _loss)
    objective = Objective(_loss, _validation_score)
    return TrainedRanker(ranker, learn(ranker, useful, held_out, objective, run.num_epochs, progress))


def listwise_loss(scores: Tensor, positive: Tensor, offered: Tensor, weight: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy over each set, with equal weights of its right items unless others are named.

    Half of it is over all candidates, half over those that were offered.
    """
    among_all = torch.log_softmax(scores, dim=-1).masked_fill(~positive, 0.0)
    among_offered = torch.log_softmax(scores.masked_fill(~offered, -torch.inf), dim=-1).masked_fill(~positive, 0.0)
    both = among_all + among_offered if weight is None else (among_all + among_offered) * weight
    loss: Tensor = -(both.sum(1) / (2 * positive.sum(1))).mean()
    return loss


def _loss(scores: Tensor, examples: Examples) -> Tensor:
    return listwise_loss(scores, examples.positive, examples.offered, examples.weight)


def _validation_score(ranker: Ranker, held_out: Examples) -> ValidationScore:
    ndcg = float(ndcg_at_10(scores_of(ranker, held_out.batch), held_out).mean())
    return ValidationScore(ndcg, ndcg)


def ndcg_at_10(scores: Tensor, examples: Examples) -> Tensor:
    """(n,) NDCG@10 of the orders by (n, K) scores; right items that were not retrieved count as missed."""
    top = scores.topk(min(10, scores.shape[1]), dim=1).indices
    return torch.from_numpy(ndcg(examples.positive.gather(1, top).numpy(), examples.num_right.numpy(), 10))


def calibrate(ranker: Ranker, held_out: Examples) -> None:
    """Platt scaling of the candidates' log-odds within their set, on held-out requests (Platt, 1999)."""
    counted = held_out.batch.mask & held_out.offered
    odds = log_odds(scores_of(ranker, held_out.batch))[counted].double()
    outcome = held_out.positive[counted].double()
    ranker.calibrate(odds, outcome)
