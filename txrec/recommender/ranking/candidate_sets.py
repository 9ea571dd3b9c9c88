"""Candidates and item histories of a batch of requests as flat arrays, for the computation of ranker features."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.arrays import sorted_index
from txrec.recommender.types import Candidates
from txrec.schema import EventKind


@dataclass(frozen=True, eq=False)
class CandidateSets:
    """The candidates of B requests, concatenated to P, so that features are computed in one call for all of them."""

    requests: Sequence[Candidates]
    parts: Sequence[slice]  # (B,) range of each request's candidates
    item_idx: NDArray[np.int32]  # (P,)
    row: NDArray[np.int64]  # (P,) number of the request

    @classmethod
    def of(cls, requests: Sequence[Candidates], counts: Sequence[int]) -> "CandidateSets":
        """The first `counts` candidates of each request."""
        ends = np.cumsum([0, *counts]).tolist()
        ids = np.concatenate([one.item_idx[:count] for one, count in zip(requests, counts, strict=True)])
        parts = [slice(start, end) for start, end in pairwise(ends)]
        return cls(requests, parts, ids, np.repeat(np.arange(len(requests)), counts))

    def __len__(self) -> int:
        return len(self.item_idx)

    def __iter__(self) -> Iterator[tuple[int, Candidates, slice]]:
        """(number, request, range of its candidates)."""
        return zip(range(len(self.requests)), self.requests, self.parts, strict=True)

    @cached_property
    def now_us(self) -> NDArray[np.int64]:
        """(P,) time of the candidate's request."""
        return np.array([one.now_us for one in self.requests], np.int64)[self.row]

    def joined(self, arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """(P, ...) concatenation of one array per request, whose first rows are those of its candidates."""
        return np.concatenate([array[: part.stop - part.start] for array, part in zip(arrays, self.parts, strict=True)])

    def of_searches(
        self, width: int, compute: Callable[[Candidates, NDArray[np.int32]], NDArray[Any]]
    ) -> NDArray[np.float32]:
        """(P, width) columns of searches, zeros for requests without a query.

        Args:
            width: number of columns.
            compute: from a request and the ids of its K candidates to (K, width).
        """
        columns = np.zeros((len(self), width), np.float32)
        for _, one, part in self:
            if one.query:
                columns[part] = compute(one, self.item_idx[part])
        return columns


class HistoryMatches(NamedTuple):
    """Pairs of an event and the candidate that it was about."""

    event: NDArray[np.int64]
    """(M,) index into the events."""
    candidate: NDArray[np.int64]
    """(M,) index into the candidates."""


@dataclass(frozen=True, eq=False)
class ItemHistories:
    """Item events of B users, concatenated to E; impressions are left out."""

    row: NDArray[np.int64]  # (E,) number of the user
    item_idx: NDArray[np.int32]  # (E,)
    ts: NDArray[np.int64]  # (E,)
    bought: NDArray[np.bool_]  # (E,)
    back: NDArray[np.int64]  # (E,) events after it of the same user
    last: NDArray[np.int32]  # (B,) item of the user's last event, PAD = none

    @classmethod
    def of(cls, requests: Sequence[Candidates]) -> "ItemHistories":
        """The histories of requests."""
        all_of = [one.history for one in requests]
        row = np.repeat(np.arange(len(all_of)), [len(one.item_idx) for one in all_of])
        item, event = (np.concatenate([getattr(one, name) for one in all_of]) for name in ("item_idx", "event"))
        kept = np.flatnonzero((item != schema.PAD) & schema.is_engagement(event))
        row, item, event = row[kept], item[kept], event[kept]
        count = np.bincount(row, minlength=len(all_of))
        ends = np.cumsum(count)
        last = np.full(len(all_of), schema.PAD, np.int32)
        last[count > 0] = item[ends[count > 0] - 1]
        ts = np.concatenate([one.ts for one in all_of])[kept]
        return cls(row, item, ts, event >= EventKind.PURCHASE, ends[row] - 1 - np.arange(len(row)), last)

    def matches(self, sets: CandidateSets) -> HistoryMatches:
        """Events whose item is a candidate of the same request, in order of time."""
        size = 1 + max(sets.item_idx.max(initial=0), self.item_idx.max(initial=0))
        candidate, is_candidate = sorted_index(sets.row * size + sets.item_idx, self.row * size + self.item_idx)
        event = np.flatnonzero(is_candidate)
        return HistoryMatches(event, candidate[event])
