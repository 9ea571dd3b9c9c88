"""Co-visitation source: time-decayed counts of item pairs within a few steps of one user's history."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec.arrays import sorted_index
from txrec.index.array_files import load_arrays, pack, save_arrays, unpack
from txrec.index.live_log import LiveLog
from txrec.index.source import (
    NO_ITEMS,
    CatalogueUpdate,
    FitContext,
    Hits,
    Mask,
    OpenContext,
    Scored,
    Source,
    SourceQuery,
    best,
)
from txrec.index.training_log import EventLog

WINDOW = 10
"""Steps of a history within which two items are taken to belong together."""
MAX_NEIGHBOURS = 200
"""Neighbours kept per item."""
HISTORY = 20
"""Last items of a history that vote; the weight halves every five steps back."""


class Covisitation(Source):
    """Sparse item-item affinities; a history's items vote for their neighbours."""

    def __init__(self, affinity: sp.csr_array) -> None:
        """Takes (N + 1, N + 1) affinities, row = the item that was seen."""
        self.affinity = _narrow(affinity)
        self._live: sp.csr_array | None = None

    @classmethod
    def fit(cls, log: EventLog, num_items: int, half_life_days: float) -> "Covisitation":
        """Counts pairs 1..WINDOW steps apart, nearer ones more, and divides by the roots of both items' totals."""
        pairs, counts = _pairs(log, num_items, half_life_days)
        return cls(_keep_best(_scaled(pairs, counts), MAX_NEIGHBOURS))

    @classmethod
    def fit_source(cls, context: FitContext) -> "Covisitation":
        """The source fitted on a log."""
        return cls.fit(context.log, context.data.meta.num_items, context.config.half_life_days)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "Covisitation":  # noqa: ARG003
        """The source that `save` wrote."""
        return cls.open(path)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """Sums the neighbours of the last items, the last one most."""
        votes = self._votes(queries.items)
        rows = [
            best(votes.indices[start:end], votes.data[start:end], k, mask)
            for (start, end), mask in zip(pairwise(votes.indptr.tolist()), allowed, strict=True)
        ]
        return Hits.stack(rows, k)

    def neighbours(self, item_idx: int) -> Scored:
        """One item's neighbours with their affinities, in no order."""
        fitted = _row(self.affinity, item_idx)
        live = NO_ITEMS if self._live is None else _row(self._live, item_idx)
        if not len(live.item_idx):
            return fitted
        ids, place = np.unique(np.concatenate([fitted.item_idx, live.item_idx]), return_inverse=True)
        scores = np.bincount(place, weights=np.concatenate([fitted.scores, live.scores]))
        return Scored(ids.astype(np.int32), scores.astype(np.float32))

    def affinities(self, item: int, item_idx: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K,) affinities of K items with an item of the history, 0 where they are no neighbours."""
        neighbours = self.neighbours(item)
        if not len(neighbours.item_idx):
            return np.zeros(len(item_idx), np.float32)
        index, known = sorted_index(neighbours.item_idx, item_idx)
        return np.where(known, neighbours.scores[index], np.float32(0))

    def history_reason(self, past: Sequence[int], item: int, name: Callable[[int], str]) -> str | None:
        """The past item with the greatest affinity."""
        one = np.array([item], np.int32)
        affinity = [float(self.affinities(other, one)[0]) for other in past[:HISTORY]]
        return f"goes with {name(past[int(np.argmax(affinity))])}" if any(affinity) else None

    def with_items(self, update: CatalogueUpdate) -> "Covisitation":  # noqa: ARG002
        """The source as it is: new products have no pairs yet."""
        return self

    def with_live(self, live: LiveLog) -> "Covisitation":
        """The source with live pairs next to the fitted ones, both scaled by all events of the items."""
        pairs, counts = _pairs(live.log, live.num_items, live.half_life_days)
        source = copy.copy(self)
        source._live = _narrow(_keep_best(_scaled(pairs, counts + live.popularity), MAX_NEIGHBOURS))
        return source

    def save(self, path: Path) -> None:
        """One sparse matrix."""
        save_arrays(path / "covisitation.safetensors", pack("affinity", self.affinity))

    @classmethod
    def open(cls, path: Path) -> "Covisitation":
        """Reads the file of `save`."""
        return cls(unpack("affinity", load_arrays(path / "covisitation.safetensors")))

    def _votes(self, histories: Sequence[NDArray[np.int32]]) -> sp.csr_array:
        """(B, N + 1) score of each item for each history."""
        votes = self._votes_in(self.affinity, histories)
        if self._live is None:
            return votes
        votes.resize((votes.shape[0], self._live.shape[0]))
        return _narrow(sp.csr_array(votes + self._votes_in(self._live, histories)))

    @staticmethod
    def _votes_in(affinity: sp.csr_array, histories: Sequence[NDArray[np.int32]]) -> sp.csr_array:
        size = affinity.shape[0]
        recent = [items[-HISTORY:] for items in histories]
        ends = np.cumsum([0, *(len(items) for items in recent)])
        items = np.concatenate(recent) if recent else np.empty(0, np.int32)
        steps = np.repeat(ends[1:], np.diff(ends)) - 1 - np.arange(len(items))  # back from the last one
        weight = np.where(items < size, 0.5 ** (steps / 5), 0.0).astype(np.float32)  # nothing is known of newer items
        weights = sp.csr_array((weight, np.where(items < size, items, 0), ends), shape=(len(recent), size))
        return _narrow(_narrow(weights) @ affinity)


def _pairs(log: EventLog, num_items: int, half_life_days: float) -> tuple[sp.csr_array, NDArray[np.floating[Any]]]:
    """(N + 1, N + 1) weighted pairs of items, row = the item that was seen, and (N + 1,) weighted events."""
    weights = log.weights(half_life_days)
    shape = (num_items + 1, num_items + 1)
    pairs = sp.csr_array(shape, dtype=np.float32)
    for step in range(1, min(WINDOW, max(len(log) - 1, 0)) + 1):
        together = (log.user_idx[step:] == log.user_idx[:-step]) & (log.item_idx[step:] != log.item_idx[:-step])
        first, second = log.item_idx[:-step][together], log.item_idx[step:][together]
        weight = weights[step:][together] / (1.0 + step)
        pairs = pairs + sp.coo_array((weight, (first, second)), shape=shape).tocsr()
    pairs = (pairs + 0.5 * pairs.T).tocsr()  # items that followed count twice as much as items before
    return pairs, np.bincount(log.item_idx, weights=weights, minlength=num_items + 1).astype(np.float64)


def _narrow(matrix: sp.csr_array) -> sp.csr_array:
    """The same matrix with 32-bit indices where they suffice, as for all but the largest catalogues."""
    if max(matrix.nnz, *matrix.shape) < np.iinfo(np.int32).max:
        matrix.indices, matrix.indptr = (
            matrix.indices.astype(np.int32, copy=False),
            matrix.indptr.astype(np.int32, copy=False),
        )
    return matrix


def _row(matrix: sp.csr_array, row: int) -> Scored:
    if row >= matrix.shape[0]:
        return NO_ITEMS
    start, end = matrix.indptr[row], matrix.indptr[row + 1]
    return Scored(matrix.indices[start:end], matrix.data[start:end])


def _scaled(pairs: sp.csr_array, counts: NDArray[np.floating[Any]]) -> sp.csr_array:
    root = sp.diags_array(1.0 / np.sqrt(np.maximum(counts, 1e-6)), dtype=np.float32)
    return sp.csr_array(root @ pairs @ root)


def _keep_best(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Keeps the k largest entries of every row."""
    matrix = matrix.tocsr()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, row))
    place = np.arange(len(order)) - matrix.indptr[row[order]]
    kept = order[place < k]
    entries = (matrix.data[kept].astype(np.float32), (row[kept], matrix.indices[kept]))
    return sp.coo_array(entries, shape=matrix.shape).tocsr()
