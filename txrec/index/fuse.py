"""Several ranked lists into one: weighted reciprocal ranks (Cormack, Clarke and Buettcher, SIGIR 2009).

Ranks need no common scale between a cosine, a BM25 score and a count. Weights are fitted on validation requests, for
requests with and without a query apart, because a search trusts other sources than a home page does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.index.source import Hits, bound, descending

RANK_OFFSET = 10.0
"""Added to every rank: the larger, the less the first places matter."""


@dataclass(frozen=True)
class Fusion:
    """Weight of every source, for requests with a query and without one; a source that is not named weighs 1."""

    with_query: Mapping[str, float] = field(default_factory=dict)
    without_query: Mapping[str, float] = field(default_factory=dict)

    def weights(self, names: Sequence[str], has_query: bool) -> NDArray[np.float32]:
        """(S,) weights in the order of `names`."""
        chosen = self.with_query if has_query else self.without_query
        return np.array([chosen.get(name, 1.0) for name in names], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Fused:
    """One request's candidates, best first."""

    item_idx: NDArray[np.int32]  # (K,)
    fused: NDArray[np.float32]  # (K,)
    scores: NDArray[np.float32]  # (K, S), NaN = not proposed by this source
    ranks: NDArray[np.int32]  # (K, S), 1-based, 0 = not proposed


@dataclass(frozen=True)
class ReservedSlots:
    """Places that the best items of one source have for certain, before the ranker and after it."""

    column: int
    """The source's."""
    count: int
    """How many of its items."""
    within: int
    """Among this many candidates; those that fusion left further behind get the last of these places."""


def fuse(
    hits: Sequence[Hits], row: int, weights: NDArray[np.float32], k: int, reserved: ReservedSlots | None = None
) -> Fused:
    """Merges row `row` of every source's hits; ties go to the lower id."""
    counts = [found.counts[row] for found in hits]
    own = [slice(end - count, end) for end, count in zip(accumulate(counts), counts, strict=True)]  # of each source
    ids = np.concatenate([found.item_idx[row, :count] for found, count in zip(hits, counts, strict=True)])
    ranks = np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in counts])
    scores = np.concatenate([found.scores[row, :count] for found, count in zip(hits, counts, strict=True)])
    place = _places(ids)
    fused = np.zeros(len(ids), np.float32)  # where an item's place is; nothing elsewhere
    for part, weight in zip(own, _floored(weights), strict=True):
        fused[place[part]] += weight / (RANK_OFFSET + ranks[part])
    least = bound(fused, k) if len(ids) > k else 0.0
    kept = (fused >= least) & (fused > 0)
    if reserved is not None:  # those that reach the k-th, and who has a place for certain
        kept[place[own[reserved.column]][: reserved.count]] = True
    order = np.flatnonzero(kept)
    order = order[descending(ids[order], fused[order])]
    if reserved is not None:
        within = min(reserved.within, k)
        promised = np.zeros(len(ids), np.bool_)
        promised[place[own[reserved.column]][: min(reserved.count, within)]] = True
        order = keep_slots(order, promised[order], within)
        fused[order] = np.maximum.accumulate(fused[order][::-1])[::-1]  # never less than what follows
    order = order[:k]
    candidate = np.full(len(ids), len(order))  # one more than there are, for all that is left out
    candidate[order] = np.arange(len(order))
    cell = candidate[place] * len(hits) + np.repeat(np.arange(len(hits)), counts)
    return Fused(
        ids[order],
        fused[order],
        _table(cell, scores, (len(order), len(hits)), np.nan),
        _table(cell, ranks, (len(order), len(hits)), 0),
    )


def keep_slots(order: NDArray[np.int64], promised: NDArray[np.bool_], within: int) -> NDArray[np.int64]:
    """The order with all that is promised a place among the first `within`; nothing else overtakes anything.

    Args:
        order: best first.
        promised: which of them, in that order; at most `within`.
        within: places.
    """
    late = promised[within:]
    if not late.any():
        return order
    head, rest = order[:within], order[within:]
    others = np.flatnonzero(~promised[:within])
    stays = np.ones(within, np.bool_)
    stays[others[len(others) - int(late.sum()) :]] = False
    return np.concatenate([head[stays], rest[late], head[~stays], rest[~late]])


def _places(ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """(P,) for each of P proposed ids the place of one and the same of its proposals; faster than sorting."""
    place_of = np.empty(int(ids.max(initial=0)) + 1, np.int64)
    place_of[ids] = np.arange(len(ids))
    return place_of[ids]


def _table(cell: NDArray[np.int64], values: NDArray[Any], shape: tuple[int, int], nothing: float) -> NDArray[Any]:
    """Values in the cells of a table; what lies beyond it is dropped."""
    table = np.full((shape[0] + 1) * shape[1], nothing, values.dtype)
    table[cell] = values
    return table.reshape(-1, shape[1])[:-1]


def combine(ranks: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., K, S) ranks -> (..., K) fused scores, as `fuse` makes them."""
    reciprocal = np.where(ranks > 0, 1.0 / (RANK_OFFSET + ranks), 0.0).astype(np.float32)
    fused: NDArray[np.float32] = (reciprocal * _floored(weights)).sum(axis=-1)
    return fused


def _floored(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of reciprocal ranks; 0 still lets a source's items in, after all others."""
    return np.maximum(weights, np.float32(1e-6))
