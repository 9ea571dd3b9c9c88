"""Cold-start source: items without interactions in the log, by similarity to the user's state and history.

Counts do not cover them and an average product beats most of them, so other sources hardly propose them. In this source
they compete with each other; a share of the candidates is reserved for it (`ReservedSlots`), and the ranker learns how
often new products are chosen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from txrec.config import Config
from txrec.index.array_files import load_arrays, save_arrays
from txrec.index.rank_fusion import ReservedSlots
from txrec.index.source import CatalogueUpdate, FitContext, Hits, Mask, OpenContext, Source, SourceQuery, best
from txrec.index.sources.dense import Dense
from txrec.index.training_log import EventLog

NAME = "new_items"
HISTORY = 200
"""Last items of a history that candidates are compared with."""

PROPOSED = 200
"""Maximum of proposed new products; few more are needed than there are reserved slots."""


class NewItems(Source):
    """New products by similarity to the state and, without a query, to the items of the user's history.

    Similarity is the mean of three cosines: with the state, with the nearest item of the history, and with the nearest
    text of the history. Item vectors are close for items that are bought together; texts are not.
    """

    model_derived = True
    proposal_reason = "new"

    def __init__(
        self,
        ids: NDArray[np.int32],
        dense: Dense,
        vectors: NDArray[np.float32],
        texts: NDArray[np.float32] | None,
    ) -> None:
        """Takes new products.

        Args:
            ids: (A,) dense indices, ascending.
            dense: row i holds the vector of ids[i - 1], row 0 zeros.
            vectors: (N + 1, D) L2-normalised item vectors of the catalogue; products that follow it will be new.
            texts: (N + 1, Dt) L2-normalised text vectors; None without text, and likeness is the mean of two.
        """
        self.item_idx = ids
        self._rows = np.append(0, ids).astype(np.int32)
        self._dense = dense
        self._vectors = vectors
        self._texts = texts

    @classmethod
    def fit(
        cls,
        log: EventLog,
        vectors: NDArray[np.float32],
        texts: NDArray[np.float32] | None,
        absent: NDArray[np.bool_] | None = None,
    ) -> "NewItems":
        """Finds the products without events; none where there is no log to be new to.

        Args:
            log: the events that may be seen.
            vectors: (N + 1, D) L2-normalised item vectors.
            texts: (N + 1, Dt) L2-normalised text vectors; None without text.
            absent: (N + 1,) products known not to be on sale yet when the log ends; None = no such knowledge.
        """
        new = np.bincount(log.item_idx, minlength=len(vectors)) == 0
        new[0] = False
        if absent is not None:
            new &= ~absent
        ids = np.flatnonzero(new & (len(log) > 0)).astype(np.int32)
        return cls(ids, Dense.fit(_of(ids, vectors)), vectors, texts)

    @classmethod
    def fit_source(cls, context: FitContext) -> "NewItems":
        """The source fitted on a log."""
        return cls.fit(context.log, context.vectors, context.item_text, context.absent)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "NewItems":
        """The source that `save` wrote."""
        return cls.open(path, context.vectors, context.item_text)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k best allowed new products of those nearest to the state; nothing for a request whose state is zero."""
        k = min(k, PROPOSED)
        masks = {id(mask): mask for mask in allowed}  # masks that requests share stay shared
        narrowed = {key: None if mask is None else mask[self._rows] for key, mask in masks.items()}
        nearest_hits = self._dense.nearest(queries.states, k, [narrowed[id(mask)] for mask in allowed])
        rows = []
        for text, history, near, scores in zip(
            queries.texts, queries.items, nearest_hits.item_idx, nearest_hits.scores, strict=True
        ):
            ids, cosine = self._rows[near[near > 0]], scores[near > 0]
            if not text and len(history) and len(ids):
                tables = [self._vectors] if self._texts is None else [self._vectors, self._texts]
                nearest = [(of[ids] @ of[history[-HISTORY:]].T).max(axis=1) for of in tables]
                cosine = np.mean([cosine, *nearest], axis=0)
            rows.append(best(ids, cosine, k, None))
        return Hits.stack(rows, k)

    @property
    def num_reservable(self) -> int:
        """New products."""
        return len(self.item_idx)

    def with_items(self, update: CatalogueUpdate) -> "NewItems":
        """The source over the updated catalogue; products after the last one are new."""
        ids, vectors = update.item_idx[update.vector_changed], update.vectors
        if not len(ids):
            return self
        rows = np.append(self._rows, np.sort(ids[ids >= len(self._vectors)]))
        changed = ids[np.isin(ids, rows)]
        places = np.searchsorted(rows, changed).astype(np.int32)
        return NewItems(rows[1:], self._dense.with_vectors(places, vectors[changed]), vectors, update.item_text)

    def save(self, path: Path) -> None:
        """The ids and, of many, their cells; the vectors come with the model and the text encoder."""
        self._dense.save(path)
        save_arrays(path / "new_items.safetensors", {"ids": self.item_idx})

    @classmethod
    def open(cls, path: Path, vectors: NDArray[np.float32], texts: NDArray[np.float32] | None) -> "NewItems":
        """Reads the files of `save`, for the (N + 1, D) item and (N + 1, Dt) text vectors."""
        ids = load_arrays(path / "new_items.safetensors")["ids"]
        return cls(ids, Dense.open(path, _of(ids, vectors)), vectors, texts)


def reserved_slots(config: Config, names: Sequence[str]) -> ReservedSlots | None:
    """The places of new_items among the first `ranker.num_candidates`; None where they are no source."""
    if NAME not in names:
        return None
    within = config.ranker.num_candidates
    return ReservedSlots(list(names).index(NAME), round(config.retrieval.new_items_frac * within), within)


def _of(ids: NDArray[np.int32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(A + 1, D) vectors of some items, row 0 that of PAD."""
    rows: NDArray[np.float32] = vectors[np.append(0, ids)]
    return rows
