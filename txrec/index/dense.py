"""Dense source: items by inner product of their vectors with the state of the history model.

Up to `EXACT_LIMIT` items all of them are looked at: one product answers a whole batch and masks cost nothing. Above it
the vectors lie in cells around k-means centres (faiss IVF, a byte a dimension): the nearest cells propose, the full
vectors decide. How many cells are looked at is found out while fitting; where it is too many a share, all items are
looked at here as well. A filter that leaves few items is always answered exactly, over just those items. Why cells:
ARCHITECTURE.md, Decisions.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

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
    bound,
)
from txrec.torch_compat import int8_matmul

EXACT_LIMIT = 50_000
"""Catalogues up to this size are always scanned; 100,000 x 64 take .3 ms, and .2 ms in cells around clusters."""
STATE_LEVELS, ITEM_LEVELS = 127, 63
"""Greatest whole numbers of a scan. Processors without VNNI saturate above 2^15 = 2 x 256 x 64."""
QUANTIZATION_MARGIN = 4.0
"""Standard errors of a product of bytes by which an item may seem too far and is looked at all the same."""
LOWEST = np.iinfo(np.int32).min
FILTERED_LIMIT = 50_000
"""Where a mask leaves at most this many items they are scored one by one."""
CELLS_PER_ROOT = 4
"""Cells = this times the root of the number of items."""
TRAINED_PER_CELL = 40
"""Items that k-means sees for each cell."""
MAX_PROBED_FRAC = 0.05
"""Where more than this share of the cells has to be looked at, all items are scanned: it is faster, and exact."""
PROPOSED = 2
"""The cells propose this many times k, because a byte a dimension blurs the order."""
LEAST_RECALL, RECALL_AT, RECALL_QUERIES = 0.992, 100, 128
"""Recall of the first 100 that decides how many cells are looked at, on states between two items each."""


class Dense(Source):
    """Inner products with (N + 1, D) L2-normalised item vectors, row 0 zeros."""

    model_derived = True

    def __init__(self, vectors: NDArray[np.float32], cells: Any = None) -> None:
        """Takes item vectors and, for large catalogues, cells that hold rows 1..n of them under their ids."""
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._cells = cells

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], exact_limit: int = EXACT_LIMIT) -> "Dense":
        """Divides the items into cells if the catalogue is too large to be scanned for every request."""
        num, dim = len(vectors) - 1, vectors.shape[1]
        if num <= exact_limit:
            return cls(vectors)
        rng = np.random.default_rng(0)
        num_cells = min(int(CELLS_PER_ROOT * num**0.5), num // TRAINED_PER_CELL + 1)
        cells = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, num_cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        source = cls(vectors, cells)
        shown = np.sort(rng.permutation(num)[: TRAINED_PER_CELL * num_cells]) + 1
        cells.train(source.vectors[shown])
        cells.add_with_ids(source.vectors[1:], np.arange(1, num + 1))
        cells.nprobe = source._enough_ivf_lists(rng)
        return source

    @classmethod
    def fit_source(cls, context: FitContext) -> "Dense":
        """The source fitted on a log."""
        return cls.fit(context.vectors)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "Dense":
        """The source that `save` wrote."""
        return cls.open(path, context.vectors)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k nearest allowed items; nothing for a request whose state is zero."""
        return self.nearest(queries.states, k, allowed)

    def nearest(self, states: NDArray[np.float32], k: int, allowed: Sequence[Mask]) -> Hits:
        """The same for bare (B, D) vectors."""
        masks = _distinct(allowed)
        if self._cells is None or (self._scans_all and all(mask is None or _leaves_most(mask) for mask in masks)):
            rows = self._scan(states, k, allowed)
        else:
            rows = [NO_ITEMS] * len(states)
            for mask in masks:
                same = [row for row, one in enumerate(allowed) if one is mask]
                for row, found in zip(same, self._filtered(states[same], k, mask), strict=True):
                    rows[row] = found
        return Hits.stack(rows, k)

    def with_items(self, update: CatalogueUpdate) -> "Dense":
        """The index with the vectors of an update's products."""
        item_idx = update.item_idx[update.vector_changed]
        return self.with_vectors(item_idx, update.vectors[item_idx]) if len(item_idx) else self

    def with_vectors(self, ids: NDArray[np.int32], vectors: NDArray[np.float32]) -> "Dense":
        """The same index with (n, D) vectors for n ids: known ones get new vectors, new ones follow the last id."""
        size = len(self.vectors)
        more = int((ids >= size).sum())
        grown = np.concatenate([self.vectors, np.zeros((more, self.vectors.shape[1]), np.float32)])
        grown[ids] = vectors
        if self._cells is None:
            return Dense(grown)._ready()
        cells = faiss.clone_index(self._cells)
        known = ids[ids < size].astype(np.int64)
        if len(known):
            cells.remove_ids(faiss.IDSelectorBatch(known))
        cells.add_with_ids(grown[ids], ids.astype(np.int64))
        return Dense(grown, cells)._ready()

    def save(self, path: Path) -> None:
        """The cells only: the vectors come with the model."""
        path.mkdir(parents=True, exist_ok=True)
        if self._cells is not None:
            faiss.write_index(self._cells, str(path / "cells.faiss"))

    @classmethod
    def open(cls, path: Path, vectors: NDArray[np.float32]) -> "Dense":
        """Reads what `save` wrote and lays it over the model's item vectors."""
        file = path / "cells.faiss"
        return cls(vectors, faiss.read_index(str(file)) if file.is_file() else None)

    def _scan(self, states: NDArray[np.float32], k: int, allowed: Sequence[Mask]) -> list[Scored]:
        """The k best of all items that each mask allows.

        Products of bytes, in an eighth of the time, leave out what is further off than their error explains; the full
        vectors decide about the rest.
        """
        (items, item_step), (asked, step) = self._bytes, _as_bytes(states, STATE_LEVELS)
        coarse = int8_matmul(asked, items.T).numpy()
        doubt = round(QUANTIZATION_MARGIN * ((step**-2 + item_step**-2) / 12) ** 0.5)  # rounding errors are uniform
        for mask in _distinct(allowed):
            if mask is not None:
                same = np.flatnonzero([one is mask for one in allowed])
                coarse[np.ix_(same, np.flatnonzero(~mask))] = LOWEST
        rows = []
        for state, scores, mask in zip(states, coarse, allowed, strict=True):
            ids = _nearly_best(scores, k, doubt) if state.any() else NO_ITEMS.item_idx
            ids = ids if mask is None else ids[mask[ids]]
            rows.append(best(ids, self.vectors.take(ids, axis=0) @ state, k, None))
        return rows

    @property
    def _scans_all(self) -> bool:
        """Whether a scan finds what there is sooner than the cells."""
        return bool(self._cells.nprobe > MAX_PROBED_FRAC * self._cells.nlist)

    @cached_property
    def _bytes(self) -> tuple[torch.Tensor, float]:
        return _as_bytes(self.vectors, ITEM_LEVELS)

    def _ready(self) -> "Dense":
        """Makes now what the first search would wait for."""
        if self._cells is None or self._scans_all:
            _ = self._bytes
        return self

    def _filtered(self, states: NDArray[np.float32], k: int, mask: Mask) -> list[Scored]:
        """The k best of what one mask allows, for many states."""
        if mask is None:
            return self._nearest_cells(states, k, self._cells.nprobe)
        count = int(np.count_nonzero(mask[1:]))
        found = [NO_ITEMS] * len(states)
        if count > FILTERED_LIMIT:
            bits = np.packbits(mask, bitorder="little")
            more = self._cells.nprobe * len(mask) // count  # the k-th allowed item lies that much further out
            found = self._nearest_cells(states, k, more, faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits)))
        ids = None
        for row, state in enumerate(states):
            if len(found[row][0]) < min(k, count) and state.any():
                ids = _allowed_ids(mask) if ids is None else ids
                found[row] = best(ids, self.vectors[ids] @ state, k, None)  # few, or in cells not looked at
        return found

    def _nearest_cells(self, states: NDArray[np.float32], k: int, num_cells: int, selector: Any = None) -> list[Scored]:
        """The k best of what the cells nearest to each state propose, scored by the full vectors."""
        parameters: Any = faiss.SearchParametersIVF(nprobe=num_cells, sel=selector)  # type: ignore[call-arg]
        _, proposed = self._cells.search(states, PROPOSED * k, params=parameters)
        rows = []
        for state, found in zip(states, proposed, strict=True):
            ids = found[found > 0].astype(np.int32) if state.any() else NO_ITEMS.item_idx
            rows.append(best(ids, self.vectors[ids] @ state, k, None))
        return rows

    def _enough_ivf_lists(self, rng: np.random.Generator) -> int:
        """The least number of cells, in steps of a quarter, whose items hold LEAST_RECALL of the nearest ones."""
        pairs = self.vectors[rng.integers(1, len(self.vectors), (RECALL_QUERIES, 2))]
        states = pairs[:, 0] + rng.uniform(0.0, 0.7, (RECALL_QUERIES, 1)).astype(np.float32) * pairs[:, 1]
        k = min(RECALL_AT, len(self.vectors) - 1)
        right = np.concatenate([_first(part @ self.vectors[1:].T, k) + 1 for part in np.array_split(states, 8)])
        count = 4
        while count < self._cells.nlist:
            rows = self._nearest_cells(states, k, count)
            recall = np.mean([len(np.intersect1d(ids, b)) / k for (ids, _), b in zip(rows, right, strict=True)])
            if recall >= LEAST_RECALL:
                return count
            count += max(count // 4, 1)
        return int(self._cells.nlist)


def _first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _as_bytes(vectors: NDArray[np.float32], levels: int) -> tuple[torch.Tensor, float]:
    """Vectors as whole numbers from -levels to levels, and what 1 stands for."""
    step = max(float(np.abs(vectors).max(initial=0.0)), 1e-9) / levels
    scaled = vectors / np.float32(step)
    return torch.from_numpy(np.rint(scaled, out=scaled).astype(np.int8)), step


def _nearly_best(scores: NDArray[np.int32], k: int, doubt: int) -> NDArray[np.int32]:
    """Ids from 1 on whose score is among the k highest, or less than that by `doubt` at most; ascending."""
    if len(scores) - 1 <= k:
        return np.arange(1, len(scores), dtype=np.int32)
    near: NDArray[np.int64] = np.flatnonzero(scores[1:] >= bound(scores[1:], k) - doubt)
    return (near + 1).astype(np.int32)


def _distinct(allowed: Sequence[Mask]) -> list[Mask]:
    return list({id(mask): mask for mask in allowed}.values())


def _leaves_most(mask: NDArray[np.bool_]) -> bool:
    return int(np.count_nonzero(mask)) > len(mask) // 2


def _allowed_ids(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    ids = np.flatnonzero(mask).astype(np.int32)
    return ids[ids > 0]
