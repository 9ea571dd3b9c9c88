"""What the history model expects next: the items whose vectors are most alike to the state.

Up to `EXACT_LIMIT` items the exact product is used: one matrix product answers a whole batch and masks cost nothing.
Above it, an HNSW graph (faiss) proposes for single requests. A filter that leaves few items is always answered
exactly, over just those items.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from txrec.index.source import NOTHING, Hits, Mask, SourceQuery, best

EXACT_LIMIT = 200_000
"""Catalogues up to this size are searched exactly; not yet measured on a quiet machine (bench/retrieval.py)."""
FILTERED_LIMIT = 50_000
"""Where a mask leaves at most this many items they are scored one by one."""
HNSW_LINKS = 32
EF_CONSTRUCTION = 200
EF_SEARCH = 256


class Dense:
    """Inner products with (N + 1, D) L2-normalised item vectors, row 0 zeros."""

    def __init__(self, vectors: NDArray[np.float32], graph: Any = None) -> None:
        """Takes item vectors and, for large catalogues, a graph over rows 1..n of them."""
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._graph = graph

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], exact_limit: int = EXACT_LIMIT) -> "Dense":
        """Builds the graph if the catalogue is too large to be scanned for every request."""
        if len(vectors) - 1 <= exact_limit:
            return cls(vectors)
        graph = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        graph.add(np.ascontiguousarray(vectors[1:], dtype=np.float32))
        return cls(vectors, graph)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k nearest allowed items; nothing for a request whose state is zero."""
        return self.nearest(queries.states, k, allowed)

    def nearest(self, states: NDArray[np.float32], k: int, allowed: Sequence[Mask]) -> Hits:
        """The same for bare (B, D) vectors."""
        if self._graph is None:
            scores = states @ self.vectors.T
            rows = [self._exact(row, state, k, mask) for row, state, mask in zip(scores, states, allowed, strict=True)]
        else:
            rows = [self._approximate(state, k, mask) for state, mask in zip(states, allowed, strict=True)]
        return Hits.stack(rows, k)

    def extended(self, vectors: NDArray[np.float32]) -> "Dense":
        """The same index with (n, D) vectors of new items after the last id."""
        if self._graph is None:
            return Dense(np.concatenate([self.vectors, vectors]))
        graph = faiss.clone_index(self._graph)
        graph.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return Dense(np.concatenate([self.vectors, vectors]), graph)

    def save(self, path: Path) -> None:
        """The graph only: the vectors come with the model."""
        path.mkdir(parents=True, exist_ok=True)
        if self._graph is not None:
            faiss.write_index(self._graph, str(path / "graph.faiss"))

    @classmethod
    def open(cls, path: Path, vectors: NDArray[np.float32]) -> "Dense":
        """Reads what `save` wrote and lays it over the model's item vectors."""
        file = path / "graph.faiss"
        return cls(vectors, faiss.read_index(str(file)) if file.is_file() else None)

    def _exact(
        self, scores: NDArray[np.float32], state: NDArray[np.float32], k: int, mask: Mask
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if not state.any():
            return NOTHING
        ids = np.arange(1, len(scores), dtype=np.int32) if mask is None else _allowed_ids(mask)
        return best(ids, scores[ids], k, None)

    def _approximate(
        self, state: NDArray[np.float32], k: int, mask: Mask
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if not state.any():
            return NOTHING
        if mask is None:
            return self._walk(state, k, None)
        ids = _allowed_ids(mask)
        if len(ids) <= FILTERED_LIMIT:
            return best(ids, self.vectors[ids] @ state, k, None)
        found, scores = self._walk(state, k, faiss.IDSelectorBatch(ids.astype(np.int64) - 1))
        if len(found) >= min(k, len(ids)):
            return found, scores
        return best(ids, self.vectors[ids] @ state, k, None)  # the graph missed some of a scattered subset

    def _walk(self, state: NDArray[np.float32], k: int, selector: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        parameters = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
            efSearch=max(EF_SEARCH, 2 * k), sel=selector
        )
        scores, rows = self._graph.search(state[None, :], k, params=parameters)
        found = rows[0] >= 0
        return (rows[0][found] + 1).astype(np.int32), scores[0][found]


def _allowed_ids(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    ids = np.flatnonzero(mask).astype(np.int32)
    return ids[ids > 0]
