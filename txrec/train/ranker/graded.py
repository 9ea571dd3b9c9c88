"""Ranker training on graded relevance judgments, for data without an event log.

A query's judged products are one candidate set. Two losses are added: pairwise, which orders a set, and pointwise, the
cross-entropy of each product's grade as a share, which makes scores of different queries comparable. The linear scorer
is fitted to its optimum first; the training of the whole ranker starts from there.

The text encoder was fine-tuned on the training judgments: its cosines there are too good, and a ranker that learned
from them would trust the cosine alone. So the ranker learns from validation judgments. A part of their queries chooses
the epoch, decides whether the ranker is kept and calibrates it; then it is trained again on all of them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from txrec.config import RankerConfig
from txrec.data.judgments import Judgments
from txrec.data.prepared import PreparedData
from txrec.evals.judged import by_query, graded_ndcg, judged_requests
from txrec.model.ranker import CandidateBatch, Ranker
from txrec.progress import Progress, silent
from txrec.recommender.bundle import RankerDecision
from txrec.recommender.ranking.ranking import batch as candidate_batch
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.retrieval.retriever import Retriever
from txrec.schema import Split
from txrec.train.ranker.loop import (
    METRIC,
    Objective,
    TrainedRanker,
    ValidationScore,
    decide,
    fit_linear,
    in_order,
    learn,
    scores_of,
    sizes,
)

HELD_OUT_FRAC = 0.3
"""Share of the validation queries that decide."""


@dataclass(frozen=True, eq=False)
class Sets:
    """n candidate sets with the grades of their products."""

    batch: CandidateBatch
    share: Tensor  # (n, K) grade between the lowest (0) and the highest (1)
    grade: Tensor  # (n, K)

    def __len__(self) -> int:
        return len(self.share)

    def select(self, rows: Tensor | slice) -> "Sets":
        """Some of the sets."""
        return Sets(self.batch.select(rows), self.share[rows], self.grade[rows])


def candidate_sets(
    judgments: Judgments,
    data: PreparedData,
    retriever: Retriever,
    ranking_features: RankingFeatures,
    progress: Progress = silent,
) -> Sets:
    """Candidate sets of the judged products per query, as `Recommender.rank_items` makes them."""
    rows_of = by_query(judgments)
    width = max(len(rows) for rows in rows_of)
    shape = (len(rows_of), width)
    parts, share, grade, place = [], np.zeros(shape, np.float32), np.zeros(shape, np.float32), 0
    for part, retrieval_queries in judged_requests(judgments, data, ranking_features.catalogue):
        candidates = retriever.retrieve(retrieval_queries)
        parts.append(candidate_batch(candidates, ranking_features, width).padded(width))
        for rows, one in zip(part, candidates, strict=True):
            at = rows[np.searchsorted(judgments.item[rows], one.item_idx)]
            share[place, : len(at)], grade[place, : len(at)] = judgments.share[at], judgments.grade[at]
            place += 1
        progress("judged pairs", place, len(rows_of))
    return Sets(CandidateBatch.joined(parts), torch.from_numpy(share), torch.from_numpy(grade))


def fit_ranker(
    cfg: RankerConfig,
    data: PreparedData,
    retriever: Retriever,
    ranking_features: RankingFeatures,
    seed: int,
    progress: Progress = silent,
) -> tuple[Ranker | None, RankerDecision]:
    """A ranker trained on grades, if it orders the validation judgments better than retrieval, and the decision."""
    if cfg.mode == "off":
        return None, RankerDecision(False, METRIC, math.nan, math.nan, 0, "leave out the ranker: ranker.mode = off")
    sets = candidate_sets(Judgments.of(data, Split.VALIDATION), data, retriever, ranking_features, progress)
    held_out = torch.from_numpy(np.random.default_rng(seed).random(len(sets)) < HELD_OUT_FRAC)
    fitting, deciding = (sets.select(torch.nonzero(part).ravel()) for part in (~held_out, held_out))
    trial, epochs = train(cfg, fitting, deciding, cfg.max_epochs, seed, progress)
    orders = scores_of(trial, deciding.batch), in_order(deciding.batch)
    ranked, retrieved = (ndcg(scores, deciding) for scores in orders)
    decision = decide(cfg.mode, ranked, retrieved, "judged queries")
    if not decision.keep:
        return None, decision
    calibrate(trial, deciding)
    ranker = train(cfg, sets, None, epochs, seed, progress).ranker
    ranker.calibration.copy_(trial.calibration)
    return ranker, decision


def train(
    cfg: RankerConfig, training: Sets, deciding: Sets | None, num_epochs: int, seed: int, progress: Progress = silent
) -> TrainedRanker:
    """Trains on the sum of the two losses.

    Args:
        cfg: its section.
        training: sets to learn from.
        deciding: picks the epoch by its loss, with early stopping; None = the last epoch is taken.
        num_epochs: passes over the sets.
        seed: of weights, order and dropout.
        progress: called after every epoch.
    """
    torch.manual_seed(seed)
    ranker = Ranker(cfg, sizes(training.batch), graded=True)
    ranker.fit_scaling(training.batch)
    fit_linear(ranker, training, loss)
    objective = Objective(loss, _validation_score)
    return TrainedRanker(ranker, learn(ranker, training, deciding, objective, num_epochs, progress))


def _validation_score(ranker: Ranker, deciding: Sets) -> ValidationScore:
    scores = scores_of(ranker, deciding.batch)
    return ValidationScore(-float(loss(scores, deciding)), float(ndcg(scores, deciding).mean()))


def loss(scores: Tensor, sets: Sets) -> Tensor:
    """Mean over the sets of the two losses: pairs of a set that differ in grade, and products one by one.

    A pair counts by the difference of its grades, log(1 + exp(-(difference of scores))) (RankNet, Burges et al., 2005).
    """
    mask = sets.batch.mask
    better = (sets.grade[:, :, None] - sets.grade[:, None]).clamp_min(0)
    better = better * (mask[:, :, None] & mask[:, None])  # (n, K, K) by how much the first is better than the second
    known = scores.masked_fill(~mask, 0.0)
    pairs = F.softplus(known[:, None] - known[:, :, None]) * better
    pairwise = pairs.sum((1, 2)) / better.sum((1, 2)).clamp_min(1e-9)
    products = F.binary_cross_entropy_with_logits(known, sets.share, reduction="none") * mask
    return (pairwise + products.sum(1) / mask.sum(1).clamp_min(1)).mean()


def ndcg(scores: Tensor, sets: Sets) -> NDArray[np.float64]:
    """(n,) graded NDCG@10 of each set."""
    mask = sets.batch.mask
    item = torch.arange(mask.shape[1], dtype=torch.int32).expand_as(mask)[mask].numpy()
    query = torch.arange(len(sets), dtype=torch.int32)[:, None].expand_as(mask)[mask].numpy()
    pairs = Judgments(query, item, sets.grade[mask].numpy(), sets.share[mask].double().numpy())
    return graded_ndcg(scores[mask].numpy(), pairs)


def calibrate(ranker: Ranker, sets: Sets) -> None:
    """Platt scaling of the scores to the grades as shares (Platt, 1999)."""
    mask = sets.batch.mask
    scores, share = scores_of(ranker, sets.batch)[mask].double(), sets.share[mask].double()
    ranker.calibrate(scores, share)
