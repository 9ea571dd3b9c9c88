"""Candidate source interface: a batch of requests in, item proposals out, best first, under a mask of allowed items."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec import schema

Mask = NDArray[np.bool_] | None
"""(N + 1,) True = may be proposed; None = every item may."""


class Scored(NamedTuple):
    """Items with their scores."""

    item_idx: NDArray[np.int32]  # (n,)
    scores: NDArray[np.float32]  # (n,)


NO_ITEMS = Scored(np.empty(0, np.int32), np.empty(0, np.float32))
"""Answer of a source that has nothing to propose."""


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
    """Proposals of one source for a batch."""

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
    def stack(cls, rows: Sequence[Scored], k: int) -> "Hits":
        """Pads the proposals of B requests to a common width k."""
        item_idx = np.full((len(rows), k), schema.PAD, dtype=np.int32)
        scores = np.zeros((len(rows), k), dtype=np.float32)
        for row, one in enumerate(rows):
            item_idx[row, : len(one.item_idx)] = one.item_idx[:k]
            scores[row, : len(one.item_idx)] = one.scores[:k]
        return cls(item_idx, scores)


@dataclass(frozen=True, eq=False)
class ChangedItems:
    """Products added to the catalogue or changed in it.

    Attributes:
        num_items: N, products of the catalogue after the update.
        item_idx: (n,) dense indices of the products; those of new ones follow the last one, in order.
        items: n rows of schema.PREPARED_ITEMS.
        text_changed: (n,) whether a product is new or has another title or text.
        vector_changed: (n,) whether a product is new or a column that its vector is made from changed.
    """

    num_items: int
    item_idx: NDArray[np.int32]
    items: pa.Table
    text_changed: NDArray[np.bool_]
    vector_changed: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CatalogueUpdate(ChangedItems):
    """Changed products with the vectors of the whole catalogue, as candidate sources need them.

    Attributes:
        vectors: (N + 1, D) L2-normalised item vectors.
        item_text: (N + 1, Dt) L2-normalised text vectors; None without text.
    """

    vectors: NDArray[np.float32]
    item_text: NDArray[np.float32] | None


class Source(Protocol):
    """A candidate source. Fitted by a function of its own module, then read-only."""

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k best allowed items of every request; fewer (padded) where the source knows no more."""
        ...

    def with_items(self, update: CatalogueUpdate) -> Self:
        """A source that also knows the products of an update; nothing is fitted."""
        ...

    def save(self, path: Path) -> None:
        """Writes everything that `open` of the same class needs into the directory `path`."""
        ...


def best(item_idx: NDArray[np.int32], scores: NDArray[np.float32], k: int, mask: Mask) -> Scored:
    """The k highest-scored allowed ids with their scores; ties go to the lower id, so that answers are reproducible."""
    if mask is not None:
        keep = mask[item_idx]
        item_idx, scores = item_idx[keep], scores[keep]
    if len(item_idx) > k:
        head = np.flatnonzero(scores >= bound(scores, k))
        item_idx, scores = item_idx[head], scores[head]
    order = descending(item_idx, scores)[:k]
    return Scored(item_idx[order], scores[order])


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
