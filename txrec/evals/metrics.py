"""Ranking metrics, vectorised over requests: one figure per request (`per_case`) or one for all of them.

Every list is a row of dense indices, best first, filled up with PAD. Definitions are those of TREC: gains are binary,
recall and average precision divide by the number of right items, NDCG by the best that k places can hold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec.arrays import ndcg
from txrec.evals.protocol import GroundTruth
from txrec.schema import PAD

Floats = NDArray[np.float64]


def hits(ids: NDArray[np.int32], truth: GroundTruth) -> NDArray[np.bool_]:
    """(C, K) True where a listed item is right for its case."""
    width = int(max(ids.max(initial=0), truth.items.max(initial=0))) + 1
    right = truth.case * width + truth.items  # one sorted key a (case, item) pair
    listed = np.arange(len(ids))[:, None] * width + ids
    matches: NDArray[np.bool_] = np.isin(listed, right) & (ids != PAD)
    return matches


def hit_rate(hit: NDArray[np.bool_], k: int) -> Floats:
    """(C,) 1 where at least one of the first k items is right."""
    return np.asarray(hit[:, :k].any(axis=1), np.float64)


def precision(hit: NDArray[np.bool_], k: int) -> Floats:
    """(C,) share of the first k places that hold a right item."""
    return np.asarray(hit[:, :k].sum(axis=1) / k)


def recall(hit: NDArray[np.bool_], num_right: NDArray[np.int64], k: int) -> Floats:
    """(C,) share of the right items that are among the first k."""
    share: Floats = hit[:, :k].sum(axis=1) / np.maximum(num_right, 1)
    return share


def reciprocal_rank(hit: NDArray[np.bool_], k: int) -> Floats:
    """(C,) 1 / place of the first right item, 0 if it is not among the first k."""
    first = hit[:, :k].argmax(axis=1) if hit.shape[1] else np.zeros(len(hit), np.int64)
    return np.where(hit[:, :k].any(axis=1), 1.0 / (first + 1), 0.0)


def average_precision(hit: NDArray[np.bool_], num_right: NDArray[np.int64], k: int) -> Floats:
    """(C,) mean over the right items of the precision at their places, 0 for those not among the first k."""
    top = hit[:, :k]
    at_place = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    precision: Floats = (at_place * top).sum(axis=1) / np.maximum(num_right, 1)
    return precision


def per_case(ids: NDArray[np.int32], truth: GroundTruth, ks: Sequence[int]) -> dict[str, Floats]:
    """Every list measure at every k, one figure per case; `mrr` and `map` without k use the whole list.

    Args:
        ids: (C, K) ranked dense indices, PAD where the list is shorter.
        truth: right items of the C cases.
        ks: cut-offs.
    """
    hit, num_right = hits(ids, truth), truth.counts
    values: dict[str, Floats] = {}
    for k in ks:
        values[f"hit_rate@{k}"] = hit_rate(hit, k)
        values[f"precision@{k}"] = precision(hit, k)
        values[f"recall@{k}"] = recall(hit, num_right, k)
        values[f"ndcg@{k}"] = ndcg(hit, num_right, k)
        values[f"mrr@{k}"] = reciprocal_rank(hit, k)
        values[f"map@{k}"] = average_precision(hit, num_right, k)
    values["mrr"] = reciprocal_rank(hit, ids.shape[1])
    values["map"] = average_precision(hit, num_right, ids.shape[1])
    return values


def means(figures: Mapping[str, Floats]) -> dict[str, float]:
    """Means over all cases; 0 where there is none."""
    return {name: _mean(values) for name, values in figures.items()}


def coverage(ids: NDArray[np.int32], num_items: int, k: int) -> float:
    """Share of the catalogue that is in at least one list."""
    return len(_listed(ids, k, distinct=True)) / num_items if num_items else 0.0


def gini(ids: NDArray[np.int32], num_items: int, k: int) -> float:
    """Inequality of the exposure of items (Gini): 0 = all equally often, towards 1 = always the same few."""
    counts = np.sort(np.bincount(_listed(ids, k), minlength=num_items + 1)[1:].astype(np.float64))
    if not counts.sum():
        return 0.0
    place = np.arange(1, num_items + 1)
    return float((2 * place - num_items - 1) @ counts / (num_items * counts.sum()))


def novelty(ids: NDArray[np.int32], train_count: NDArray[np.int64], k: int) -> float:
    """Mean self-information of the listed items, bits: -log2 of their share of training events (plus one each).

    Args:
        ids: (C, K) lists.
        train_count: (N + 1,) training events of every item, row 0 unused.
        k: places counted.
    """
    smoothed = train_count[1:] + 1.0
    bits = np.append(0.0, -np.log2(smoothed / smoothed.sum()))
    return _mean(bits[_listed(ids, k)])


def popularity_bias(ids: NDArray[np.int32], train_count: NDArray[np.int64], truth: GroundTruth, k: int) -> float:
    """Mean training events of the listed items over those of the right items: above 1 = pushes the popular."""
    right = _mean(train_count[truth.items].astype(np.float64))
    return _mean(train_count[_listed(ids, k)].astype(np.float64)) / right if right else 0.0


def intra_list_diversity(ids: NDArray[np.int32], vectors: NDArray[np.float32], k: int) -> float:
    """Mean over the lists of 1 - the mean cosine of two different items in it.

    Args:
        ids: (C, K) lists.
        vectors: (N + 1, D) L2-normalised item vectors, row 0 zeros.
        k: places counted.
    """
    top = ids[:, :k]
    places = (np.ones(top.size, vectors.dtype), top.ravel(), np.arange(0, top.size + 1, max(top.shape[1], 1)))
    total = sp.csr_array(places, shape=(len(top), len(vectors))) @ vectors
    length = (np.linalg.norm(vectors, axis=1) ** 2)[top].sum(axis=1)
    count = (top != PAD).sum(axis=1)
    several = count > 1
    cosine = ((total**2).sum(axis=1) - length)[several] / (count * (count - 1))[several]
    return _mean(1.0 - cosine)


def catalogue_auc(ids: NDArray[np.int32], truth: GroundTruth, num_items: int) -> Floats:
    """(C,) ROC-AUC of each case over the whole catalogue; items that were not listed share the last place."""
    hit = hits(ids, truth)
    listed, right = (ids != PAD).sum(axis=1), truth.counts
    wrong_before = np.where(hit, np.cumsum((ids != PAD) & ~hit, axis=1), 0).sum(axis=1)
    num_hits = hit.sum(axis=1)
    wrong = num_items - right
    unlisted_wrong = wrong - (listed - num_hits)
    beaten = num_hits * wrong - wrong_before + (right - num_hits) * unlisted_wrong / 2
    pairs = (right * wrong).astype(np.float64)
    return np.asarray(np.divide(beaten, pairs, out=np.full(len(ids), 0.5), where=pairs > 0))


def by_user(values: Floats, user: NDArray[np.int64]) -> Floats:
    """(U,) means over each user's cases, users in order of their number."""
    _, place = np.unique(user, return_inverse=True)
    means: Floats = np.bincount(place, values) / np.bincount(place)
    return means


def auc(scores: NDArray[Any], right: NDArray[np.bool_], weight: NDArray[Any] | None = None) -> float:
    """ROC-AUC: chance that a right one has a higher score than a wrong one, ties count half; 0.5 if there is no pair.

    Args:
        scores: (n,) any comparable numbers.
        right: (n,) labels.
        weight: (n,) how often each entry counts; None = once.
    """
    counted = np.ones(len(scores)) if weight is None else np.asarray(weight, np.float64)
    values, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, counted * right, len(values))
    negative = np.bincount(place, counted * ~right, len(values))
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / pairs) if pairs else 0.5


def global_auc(scores: NDArray[Any], ids: NDArray[np.int32], truth: GroundTruth, num_items: int) -> float:
    """ROC-AUC over all (case, catalogue item) pairs at once; items that were not listed share the lowest score."""
    hit, listed = hits(ids, truth), ids != PAD
    missed = truth.counts.sum() - hit.sum()
    others = len(ids) * num_items - listed.sum() - missed
    return auc(
        np.concatenate([scores[listed], [-np.inf, -np.inf]]),
        np.concatenate([hit[listed], [True, False]]),
        np.concatenate([np.ones(listed.sum()), [missed, others]]),
    )


def log_loss(probability: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """Mean negative log-likelihood of the labels, nats; probabilities are kept 1e-7 away from 0 and 1."""
    inside = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return _mean(-np.where(right, np.log(inside), np.log1p(-inside)))


def calibration(probability: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> NDArray[np.float64]:
    """(b, 3) mean probability, observed share, count, in b <= `bins` groups of about equally many entries."""
    order = np.argsort(probability, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    rows = [(probability[g].astype(np.float64).mean(), right[g].mean(), len(g)) for g in groups]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def calibration_error(probability: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: mean |probability - observed share| over groups of equally many entries."""
    table = calibration(probability, right, bins)
    return float(np.abs(table[:, 0] - table[:, 1]) @ table[:, 2] / table[:, 2].sum()) if len(table) else 0.0


def _listed(ids: NDArray[np.int32], k: int, distinct: bool = False) -> NDArray[np.int32]:
    top = ids[:, :k]
    flat = top[top != PAD]
    return np.unique(flat) if distinct else flat


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
