"""From a history and a query to candidates: encode once for the batch, ask every source, fuse.

Everything is in dense indices here; `recommender.py` translates from and to the shop's own. Training of the ranker,
evaluation and serving all retrieve through this one class.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from txrec import schema
from txrec.index.arrivals import NAME as ARRIVALS
from txrec.index.arrivals import Arrivals
from txrec.index.dense import Dense
from txrec.index.fuse import Fused, Fusion, Reserved, fuse
from txrec.index.popularity import Popularity
from txrec.index.source import Mask, Source, SourceQuery
from txrec.model.history_features import History, collate
from txrec.model.item_encoder import ItemFeatures
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import TextEncoder
from txrec.recommender.steps import Steps, complete
from txrec.recommender.types import Candidates, Request

FUSED_IN_A_STEP = 4
"""Requests whose candidates are fused in one step of `Retriever.retrieve_in_steps`."""
NO_REQUEST = Request()
NO_HISTORY = History(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int64))


class QueryTexts:
    """Text vectors of queries: those of the data set by their dense index, any other by the encoder."""

    def __init__(
        self,
        known: Sequence[str],
        vectors: NDArray[np.float32] | None,
        encoder: TextEncoder | None,
        cache: int = 10_000,
    ) -> None:
        """Takes the data set's queries with their (Q + 1, Dt) vectors, or None where the text encoder is off."""
        self.names = ("", *known)  # (Q + 1,) by dense query id
        self.rows = {text: row for row, text in enumerate(known, start=1)}
        self.vectors = np.zeros((len(self.rows) + 1, 1), np.float32) if vectors is None else vectors
        self.has_vectors = vectors is not None
        self._encoder = encoder
        self._encoded = lru_cache(maxsize=cache)(self._encode)

    def vector(self, text: str) -> NDArray[np.float32]:
        """(Dt,) vector of a normalised text; zeros for an empty one."""
        row = self.rows.get(text)
        if row is not None:
            known: NDArray[np.float32] = self.vectors[row]
            return known
        found: NDArray[np.float32] = self._encoded(text)
        return found

    @property
    def num_encoded(self) -> int:
        """Texts so far whose vectors were not at hand."""
        return self._encoded.cache_info().misses

    def _encode(self, text: str) -> NDArray[np.float32]:
        if not text or self._encoder is None:
            return np.zeros(self.vectors.shape[1], np.float32)
        vector: NDArray[np.float32] = self._encoder.encode([text])[0]
        return vector


class QueryBook:
    """Rows for the queries of one batch: the data set's own ids, and fresh ones after them for new texts."""

    def __init__(self, texts: QueryTexts) -> None:
        self._texts = texts
        self._first_new = len(texts.vectors)
        self._new: dict[str, int] = {}

    def row(self, text: str) -> int:
        """The row of a normalised text, PAD for an empty one."""
        if not text:
            return schema.PAD
        return self._texts.rows.get(text) or self._new.setdefault(text, self._first_new + len(self._new))

    def compact(self, rows: Sequence[NDArray[np.int32]]) -> tuple[list[NDArray[np.int32]], NDArray[np.float32]]:
        """Renumbers rows into a table of just the vectors that are used, row 0 zeros."""
        used = np.unique(np.concatenate([np.zeros(1, np.int32), *rows]))
        vectors = self._texts.vectors[np.where(used < self._first_new, used, schema.PAD)]
        new = {row: text for text, row in self._new.items()}
        for place in np.flatnonzero(used >= self._first_new):
            vectors[place] = self._texts.vector(new[int(used[place])])
        vectors[0] = 0.0
        return [np.searchsorted(used, part).astype(np.int32) for part in rows], vectors


@dataclass(frozen=True, eq=False)
class Question:
    """A request in dense indices."""

    history: History
    query: str = ""
    """Normalised search text, empty = none."""
    now_us: int = 0
    mask: Mask = None
    request: Request = NO_REQUEST
    fallback: str | None = None
    notes: tuple[str, ...] = ()


class Retriever:
    """The candidate sources behind one question."""

    def __init__(
        self,
        model: RetrievalModel,
        texts: QueryTexts,
        sources: Mapping[str, Source],
        fusion: Fusion,
        num_candidates: int,
        reserved: Reserved | None = None,
    ) -> None:
        """Takes a trained model and fitted sources; `dense` and `popularity` are always among them.

        Args:
            model: encodes histories.
            texts: vectors of queries.
            sources: by name, in order of trust.
            fusion: their weights.
            num_candidates: most candidates of a request.
            reserved: places that one of them has for certain.
        """
        self.model = model.eval()
        self.texts = texts
        self.sources = dict(sources)
        self.fusion = fusion
        self.num_candidates = num_candidates
        self.reserved = reserved
        with torch.no_grad():
            self._inputs = model.encoder.all()  # what the decoder reads, not normalised

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources in order of trust."""
        return tuple(self.sources)

    @property
    def dense(self) -> Dense:
        """The dense source."""
        source = self.sources["dense"]
        assert isinstance(source, Dense)
        return source

    @property
    def popularity(self) -> Popularity:
        """The popularity source."""
        source = self.sources["popularity"]
        assert isinstance(source, Popularity)
        return source

    def retrieve(self, questions: Sequence[Question], book: QueryBook | None = None) -> list[Candidates]:
        """Candidates of every question, best first; one encoding and one search a source for the whole batch."""
        return complete(self.retrieve_in_steps(questions, book))

    def retrieve_in_steps(
        self, questions: Sequence[Question], book: QueryBook | None = None
    ) -> Steps[list[Candidates]]:
        """`retrieve` in steps of a millisecond or two."""
        if not questions:
            return []
        started = time.perf_counter()
        states = self.states(questions, book or QueryBook(self.texts))
        encoded = time.perf_counter()
        yield
        found, timings = yield from self._search(questions, states, self.fusion, self.reserved)
        timings |= {"encode": 1e3 * (encoded - started), "search": 1e3 * (time.perf_counter() - encoded)}
        return found

    @torch.inference_mode()
    def states(self, questions: Sequence[Question], book: QueryBook) -> NDArray[np.float32]:
        """(B, D) L2-normalised states; zeros where there is neither history nor query."""
        rows = [np.append(q.history.query_idx, book.row(q.query)).astype(np.int32) for q in questions]
        rows, vectors = book.compact(rows)
        histories = [replace(q.history, query_idx=row[:-1]) for q, row in zip(questions, rows, strict=True)]
        batch = collate(
            histories,
            torch.from_numpy(vectors) if self.texts.has_vectors else None,
            self.model.cfg,
            request_query=np.array([row[-1] for row in rows], np.int32),
            now_us=np.array([q.now_us for q in questions], np.int64),
        )
        found: NDArray[np.float32] = self.model.last_state(batch, self._inputs).numpy()
        return found

    @torch.no_grad()
    def changed(
        self,
        ids: NDArray[np.int32],
        items: pa.Table,
        texts: NDArray[np.float32] | None,
        sources: Mapping[str, Source],
    ) -> "Retriever":
        """The same retriever with n products encoded anew; what training learned of a known one is kept.

        Args:
            ids: (n,) dense indices; those of new products follow the last one, in order.
            items: n rows of schema.PREPARED_ITEMS.
            texts: (N + 1, Dt) text vectors of the whole catalogue as it is now; None without text.
            sources: those that have changed, `dense` excepted.
        """
        if not len(ids):
            return self._with(self.dense, sources, self._inputs)
        num_trained = self.model.sizes.num_trained_items
        features = ItemFeatures.from_table(items, None if texts is None else texts[ids], num_trained, all_cold=True)
        trained = np.flatnonzero(ids <= num_trained)
        features.id_row[trained + 1] = torch.from_numpy(ids[trained]).to(features.id_row)  # row 0 is PAD
        encoded = self.model.encoder.encode(features)[1:]
        inputs = torch.cat([self._inputs, torch.zeros(int((ids >= len(self._inputs)).sum()), encoded.shape[1])])
        inputs[torch.from_numpy(ids.astype(np.int64))] = encoded
        vectors = torch.nn.functional.normalize(encoded, dim=-1).numpy()
        dense, arrivals = self.dense.changed(ids, vectors), self.sources.get(ARRIVALS)
        if isinstance(arrivals, Arrivals):
            sources = {**sources, ARRIVALS: arrivals.changed(ids, dense.vectors, texts)}
        return self._with(dense, sources, inputs)

    def by_vectors(
        self, questions: Sequence[Question], states: NDArray[np.float32], fusion: Fusion
    ) -> list[Candidates]:
        """Candidates for given (B, D) vectors in place of encoded histories."""
        started = time.perf_counter()
        found, timings = complete(self._search(questions, states, fusion))
        timings["search"] = 1e3 * (time.perf_counter() - started)
        return found

    def _search(
        self,
        questions: Sequence[Question],
        states: NDArray[np.float32],
        fusion: Fusion,
        reserved: Reserved | None = None,
    ) -> Steps[tuple[list[Candidates], dict[str, float]]]:
        """Candidates, and the dict of timings that they share."""
        k = max(self.num_candidates, *(question.request.top_k for question in questions))
        asked = SourceQuery([q.query for q in questions], states, [_items(q.history) for q in questions])
        masks = [question.mask for question in questions]
        hits = []
        for source in self.sources.values():
            hits.append(source.search(asked, k, masks))
            yield
        timings: dict[str, float] = {}
        weights = {has_query: fusion.weights(self.names, has_query) for has_query in (True, False)}
        found = []
        for row, question in enumerate(questions):
            fused = fuse(hits, row, weights[bool(question.query)], k, reserved)
            found.append(self._candidates(question, states[row], fused, timings))
            if len(found) % FUSED_IN_A_STEP == 0:
                yield
        return found, timings

    def _with(self, dense: Dense, sources: Mapping[str, Source], inputs: torch.Tensor) -> "Retriever":
        changed = object.__new__(Retriever)
        changed.__dict__.update(self.__dict__)
        changed.sources = {**self.sources, **sources, "dense": dense}
        changed._inputs = inputs
        return changed

    def _candidates(
        self, question: Question, state: NDArray[np.float32], fused: Fused, timings: Mapping[str, float]
    ) -> Candidates:
        return Candidates(
            request=question.request,
            history=question.history,
            query=question.query,
            query_vector=self.texts.vector(question.query),
            state=state,
            item_idx=fused.item_idx,
            fused=fused.fused,
            scores=fused.scores,
            ranks=fused.ranks,
            now_us=question.now_us,
            fallback=question.fallback,
            notes=question.notes,
            timings_ms=timings,
        )


def _items(history: History) -> NDArray[np.int32]:
    items: NDArray[np.int32] = history.item_idx[history.item_idx != schema.PAD]
    return items
