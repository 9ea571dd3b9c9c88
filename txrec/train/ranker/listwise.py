"""Listwise ranker training on candidate sets with known relevant items.

The loss is listwise over the candidates, hard negatives all. Where the log has impressions, what was shown and passed
over counts twice: half of the loss is then over the shown candidates alone. The linear reading is fitted to its optimum
first, the whole ranker goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from txrec.arrays import ndcg
from txrec.config import RankerConfig
from txrec.model.ranker import CandidateBatch, Ranker, log_odds
from txrec.progress import Progress, silent
from txrec.train.ranker.loop import ValidationScore, fit_linear, learn, scores_of, sizes


@dataclass(frozen=True, eq=False)
class Examples:
    """n candidate sets with their outcomes."""

    batch: CandidateBatch
    positive: Tensor  # (n, K) bool
    offered: Tensor  # (n, K) bool: right or shown; every candidate where the log does not tell what was shown
    num_right: Tensor  # (n,) right items of each request, retrieved or not

    def __len__(self) -> int:
        return len(self.positive)

    def select(self, rows: Tensor | slice) -> "Examples":
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
    dropped_columns: Sequence[int] = (),
) -> tuple[Ranker, int]:
    """Trains a ranker on listwise softmax cross-entropy.

    Args:
        cfg: its section.
        training: examples; those without a retrieved right item teach nothing and are left out.
        held_out: picks the epoch, early stopping after three without improvement; None = the last epoch is taken.
        num_epochs: passes of the whole ranker over the examples; before them the linear reading is fitted alone.
        seed: of weights, order and dropout.
        progress: told after every epoch.
        dropped_columns: features derived from trained vectors that it must not read; it then reads no vectors either.

    Returns:
        The ranker in inference mode, and the epochs that it was trained for.
    """
    torch.manual_seed(seed)
    useful = training.select(torch.nonzero(training.positive.any(1)).ravel())
    ranker = Ranker(cfg, sizes(training.batch), by_vectors=not dropped_columns)
    ranker.fit_scaling(useful.batch, dropped_columns)
    fit_linear(ranker, useful, _loss)
    return ranker, learn(ranker, useful, held_out, _loss, _validation_score, num_epochs, progress)


def listwise_loss(scores: Tensor, positive: Tensor, offered: Tensor) -> Tensor:
    """Softmax cross-entropy over each set, all of its right items weighing the same.

    Half of it is over all candidates, half over those that the user could choose from.
    """
    among_all = torch.log_softmax(scores, dim=-1).masked_fill(~positive, 0.0)
    among_offered = torch.log_softmax(scores.masked_fill(~offered, -torch.inf), dim=-1).masked_fill(~positive, 0.0)
    loss: Tensor = -((among_all + among_offered).sum(1) / (2 * positive.sum(1))).mean()
    return loss


def _loss(scores: Tensor, given: Examples) -> Tensor:
    return listwise_loss(scores, given.positive, given.offered)


def _validation_score(ranker: Ranker, held_out: Examples) -> ValidationScore:
    ndcg = float(ndcg_at_10(scores_of(ranker, held_out.batch), held_out).mean())
    return ValidationScore(ndcg, ndcg)


def ndcg_at_10(scores: Tensor, given: Examples) -> Tensor:
    """(n,) NDCG@10 of the orders by (n, K) scores; right items that were not retrieved count as missed."""
    top = scores.topk(min(10, scores.shape[1]), dim=1).indices
    return torch.from_numpy(ndcg(given.positive.gather(1, top).numpy(), given.num_right.numpy(), 10))


def calibrate(ranker: Ranker, held_out: Examples) -> None:
    """Platt scaling of the candidates' log-odds within their set, on held-out requests (Platt, 1999)."""
    counted = held_out.batch.mask & held_out.offered
    odds = log_odds(scores_of(ranker, held_out.batch))[counted].double()
    outcome = held_out.positive[counted].double()
    ranker.calibrate(odds, outcome)
