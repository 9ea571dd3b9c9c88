"""Dense source: items by inner product of their vectors with the state of the history model.

Catalogues of up to `EXACT_LIMIT` items are scanned: one product answers a whole batch, and masks are free. Larger ones
have IVF cells as well. Where too large a share of the cells would have to be searched, all items are scanned there too.
A filter that leaves few items is always answered exactly, over just those items.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from txrec.index.source import (
    NO_ITEMS,
    CatalogueUpdate,
    FitContext,
    Hits,
    Mask,
    OpenContext,
    Source,
    SourceQuery,
    distinct_masks,
)
from txrec.index.sources.ivf_scan import IvfScan
from txrec.index.sources.quantized_scan import QuantizedScan

EXACT_LIMIT = 50_000
"""Catalogues up to this size are always scanned; 100,000 x 64 take .3 ms, and .2 ms in cells around clusters."""


class Dense(Source):
    """Inner products with (N + 1, D) L2-normalised item vectors, row 0 zeros."""

    model_derived = True

    def __init__(self, vectors: NDArray[np.float32], ivf: IvfScan | None = None) -> None:
        """Takes item vectors and, for large catalogues, cells that hold them."""
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._quantized = QuantizedScan(self.vectors)
        self._ivf = ivf

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], exact_limit: int = EXACT_LIMIT) -> "Dense":
        """The source of (N + 1, D) vectors, with cells where there are more than `exact_limit` items."""
        if len(vectors) - 1 <= exact_limit:
            return cls(vectors)
        contiguous = np.ascontiguousarray(vectors, dtype=np.float32)
        return cls(contiguous, IvfScan.fit(contiguous))

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
        """The k nearest allowed items of (B, D) states; nothing for a state of zeros."""
        masks, ivf = distinct_masks(allowed), self._ivf
        if ivf is None or (not ivf.is_faster and all(mask is None or _allows_most(mask) for mask in masks)):
            return Hits.stack(self._quantized.search(states, k, allowed), k)
        rows = [NO_ITEMS] * len(states)
        for mask in masks:
            same = [row for row, one in enumerate(allowed) if one is mask]
            for row, scored in zip(same, ivf.search(states[same], k, mask), strict=True):
                rows[row] = scored
        return Hits.stack(rows, k)

    def with_items(self, update: CatalogueUpdate) -> "Dense":
        """The index with the vectors of an update's products."""
        item_idx = update.item_idx[update.vector_changed]
        return self.with_vectors(item_idx, update.vectors[item_idx]) if len(item_idx) else self

    def with_vectors(self, ids: NDArray[np.int32], vectors: NDArray[np.float32]) -> "Dense":
        """The index with (n, D) vectors of n ids: known ids get new vectors, new ids follow the last one."""
        more = int((ids >= len(self.vectors)).sum())
        grown = np.concatenate([self.vectors, np.zeros((more, self.vectors.shape[1]), np.float32)])
        grown[ids] = vectors
        index = Dense(grown, self._ivf and self._ivf.with_vectors(ids, grown))
        index._warm()
        return index

    def save(self, path: Path) -> None:
        """Writes the cells, if any; the vectors come with the model."""
        path.mkdir(parents=True, exist_ok=True)
        if self._ivf is not None:
            self._ivf.save(path)

    @classmethod
    def open(cls, path: Path, vectors: NDArray[np.float32]) -> "Dense":
        """Reads the cells of `save` for the model's item vectors."""
        contiguous = np.ascontiguousarray(vectors, dtype=np.float32)
        return cls(contiguous, IvfScan.open(path, contiguous))

    def _warm(self) -> None:
        """Makes the quantised vectors before the first search, where it needs them."""
        if self._ivf is None or not self._ivf.is_faster:
            self._quantized.warm()


def _allows_most(mask: NDArray[np.bool_]) -> bool:
    return int(np.count_nonzero(mask)) > len(mask) // 2
