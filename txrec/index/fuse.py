"""Several ranked lists into one: weighted reciprocal ranks (Cormack, Clarke and Buettcher, SIGIR 2009).

Ranks need no common scale between a cosine, a BM25 score and a count. Weights are fitted on validation requests, for
requests with and without a query apart, because a search trusts other sources than a home page does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.index.source import Hits, bound

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

    ids: NDArray[np.int32]  # (K,)
    fused: NDArray[np.float32]  # (K,)
    scores: NDArray[np.float32]  # (K, S), NaN = not proposed by this source
    ranks: NDArray[np.int32]  # (K, S), 1-based, 0 = not proposed


@dataclass(frozen=True)
class Reserved:
    """Places that the best items of one source have for certain, before the ranker and after it."""

    column: int
    """The source's."""
    count: int
    """How many of its items."""
    within: int
    """Among this many candidates; those that fusion left further behind get the last of these places."""


def fuse(
    hits: Sequence[Hits], row: int, weights: NDArray[np.float32], k: int, reserved: Reserved | None = None
) -> Fused:
    """Merges row `row` of every source's hits; ties go to the lower id."""
    lists = [found.ids[row][found.ids[row] != schema.PAD] for found in hits]
    ids, place_of = _distinct(lists)
    ranks = np.zeros((len(hits), len(ids)), dtype=np.int32)
    scores = np.full((len(hits), len(ids)), np.nan, dtype=np.float32)
    fused = np.zeros(len(ids), np.float32)
    for column, (found, weight) in enumerate(zip(lists, _floored(weights), strict=True)):
        place, rank = place_of[found], np.arange(1, len(found) + 1, dtype=np.int32)
        ranks[column, place] = rank
        scores[column, place] = hits[column].scores[row, : len(found)]
        fused[place] += weight / (RANK_OFFSET + rank)
    order = np.arange(len(ids))
    if len(ids) > k:  # those that reach the k-th, and who has a place for certain
        kept = fused >= bound(fused, k)
        if reserved is not None:
            kept[place_of[lists[reserved.column][: reserved.count]]] = True
        order = np.flatnonzero(kept)
    order = order[np.argsort(-fused[order], kind="stable")]  # ids ascend
    if reserved is not None:
        within = min(reserved.within, k)
        order = keep_places(order, ranks[reserved.column, order], min(reserved.count, within), within)
        fused[order] = np.maximum.accumulate(fused[order][::-1])[::-1]  # never less than what follows
    order = order[:k]
    return Fused(ids[order], fused[order], scores[:, order].T.copy(), ranks[:, order].T.copy())


def keep_places(order: NDArray[np.int64], rank: NDArray[np.int32], count: int, within: int) -> NDArray[np.int64]:
    """The order with the first `count` of a source among the first `within`; nothing else overtakes anything.

    Args:
        order: best first.
        rank: of each in the source, in that order; 0 = not proposed.
        count: see `Reserved`, at most `within`.
        within: see `Reserved`.
    """
    promised = (rank > 0) & (rank <= count)
    if not promised[within:].any():
        return order
    others = np.flatnonzero(~promised)
    kept = np.sort(np.append(np.flatnonzero(promised[:within]), others[: within - int(promised.sum())]))
    late = within + np.flatnonzero(promised[within:])
    head = np.append(kept, late)
    return np.append(order[head], np.delete(order, head))


def _distinct(lists: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids of all lists, ascending, and a table from id to place among them; faster than sorting."""
    size = 1 + max((int(ids.max(initial=0)) for ids in lists), default=0)
    named = np.zeros(size, np.bool_)
    for ids in lists:
        named[ids] = True
    distinct = np.flatnonzero(named).astype(np.int32)
    place_of = np.empty(size, np.int32)
    place_of[distinct] = np.arange(len(distinct))
    return distinct, place_of


def combine(ranks: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., K, S) ranks -> (..., K) fused scores, as `fuse` makes them."""
    reciprocal = np.where(ranks > 0, 1.0 / (RANK_OFFSET + ranks), 0.0).astype(np.float32)
    fused: NDArray[np.float32] = (reciprocal * _floored(weights)).sum(axis=-1)
    return fused


def _floored(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of reciprocal ranks; 0 still lets a source's items in, after all others."""
    return np.maximum(weights, np.float32(1e-6))
