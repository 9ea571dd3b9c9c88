"""Next items: probabilities of users' next products by the history model, for any set of products."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from txrec.data.prepared import Sequences
from txrec.model.history_features import History
from txrec.recommender.retrieval.retriever import BatchQueryVectors, RetrievalQuery, Retriever

MAX_EXACT, SAMPLED = 50_000, 20_000
"""Largest number of products by which probabilities are normalised; larger catalogues are sampled."""
BATCH = 256


class NextItems:
    """Probabilities of a user's next products by the history model.

    Args:
        retriever: holds the model.
        vectors: (N + 1, D) L2-normalised item vectors.
    """

    def __init__(self, retriever: Retriever, vectors: NDArray[np.float32]) -> None:
        self._retriever, self._vectors = retriever, vectors
        self._temperature = retriever.model.cfg.temperature
        rows = np.arange(1, len(vectors))
        if len(rows) > MAX_EXACT:
            rows = np.random.default_rng(0).choice(rows, SAMPLED, replace=False)
        self._others = vectors[rows]
        self._scale = (len(vectors) - 1) / max(len(rows), 1)

    def states(self, histories: Sequence[History], now_us: int) -> NDArray[np.float32]:
        """(B, D) states of users at a time, microseconds."""
        parts = [np.empty((0, self._vectors.shape[1]), np.float32)]
        for start in range(0, len(histories), BATCH):
            queries = [RetrievalQuery(history, "", now_us) for history in histories[start : start + BATCH]]
            parts.append(self._retriever.states(queries, BatchQueryVectors(self._retriever.query_encoder)))
        return np.concatenate(parts)

    def probability(self, states: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B,) probability that the next event is on products, by their (N + 1,) weights."""
        item_idx = np.flatnonzero(weights)
        own = np.exp((states @ self._vectors[item_idx].T - 1.0) / self._temperature)
        all_ = np.exp((states @ self._others.T - 1.0) / self._temperature).sum(axis=1) * self._scale
        mass: NDArray[np.float64] = own @ weights[item_idx] / np.maximum(all_, 1e-30)
        return np.minimum(mass, 1.0)


def history_of(users: Sequences, row: int) -> History:
    """The history of one user."""
    own = slice(int(users.offsets[row]), int(users.offsets[row + 1]))
    return History(users.item_idx[own], users.query_idx[own], users.event[own], users.ts[own])


def histories(users: Sequences) -> list[History]:
    """Histories of all users."""
    return [history_of(users, row) for row in range(len(users))]
