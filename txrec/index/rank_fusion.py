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
NO_PLACES = np.empty(0, np.int64)


@dataclass(frozen=True)
class Fusion:
    """Weight of every source, for requests with a query and without one; a source that is not named weighs 1."""

    with_query: Mapping[str, float] = field(default_factory=dict)
    without_query: Mapping[str, float] = field(default_factory=dict)

    def weights(self, names: Sequence[str], has_query: bool) -> NDArray[np.float32]:
        """(S,) weights in the order of `names`."""
        configured = self.with_query if has_query else self.without_query
        return np.array([configured.get(name, 1.0) for name in names], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Fused:
    """One request's candidates, best first."""

    item_idx: NDArray[np.int32]  # (K,)
    fused: NDArray[np.float32]  # (K,)
    scores: NDArray[np.float32]  # (K, S), NaN = not proposed by this source
    ranks: NDArray[np.int32]  # (K, S), 1-based, 0 = not proposed


@dataclass(frozen=True)
class ReservedSlots:
    """Slots reserved for the best items of one source, before the ranker and after it."""

    column: int
    """The source's."""
    count: int
    """Number of its items."""
    within: int
    """Among this many candidates; those that fusion left further behind get the last of these places."""


def fuse(hits: Sequence[Hits], row: int, weights: NDArray[np.float32], k: int, *reserved: ReservedSlots) -> Fused:
    """Merges row `row` of every source's hits; ties go to the lower id.

    Args:
        hits: of every source.
        row: of the request.
        weights: (S,) of the sources.
        k: most candidates.
        reserved: slots of some sources among the first candidates; of too many, those of the first sources hold.
    """
    proposals = _Proposals.of(hits, row)
    fused = rrf_scores(proposals, weights)
    slots = [proposals.of_source(one.column)[: one.count] for one in reserved]
    first = np.array(list(dict.fromkeys(np.concatenate([NO_PLACES, *slots]).tolist())), np.int64)
    order = top_k(proposals.item_idx, fused, k, first)
    if reserved:
        order, fused = apply_reserved(order, fused, first, min(k, *(one.within for one in reserved)))
    order = order[:k]
    num_sources = len(proposals.counts)
    candidate = np.full(len(proposals.item_idx), len(order))  # one more than there are, for all that is left out
    candidate[order] = np.arange(len(order))
    cell = candidate[proposals.place] * num_sources + np.repeat(np.arange(num_sources), proposals.counts)
    shape = (len(order), num_sources)
    return Fused(
        proposals.item_idx[order],
        fused[order],
        _table(cell, proposals.scores, shape, np.nan),
        _table(cell, proposals.ranks, shape, 0),
    )


@dataclass(frozen=True, eq=False)
class _Proposals:
    """P proposals for one request, source by source; an item that several sources propose has one place."""

    item_idx: NDArray[np.int32]  # (P,)
    scores: NDArray[np.float32]  # (P,)
    ranks: NDArray[np.int32]  # (P,) 1-based, within the source
    place: NDArray[np.int64]  # (P,) index of the one proposal that stands for all of the item
    counts: Sequence[int]  # (S,) proposals per source

    @classmethod
    def of(cls, hits: Sequence[Hits], row: int) -> "_Proposals":
        """Proposals in row `row` of every source's hits."""
        counts = [source_hits.counts[row] for source_hits in hits]
        item_idx = np.concatenate([one.item_idx[row, :count] for one, count in zip(hits, counts, strict=True)])
        scores = np.concatenate([one.scores[row, :count] for one, count in zip(hits, counts, strict=True)])
        ranks = np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in counts])
        return cls(item_idx, scores, ranks, _places(item_idx), counts)

    def of_source(self, column: int) -> NDArray[np.int64]:
        """Places of one source's proposals, best first."""
        start = sum(self.counts[:column])
        return self.place[start : start + self.counts[column]]


def rrf_scores(proposals: _Proposals, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(P,) weighted reciprocal rank sums at the items' places; 0 elsewhere."""
    fused = np.zeros(len(proposals.item_idx), np.float32)
    ends = accumulate(proposals.counts)
    for end, count, weight in zip(ends, proposals.counts, _floored(weights), strict=True):
        own = slice(end - count, end)
        fused[proposals.place[own]] += weight / (RANK_OFFSET + proposals.ranks[own])
    return fused


def top_k(
    item_idx: NDArray[np.int32], fused: NDArray[np.float32], k: int, kept_too: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places by fused score, highest first, ties by item: all that reach the k-th score, and those in `kept_too`."""
    least = bound(fused, k) if len(item_idx) > k else 0.0
    kept = (fused >= least) & (fused > 0)
    kept[kept_too] = True
    order = np.flatnonzero(kept)
    return order[descending(item_idx[order], fused[order])]


def apply_reserved(
    order: NDArray[np.int64], fused: NDArray[np.float32], reserved: NDArray[np.int64], within: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The order with reserved items among its first `within` places, and scores that fall along it.

    Args:
        order: places, best first.
        fused: (P,) their scores.
        reserved: places of the items with reserved slots, best first; the first `within` of them count.
        within: size of the head that holds the slots.
    """
    guaranteed = np.zeros(len(fused), np.bool_)
    guaranteed[reserved[:within]] = True
    order = keep_slots(order, guaranteed[order], within)
    raised = fused.copy()
    raised[order] = np.maximum.accumulate(fused[order][::-1])[::-1]  # never less than the next one's
    return order, raised


def keep_slots(order: NDArray[np.int64], guaranteed: NDArray[np.bool_], within: int) -> NDArray[np.int64]:
    """The order with all guaranteed places among the first `within`; nothing else overtakes anything.

    Args:
        order: best first.
        guaranteed: which of them are guaranteed, in that order; at most `within`.
        within: size of the head that holds them.
    """
    late = guaranteed[within:]
    if not late.any():
        return order
    head, rest = order[:within], order[within:]
    others = np.flatnonzero(~guaranteed[:within])
    stays = np.ones(within, np.bool_)
    stays[others[len(others) - int(late.sum()) :]] = False
    return np.concatenate([head[stays], rest[late], head[~stays], rest[~late]])


def _places(ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """(P,) for each of P proposed ids the place of one and the same of its proposals; faster than sorting."""
    place_of = np.empty(int(ids.max(initial=0)) + 1, np.int64)
    place_of[ids] = np.arange(len(ids))
    return place_of[ids]


def _table(cell: NDArray[np.int64], values: NDArray[Any], shape: tuple[int, int], nothing: float) -> NDArray[Any]:
    """Values in the cells of a table; those beyond it are dropped."""
    table = np.full((shape[0] + 1) * shape[1], nothing, values.dtype)
    table[cell] = values
    return table.reshape(-1, shape[1])[:-1]


def reciprocal_ranks(ranks: NDArray[np.int32]) -> NDArray[np.float32]:
    """Reciprocals of offset ranks, in the same shape; 0 where an item was not proposed."""
    reciprocal: NDArray[np.float32] = np.where(ranks > 0, 1.0 / (RANK_OFFSET + ranks), 0.0).astype(np.float32)
    return reciprocal


def combine(reciprocal: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, ...) reciprocal ranks by source -> (...) fused scores, as `fuse` makes them."""
    fused: NDArray[np.float32] = np.tensordot(_floored(weights), reciprocal, axes=1)
    return fused


def _floored(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of reciprocal ranks; 0 still lets a source's items in, after all others."""
    return np.maximum(weights, np.float32(1e-6))
