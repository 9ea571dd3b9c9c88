"""What a candidate source is: something that proposes items for a batch of requests, best first, under a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from txrec import schema

Mask = NDArray[np.bool_] | None
"""(N + 1,) True = may be proposed; None = every item may."""


@dataclass(frozen=True, eq=False)
class SourceQuery:
    """A batch of B requests, as sources need them."""

    texts: Sequence[str]
    """(B,) normalised search texts, empty = none."""
    states: NDArray[np.float32]
    """(B, D) L2-normalised states; rows of zeros where there is neither history nor query."""
    items: Sequence[NDArray[np.int32]]
    """(B,) items of the history, oldest first."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class Hits:
    """What one source proposes for a batch."""

    item_idx: NDArray[np.int32]
    """(B, k) best first, filled up with PAD."""
    scores: NDArray[np.float32]
    """(B, k) the source's own score, 0 where PAD."""

    @cached_property
    def counts(self) -> list[int]:
        """(B,) items proposed for each request."""
        found: list[int] = np.count_nonzero(self.item_idx != schema.PAD, axis=1).tolist()
        return found

    @classmethod
    def stack(cls, rows: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], k: int) -> "Hits":
        """Pads one (ids, scores) pair a request to a common width k."""
        ids = np.full((len(rows), k), schema.PAD, dtype=np.int32)
        scores = np.zeros((len(rows), k), dtype=np.float32)
        for row, (found, values) in enumerate(rows):
            ids[row, : len(found)] = found[:k]
            scores[row, : len(found)] = values[:k]
        return cls(ids, scores)


class Source(Protocol):
    """A candidate source. Fitted by a function of its own module, then read-only."""

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k best allowed items of every request; fewer (padded) where the source knows no more."""
        ...

    def save(self, path: Path) -> None:
        """Writes everything that `open` of the same class needs into the directory `path`."""
        ...


NOTHING: tuple[NDArray[np.int32], NDArray[np.float32]] = (np.empty(0, np.int32), np.empty(0, np.float32))
"""The answer of a source that has nothing to propose."""


def best(
    item_idx: NDArray[np.int32], scores: NDArray[np.float32], k: int, mask: Mask
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k highest-scored allowed ids with their scores; ties go to the lower id, so that answers are reproducible."""
    if mask is not None:
        keep = mask[item_idx]
        item_idx, scores = item_idx[keep], scores[keep]
    if len(item_idx) > k:
        head = np.flatnonzero(scores >= bound(scores, k))
        item_idx, scores = item_idx[head], scores[head]
    order = descending(item_idx, scores)[:k]
    return item_idx[order], scores[order]


def descending(ids: NDArray[np.int32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places by score, the highest first, ties by id, the lowest first.

    Both make one whole number of 64 bits, for which NumPy has vector instructions: 18 us for 600 items, 28 by two keys.
    """
    bits = (scores + np.float32(0.0)).view(np.int32)  # of positive numbers in their order, of others backwards; no -0
    falling = np.where(bits < 0, bits & np.iinfo(np.int32).max, ~bits)
    return np.argsort((falling.astype(np.int64) << 32) | ids)


def bound(scores: NDArray[Any], k: int) -> float:
    """What the k highest of more than k scores reach, and few others.

    Of many scores it is the k-th highest of the maxima of 3 k groups, found 20 times as fast as the k-th highest itself
    and reached by a fifth more.
    """
    size = len(scores) // (3 * k)
    if size > 1:
        num_groups = len(scores) // size
        scores = scores[: size * num_groups].reshape(size, num_groups).max(axis=0)
    kth: float = np.partition(scores, len(scores) - k)[len(scores) - k].item()
    return kth
