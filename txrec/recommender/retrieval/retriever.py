"""Retriever: histories and queries of a batch encoded once, every candidate source searched, proposals fused.

Everything is in dense indices here; `recommender.py` translates from and to the shop's own. Training of the ranker,
evaluation and serving all retrieve through this one class.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from txrec import schema
from txrec.index.rank_fusion import Fused, Fusion, ReservedSlots, fuse
from txrec.index.source import CatalogueUpdate, ChangedItems, Hits, Mask, Source, SourceQuery
from txrec.index.sources.dense import Dense
from txrec.model.history_features import History, collate
from txrec.model.item_encoder import ItemFeatures
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import TextEncoder
from txrec.recommender.resumable import Resumable, run_to_completion
from txrec.recommender.stage_timer import StageTimer
from txrec.recommender.types import Candidates, Request

NAME_SLOTS = 10
"""Best lexical matches that are among the ranker's candidates of every search."""
FUSED_IN_A_STEP = 4
"""Requests whose candidates are fused in one step of `Retriever.retrieve_in_steps`."""
NO_REQUEST = Request()
NO_HISTORY = History(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int64))


class QueryEncoder:
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
        vector: NDArray[np.float32] = self._encoded(text)
        return vector

    @property
    def num_encoded(self) -> int:
        """Texts so far whose vectors had to be computed."""
        return self._encoded.cache_info().misses

    def _encode(self, text: str) -> NDArray[np.float32]:
        if not text or self._encoder is None:
            return np.zeros(self.vectors.shape[1], np.float32)
        vector: NDArray[np.float32] = self._encoder.encode([text])[0]
        return vector


class BatchQueryVectors:
    """Rows for the queries of one batch: the data set's own ids, and fresh ones after them for new texts."""

    def __init__(self, encoder: QueryEncoder) -> None:
        self._known = encoder
        self._first_new = len(encoder.vectors)
        self._new: dict[str, int] = {}

    def row(self, text: str) -> int:
        """The row of a normalised text, PAD for an empty one."""
        if not text:
            return schema.PAD
        return self._known.rows.get(text) or self._new.setdefault(text, self._first_new + len(self._new))

    def compact(self, rows: Sequence[NDArray[np.int32]]) -> tuple[list[NDArray[np.int32]], NDArray[np.float32]]:
        """Renumbers rows into a table of just the vectors that are used, row 0 zeros."""
        used = np.unique(np.concatenate([np.zeros(1, np.int32), *rows]))
        vectors = self._known.vectors[np.where(used < self._first_new, used, schema.PAD)]
        new = {row: text for text, row in self._new.items()}
        for place in np.flatnonzero(used >= self._first_new):
            vectors[place] = self._known.vector(new[int(used[place])])
        vectors[0] = 0.0
        return [np.searchsorted(used, part).astype(np.int32) for part in rows], vectors


@dataclass(frozen=True, eq=False)
class RetrievalQuery:
    """A request in dense indices."""

    history: History
    query: str = ""
    """Normalised search text, empty = none."""
    now_us: int = 0
    mask: Mask = None
    request: Request = NO_REQUEST
    fallback: str | None = None
    notes: tuple[str, ...] = ()
    profile: Mapping[str, str] = field(default_factory=dict)
    """Properties of the user and the request by name."""
    excluded: Sequence[int] = ()
    """Items that the mask leaves out because of the request's cart, history and exclusions."""


class Retriever:
    """The candidate sources and their fusion behind one encoding of the requests."""

    def __init__(
        self,
        model: RetrievalModel,
        query_encoder: QueryEncoder,
        sources: Mapping[str, Source],
        fusion: Fusion,
        num_candidates: int,
        reserved: ReservedSlots | None = None,
    ) -> None:
        """Takes a trained model and fitted sources; `dense` and `popularity` are always among them.

        Args:
            model: encodes histories.
            query_encoder: vectors of queries.
            sources: by name, in order of trust.
            fusion: their weights.
            num_candidates: most candidates of a request.
            reserved: slots that are kept for one of them.
        """
        self.model = model.eval()
        self.query_encoder = query_encoder
        self.sources = dict(sources)
        self.fusion = fusion
        self.num_candidates = num_candidates
        self.reserved = reserved
        with torch.no_grad():
            self._inputs = model.encoder.all()  # input of the decoder, not normalised

    def move(self, device: str) -> None:
        """Moves the model and its item table to a device; the indexes stay in main memory."""
        self.model.to(device)
        self._inputs = self._inputs.to(device)

    def knows_profile(self, profile: Mapping[str, str]) -> bool:
        """True where a source can propose items by properties of the user or the request."""
        return bool(profile) and any(source.knows_profile(profile) for source in self.sources.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources in order of trust."""
        return tuple(self.sources)

    @property
    def dense(self) -> Dense:
        """The dense source."""
        return cast(Dense, self.sources["dense"])

    def retrieve(
        self, retrieval_queries: Sequence[RetrievalQuery], batch_vectors: BatchQueryVectors | None = None
    ) -> list[Candidates]:
        """Candidates of every query, best first; one encoding and one search per source for the whole batch."""
        return run_to_completion(self.retrieve_in_steps(retrieval_queries, batch_vectors))

    def retrieve_in_steps(
        self, retrieval_queries: Sequence[RetrievalQuery], batch_vectors: BatchQueryVectors | None = None
    ) -> Resumable[list[Candidates]]:
        """`retrieve` in steps of a millisecond or two."""
        if not retrieval_queries:
            return []
        timer = StageTimer()
        states = self.states(retrieval_queries, batch_vectors or BatchQueryVectors(self.query_encoder))
        timer.end("encode")
        yield
        candidates = yield from self._search(retrieval_queries, states, self.fusion, self.reserved)
        timer.end("search")
        return [replace(one, timings_ms=timer.timings_ms) for one in candidates]

    @torch.inference_mode()
    def states(
        self, retrieval_queries: Sequence[RetrievalQuery], batch_vectors: BatchQueryVectors
    ) -> NDArray[np.float32]:
        """(B, D) L2-normalised states; zeros where there is neither history nor query."""
        rows = [np.append(q.history.query_idx, batch_vectors.row(q.query)).astype(np.int32) for q in retrieval_queries]
        rows, vectors = batch_vectors.compact(rows)
        histories = [replace(q.history, query_idx=row[:-1]) for q, row in zip(retrieval_queries, rows, strict=True)]
        batch = collate(
            histories,
            torch.from_numpy(vectors) if self.query_encoder.has_vectors else None,
            self.model.cfg,
            request_query=np.array([row[-1] for row in rows], np.int32),
            now_us=np.array([q.now_us for q in retrieval_queries], np.int64),
        )
        states = self.model.last_state(batch.to(self._inputs.device), self._inputs)
        array: NDArray[np.float32] = states.float().cpu().numpy()
        return array

    @torch.no_grad()
    def with_items(self, changed: ChangedItems, item_text: NDArray[np.float32] | None) -> "Retriever":
        """A retriever that also knows changed products, encoded anew; learned embeddings of trained ones are kept.

        Args:
            changed: the products.
            item_text: (N + 1, Dt) text vectors of the whole catalogue after the change; None without text.
        """
        vectors, inputs = self.dense.vectors, self._inputs
        item_idx, items = (
            changed.item_idx[changed.vector_changed],
            changed.items.filter(pa.array(changed.vector_changed)),
        )
        if len(item_idx):
            encoded = self._encoded(item_idx, items, item_text)
            at, unit = item_idx.astype(np.int64), torch.nn.functional.normalize(encoded, dim=-1)
            inputs = _with_rows(inputs, torch.from_numpy(at), encoded)
            vectors = _with_rows(torch.from_numpy(vectors), torch.from_numpy(at), unit.cpu()).numpy()
        update = CatalogueUpdate(**vars(changed), vectors=vectors, item_text=item_text)
        retriever = copy.copy(self)
        retriever.sources = {name: source.with_items(update) for name, source in self.sources.items()}
        retriever._inputs = inputs
        return retriever

    def _encoded(
        self, item_idx: NDArray[np.int32], items: pa.Table, item_text: NDArray[np.float32] | None
    ) -> torch.Tensor:
        """(n, D) item vectors, not normalised, of n products."""
        num_trained = self.model.sizes.num_trained_items
        text = None if item_text is None else item_text[item_idx]
        features = ItemFeatures.from_table(items, text, num_trained, all_cold=True)
        trained = np.flatnonzero(item_idx <= num_trained)
        features.id_row[trained + 1] = torch.from_numpy(item_idx[trained]).to(features.id_row)  # row 0 is PAD
        return self.model.encoder.encode(features.to(self._inputs.device))[1:]

    def by_vectors(
        self, retrieval_queries: Sequence[RetrievalQuery], states: NDArray[np.float32], fusion: Fusion
    ) -> list[Candidates]:
        """Candidates for given (B, D) vectors instead of encoded histories."""
        timer = StageTimer()
        candidates = run_to_completion(self._search(retrieval_queries, states, fusion))
        timer.end("search")
        return [replace(one, timings_ms=timer.timings_ms) for one in candidates]

    def _search(
        self,
        retrieval_queries: Sequence[RetrievalQuery],
        states: NDArray[np.float32],
        fusion: Fusion,
        reserved: ReservedSlots | None = None,
    ) -> Resumable[list[Candidates]]:
        """Candidates of every query, without timings."""
        k = max(self.num_candidates, *(retrieval_query.request.top_k for retrieval_query in retrieval_queries))
        source_query = SourceQuery(
            [q.query for q in retrieval_queries],
            states,
            [_items(q.history) for q in retrieval_queries],
            [q.profile for q in retrieval_queries],
        )
        masks = [retrieval_query.mask for retrieval_query in retrieval_queries]
        hits = []
        for source in self.sources.values():
            hits.append(source.search(source_query, k, masks))
            yield
        for row, retrieval_query in enumerate(retrieval_queries):
            _keep_sources(hits, row, self.names, retrieval_query.request.sources)
        weights = {has_query: fusion.weights(self.names, has_query) for has_query in (True, False)}
        candidates = []
        for row, retrieval_query in enumerate(retrieval_queries):
            slots = self._name_slots(reserved) if retrieval_query.query else [reserved] if reserved else []
            fused = fuse(hits, row, weights[bool(retrieval_query.query)], k, *slots)
            candidates.append(self._candidates(retrieval_query, states[row], fused))
            if len(candidates) % FUSED_IN_A_STEP == 0:
                yield
        return candidates

    def _name_slots(self, reserved: ReservedSlots | None) -> list[ReservedSlots]:
        """Slots of a search: those of one source, and of the best names however little lexical ranks weigh."""
        if reserved is None or "lexical" not in self.sources:
            return [reserved] if reserved else []
        count = min(NAME_SLOTS, reserved.within // 2)
        return [reserved, ReservedSlots(self.names.index("lexical"), count, reserved.within)]

    def _candidates(self, retrieval_query: RetrievalQuery, state: NDArray[np.float32], fused: Fused) -> Candidates:
        return Candidates(
            request=retrieval_query.request,
            history=retrieval_query.history,
            query=retrieval_query.query,
            query_vector=self.query_encoder.vector(retrieval_query.query),
            state=state,
            item_idx=fused.item_idx,
            fused=fused.fused,
            scores=fused.scores,
            ranks=fused.ranks,
            now_us=retrieval_query.now_us,
            profile=retrieval_query.profile,
            fallback=retrieval_query.fallback,
            notes=retrieval_query.notes,
        )


def _keep_sources(hits: Sequence[Hits], row: int, names: Sequence[str], allowed: Sequence[str]) -> None:
    """Takes out a request's proposals of other sources than those that it names; none named = all stay."""
    for name, source_hits in zip(names, hits, strict=True):
        if allowed and name not in allowed:
            source_hits.item_idx[row] = schema.PAD
            source_hits.scores[row] = 0.0


def _with_rows(table: torch.Tensor, at: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(M, D) table with other rows at some places; places after the last row make it longer."""
    more = int((at >= len(table)).sum())
    grown = torch.cat([table, table.new_zeros(more, table.shape[1])])
    grown[at.to(table.device)] = rows
    return grown


def _items(history: History) -> NDArray[np.int32]:
    items: NDArray[np.int32] = history.item_idx[history.item_idx != schema.PAD]
    return items
