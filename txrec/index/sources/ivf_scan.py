"""IVF scan: approximate k nearest vectors by inner product, from the faiss cells nearest to a state."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from txrec.index.source import NO_ITEMS, Mask, Scored, best

FILE = "cells.faiss"
FILTERED_LIMIT = 50_000
"""Masks that allow at most this many items are answered exactly, item by item."""
CELLS_PER_ROOT = 4
"""Number of cells, in units of the root of the number of items."""
TRAINED_PER_CELL = 40
"""Items per cell that k-means is trained on."""
MAX_PROBED_FRAC = 0.05
"""Share of the cells above which a scan of all items is faster, and exact."""
PROPOSED = 2
"""The cells propose this many times k, because 8 bits per dimension blur the order."""
MIN_RECALL, RECALL_AT, RECALL_QUERIES = 0.992, 100, 128
"""Recall of the first 100 that decides how many cells are searched, on states between two items each."""


class IvfScan:
    """Cells around k-means centres (faiss IVF, 8 bits per dimension) that hold the rows 1..N of (N + 1, D) vectors."""

    def __init__(self, vectors: NDArray[np.float32], cells: Any) -> None:
        """Takes L2-normalised vectors, row 0 zeros, and the faiss index that holds them under their ids."""
        self.vectors = vectors
        self._cells = cells

    @classmethod
    def fit(cls, vectors: NDArray[np.float32]) -> "IvfScan":
        """Trains the cells, and finds how many of them a search needs."""
        num, dim = len(vectors) - 1, vectors.shape[1]
        rng = np.random.default_rng(0)
        num_cells = min(int(CELLS_PER_ROOT * num**0.5), num // TRAINED_PER_CELL + 1)
        cells = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, num_cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.sort(rng.permutation(num)[: TRAINED_PER_CELL * num_cells]) + 1
        cells.train(vectors[sample])
        cells.add_with_ids(vectors[1:], np.arange(1, num + 1))
        scan = cls(vectors, cells)
        cells.nprobe = scan._enough_ivf_lists(rng)
        return scan

    @property
    def is_faster(self) -> bool:
        """True where a search without a mask is faster than a scan of all items."""
        return bool(self._cells.nprobe <= MAX_PROBED_FRAC * self._cells.nlist)

    def search(self, states: NDArray[np.float32], k: int, mask: Mask) -> list[Scored]:
        """The k best items of each state among those that one mask allows; none for a state of zeros.

        Args:
            states: (B, D).
            k: at most this many items per state.
            mask: (N + 1,), None = all items.
        """
        if mask is None:
            return self._nearest_cells(states, k, self._cells.nprobe)
        count = int(np.count_nonzero(mask[1:]))
        rows = [NO_ITEMS] * len(states)
        if count > FILTERED_LIMIT:
            bits = np.packbits(mask, bitorder="little")
            num_cells = self._cells.nprobe * len(mask) // count  # the k-th allowed item lies that much further out
            rows = self._nearest_cells(states, k, num_cells, faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits)))
        ids = None
        for row, state in enumerate(states):
            if len(rows[row][0]) < min(k, count) and state.any():  # few items, or in cells that were not searched
                ids = _allowed_ids(mask) if ids is None else ids
                rows[row] = best(ids, self.vectors[ids] @ state, k, None)
        return rows

    def with_vectors(self, ids: NDArray[np.int32], vectors: NDArray[np.float32]) -> "IvfScan":
        """The same with changed and new items.

        Args:
            ids: (n,) items that changed or are new.
            vectors: (N' + 1, D) of all items.
        """
        cells = faiss.clone_index(self._cells)
        existing = ids[ids < len(self.vectors)].astype(np.int64)
        if len(existing):
            cells.remove_ids(faiss.IDSelectorBatch(existing))
        cells.add_with_ids(vectors[ids], ids.astype(np.int64))
        return IvfScan(vectors, cells)

    def save(self, path: Path) -> None:
        """Writes the cells into a folder, without the vectors."""
        faiss.write_index(self._cells, str(path / FILE))

    @classmethod
    def open(cls, path: Path, vectors: NDArray[np.float32]) -> "IvfScan | None":
        """Reads the cells of `save` over the same vectors; None where there are none."""
        file = path / FILE
        return cls(vectors, faiss.read_index(str(file))) if file.is_file() else None

    def _nearest_cells(self, states: NDArray[np.float32], k: int, num_cells: int, selector: Any = None) -> list[Scored]:
        """The k best items that the cells nearest to each state propose, scored by the full vectors."""
        parameters: Any = faiss.SearchParametersIVF(nprobe=num_cells, sel=selector)  # type: ignore[call-arg]
        _, proposed = self._cells.search(states, PROPOSED * k, params=parameters)
        rows = []
        for state, labels in zip(states, proposed, strict=True):
            ids = labels[labels > 0].astype(np.int32) if state.any() else NO_ITEMS.item_idx
            rows.append(best(ids, self.vectors[ids] @ state, k, None))
        return rows

    def _enough_ivf_lists(self, rng: np.random.Generator) -> int:
        """The least number of cells, in steps of a quarter, whose items hold MIN_RECALL of the nearest ones."""
        pairs = self.vectors[rng.integers(1, len(self.vectors), (RECALL_QUERIES, 2))]
        states = pairs[:, 0] + rng.uniform(0.0, 0.7, (RECALL_QUERIES, 1)).astype(np.float32) * pairs[:, 1]
        k = min(RECALL_AT, len(self.vectors) - 1)
        exact = np.concatenate([_first(part @ self.vectors[1:].T, k) + 1 for part in np.array_split(states, 8)])
        count = 4
        while count < self._cells.nlist:
            rows = self._nearest_cells(states, k, count)
            recall = np.mean([len(np.intersect1d(ids, b)) / k for (ids, _), b in zip(rows, exact, strict=True)])
            if recall >= MIN_RECALL:
                return count
            count += max(count // 4, 1)
        return int(self._cells.nlist)


def _first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _allowed_ids(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    ids = np.flatnonzero(mask).astype(np.int32)
    return ids[ids > 0]
