"""Fusion weights of candidate sources by coordinate ascent on NDCG@10 of held-out requests."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from txrec.arrays import dcg_discounts
from txrec.index.rank_fusion import Fusion, combine, reciprocal_ranks
from txrec.recommender.types import Candidates

GRID = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
ROUNDS = 3
MAX_REQUESTS = 2_000
MIN_REQUESTS = 30
"""Least requests of a kind whose weights are fitted; with fewer the default ones stay."""


def fit_fusion(
    candidates: Sequence[Candidates],
    truths: Sequence[NDArray[np.int32]],
    names: Sequence[str],
    search_weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Fusion:
    """Fits weights for requests with and without a query apart.

    Without enough requests of a kind to fit by, searches keep `search_weights`, and other requests equal weights.

    Args:
        candidates: what retrieval found, with every source's ranks.
        truths: the right items of each request.
        names: sources in the order of the columns of `Candidates.ranks`.
        search_weights: default weights in searches; None = equal ones.
        seed: of the sample that is used where there are many requests.
    """
    rng = np.random.default_rng(seed)
    fitted: dict[bool, dict[str, float]] = {True: dict(search_weights or {}), False: {}}
    for has_query in fitted:
        rows = [row for row, one in enumerate(candidates) if bool(one.query) == has_query and len(truths[row])]
        if len(rows) < MIN_REQUESTS:
            continue
        rows = [rows[i] for i in rng.permutation(len(rows))[:MAX_REQUESTS]]
        weights = _ascend([candidates[row] for row in rows], [truths[row] for row in rows], len(names))
        fitted[has_query] = dict(zip(names, weights.tolist(), strict=True))
    return Fusion(with_query=fitted[True], without_query=fitted[False])


def _ascend(
    candidates: Sequence[Candidates], truths: Sequence[NDArray[np.int32]], num_sources: int
) -> NDArray[np.float32]:
    reciprocal, gains = _arrays(candidates, truths)
    # from the best single source on, so that a source enters only where it helps; where all together are as good, from
    # them on: with the weight of a source without proposals alone, no change of one weight improves anything
    starts = [*np.eye(num_sources, dtype=np.float32), np.ones(num_sources, np.float32)]
    scores = [_ndcg(reciprocal, gains, start) for start in starts]
    best = max(scores)
    weights: NDArray[np.float32] = starts[num_sources if scores[-1] >= best - 1e-6 else int(np.argmax(scores))]
    for _ in range(ROUNDS):
        before = best
        for source in range(num_sources):
            for value in GRID:
                tried = weights.copy()
                tried[source] = value
                if value == weights[source] or not tried.any():
                    continue
                score = _ndcg(reciprocal, gains, tried)
                if score > best + 1e-6:
                    weights, best = tried, score
        if best <= before:
            break
    return weights


def _arrays(
    candidates: Sequence[Candidates], truths: Sequence[NDArray[np.int32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(S, n, K) reciprocal ranks and (n, K) gain of each candidate at rank 1, normalised by the ideal order's."""
    width = max(len(one) for one in candidates)
    ranks = np.zeros((candidates[0].ranks.shape[1], len(candidates), width), np.int32)
    gains = np.zeros((len(candidates), width), np.float32)
    for row, (one, truth) in enumerate(zip(candidates, truths, strict=True)):
        order = np.argsort(one.item_idx)  # ties must not be broken by the order that is being replaced
        ranks[:, row, : len(one)] = one.ranks[order].T
        ideal = dcg_discounts(min(len(truth), 10)).sum()
        gains[row, : len(one)] = np.isin(one.item_idx[order], truth) / ideal
    return reciprocal_ranks(ranks), gains


def _ndcg(reciprocal: NDArray[np.float32], gains: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    fused = combine(reciprocal, weights)
    k = min(10, fused.shape[1])
    top = np.argpartition(-fused, k - 1, axis=1)[:, :k]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(fused, top, 1), axis=1, kind="stable"), 1)
    return float((np.take_along_axis(gains, top, 1) * dcg_discounts(k)).sum(axis=1).mean())
