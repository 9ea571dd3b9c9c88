"""Query-click source: time-decayed clicks after the same query and after similarly spelled queries.

Spelling is compared by the cosine of TF-IDF weighted character trigrams without spaces, so `haloo reech` finds the
clicks of `halo reach`. Undecayed and fast-decaying counts are kept as well, for the ranker.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec import schema
from txrec.arrays import ragged_gather
from txrec.index.array_files import load_arrays, pack, save_arrays, unpack
from txrec.index.live_log import LiveLog
from txrec.index.source import (
    NO_ITEMS,
    CatalogueUpdate,
    ClickCounts,
    Familiarity,
    FitContext,
    Hits,
    Mask,
    OpenContext,
    Scored,
    Source,
    SourceQuery,
    best,
)
from txrec.index.training_log import FAST_HALF_LIFE_FACTOR, NUM_TIME_DECAYS, EventLog
from txrec.text import trigrams
from txrec.text.analyser import MAX_CHARS

MIN_SIMILARITY = 0.35
"""Similarity of spelling below which a query does not vote."""
MAX_SIMILAR = 100
"""Queries that vote for one search at most."""
SHARPNESS = 4.0
"""A similar query votes with similarity ** SHARPNESS."""
MIN_LIVE_USERS = 2
"""Users who clicked after a query live, for it to be suggested to others."""


@dataclass(frozen=True, eq=False)
class Similar:
    """Queries of the log that are spelled like a text."""

    rows: NDArray[np.int32]
    similarity: NDArray[np.float32]  # (n,) in [0, 1], descending
    exact: int
    """Row of the very same query, -1 if it was never clicked on."""


class QueryClicks(Source):
    """Clicks per normalised query, and the trigram index of those queries."""

    search_weight = 0.25
    # clicks after like queries (`wool bag` after `bag`) tell less than the words

    def __init__(self, texts: list[str], grams: list[str], arrays: dict[str, NDArray[Any]]) -> None:
        """Takes the clicked queries, the trigram vocabulary and the packed matrices."""
        self._arrays = arrays
        self._texts = texts
        self._grams = grams
        self._row = {text: row for row, text in enumerate(texts)}
        self._gram = {gram: column for column, gram in enumerate(grams)}
        self.clicks = unpack("clicks", arrays)  # (Q, N + 1) decayed
        by_decay = [
            arrays[f"{name}.data"] for name in ("clicks", "fast", "plain")
        ]  # the same places hold an entry in all
        self._counts_by_decay = np.stack(by_decay, axis=1)  # (entries, NUM_TIME_DECAYS)
        self._by_gram = unpack("by_gram", arrays)  # (V, Q) TF-IDF, columns L2-normalised
        self._idf = arrays["idf"]
        self.similar = lru_cache(maxsize=4096)(self._similar)
        self._live: QueryClicks | None = None
        self._live_queries: dict[str, float] = {}

    @classmethod
    def fit(cls, log: EventLog, queries: pa.Table, num_items: int, half_life_days: float) -> "QueryClicks":
        """Counts clicks per query of schema.PREPARED_QUERIES."""
        searched = log.query_idx != schema.PAD
        query_idx, row = np.unique(log.query_idx[searched], return_inverse=True)
        column = queries.column("query")
        texts = column.take(pa.array(query_idx - 1, pa.int64())).to_pylist()
        shape, place = (len(texts), num_items + 1), (row, log.item_idx[searched])
        arrays: dict[str, NDArray[Any]] = {}
        for name, half_life in (
            ("clicks", half_life_days),
            ("fast", half_life_days * FAST_HALF_LIFE_FACTOR),
            ("plain", np.inf),
        ):
            weight = log.weights(half_life)[searched]
            arrays |= pack(name, sp.coo_array((weight, place), shape=shape).tocsr())
        grams, index, idf = _trigram_index(texts)
        return cls(texts, grams, arrays | pack("by_gram", index) | {"idf": idf})

    @classmethod
    def fit_source(cls, context: FitContext) -> "QueryClicks":
        """The source fitted on a log."""
        return cls.fit(context.log, context.data.queries, context.data.meta.num_items, context.config.half_life_days)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "QueryClicks":  # noqa: ARG003
        """The source that `save` wrote."""
        return cls.open(path)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """Clicks of the same query plus those of similar ones, as a share of all of them."""
        rows = [self._search_one(text, k, mask) for text, mask in zip(queries.texts, allowed, strict=True)]
        return Hits.stack(rows, k)

    def click_counts(self, text: str, ids: NDArray[np.int32]) -> ClickCounts:
        """Ranker features of a text and (K,) items from the log of clicks."""
        fitted = self._fitted_click_counts(text, ids)
        if self._live is None:
            return fitted
        live = self._live.click_counts(text, ids)
        return ClickCounts(*(getattr(fitted, one.name) + getattr(live, one.name) for one in fields(ClickCounts)))

    def _fitted_click_counts(self, text: str, ids: NDArray[np.int32]) -> ClickCounts:
        if not text or not self._texts or not len(ids):
            return ClickCounts.none(len(ids))
        similar = self.similar(text)
        others = similar.rows != similar.exact
        weights = similar.similarity**SHARPNESS
        own, own_total = self._counts(similar.rows[~others], weights[~others], ids)
        more, more_total = self._counts(similar.rows[others], weights[others], ids)
        return ClickCounts(own, own_total, own + more, own_total + more_total)

    def familiarity(self, text: str) -> Familiarity:
        """Ranker features of a text: clicks after the same query, and similarity of the nearest other query."""
        if self._live is not None:
            fitted, live = self._fitted_familiarity(text), self._live.familiarity(text)
            return Familiarity(fitted.clicks + live.clicks, max(fitted.similarity, live.similarity))
        return self._fitted_familiarity(text)

    def _fitted_familiarity(self, text: str) -> Familiarity:
        if not text or not self._texts:
            return Familiarity()
        similar = self.similar(text)
        others = similar.similarity[similar.rows != similar.exact]
        own = slice(*self.clicks.indptr[similar.exact : similar.exact + 2]) if similar.exact >= 0 else slice(0)
        clicks = float(self._counts_by_decay[own, NUM_TIME_DECAYS - 1].sum())
        return Familiarity(clicks, float(others[0]) if len(others) else 0.0)

    def clicked_items(self, text: str) -> Scored:
        """Items with their clicks, not decayed, after exactly this normalised query."""
        live = NO_ITEMS if self._live is None else self._live.clicked_items(text)
        row = self._row.get(text)
        if row is None:
            return live
        own = slice(*self.clicks.indptr[row : row + 2])
        counts = self._counts_by_decay[own, NUM_TIME_DECAYS - 1]
        return _summed(Scored(self.clicks.indices[own].astype(np.int32), counts), live)

    def live_clicks(self, text: str, item_idx: NDArray[np.int32]) -> NDArray[np.float32] | None:
        """(K,) decayed live clicks after exactly this query; None for a query that the training log holds."""
        if self._live is None or text in self._row or text not in self._live._row:
            return None
        return self._live.click_counts(text, item_idx).own[:, 0]

    def clicked_queries(self, most: int) -> list[tuple[str, float]]:
        """Queries that led to clicks with their time-decayed number, most first."""
        clicks = np.asarray(self.clicks.sum(axis=1)).ravel()
        rows = np.argsort(-clicks, kind="stable")[:most]
        return [(self.text(int(row)), float(clicks[row])) for row in rows if clicks[row] > 0]

    def live_queries(self, most: int) -> list[tuple[str, float]]:
        """Queries after which several users clicked live, with their fitted and live decayed clicks, most first."""
        clicks = {text: live + self._fitted_clicks(text) for text, live in self._live_queries.items()}
        return sorted(clicks.items(), key=lambda pair: (-pair[1], pair[0]))[:most]

    def _fitted_clicks(self, text: str) -> float:
        row = self._row.get(text)
        return 0.0 if row is None else float(self.clicks.data[slice(*self.clicks.indptr[row : row + 2])].sum())

    def query_reason(self, query: str, item: int) -> str | None:
        """The most similar query, of the first ten, after which the item was clicked."""
        for row in self.similar(query).rows[:10] if query else ():
            if self.clicked(int(row), item):
                return f"chosen by people who searched for {self.text(int(row))!r}"
        return None if self._live is None else self._live.query_reason(query, item)

    def with_items(self, update: CatalogueUpdate) -> "QueryClicks":  # noqa: ARG002
        """The source as it is: new products have no clicks yet."""
        return self

    def with_live(self, live: LiveLog) -> "QueryClicks":
        """The source with live clicks, and the queries that they followed, next to the fitted ones."""
        source = copy.copy(self)
        source._live = QueryClicks.fit(live.log, live.queries, live.num_items, live.half_life_days)
        source._live_queries = _of_several_users(live)
        return source

    def save(self, path: Path) -> None:
        """Matrices as safetensors, texts as JSON."""
        save_arrays(path / "query_clicks.safetensors", self._arrays)
        plain = {"queries": self._texts, "trigrams": self._grams}
        (path / "query_clicks.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, path: Path) -> "QueryClicks":
        """Reads the file of `save`."""
        plain = json.loads((path / "query_clicks.json").read_text(encoding="utf-8"))
        return cls(plain["queries"], plain["trigrams"], load_arrays(path / "query_clicks.safetensors"))

    def clicked(self, row: int, item: int) -> bool:
        """Marks of items that people who typed the query of a row engaged with."""
        return bool((_dense_row(self.clicks, row)[0] == item).any())

    def text(self, row: int) -> str:
        """The query of a row of `Similar.rows`."""
        return self._texts[row]

    def _search_one(self, text: str, k: int, mask: Mask) -> Scored:
        votes = self._all_votes(text)
        if self._live is not None:
            votes = _summed(votes, self._live._all_votes(text))
        total = votes.scores.sum()
        return best(votes.item_idx, votes.scores / total, k, mask) if total > 0 else NO_ITEMS

    def _all_votes(self, text: str) -> Scored:
        """Clicks of the same query and of similar ones, weighted by their similarity."""
        if not text or not self._texts:
            return NO_ITEMS
        similar = self.similar(text)
        return self._votes(similar.rows, similar.similarity)

    def _votes(self, rows: NDArray[np.int32], similarity: NDArray[np.float32]) -> Scored:
        """Clicks of several queries, weighted by their similarity."""
        if not len(rows):
            return NO_ITEMS
        at, weights = _entries(self.clicks, rows, similarity**SHARPNESS)
        ids, place = np.unique(self.clicks.indices[at], return_inverse=True)
        votes = np.bincount(place, weights * self.clicks.data[at], len(ids))
        return Scored(ids.astype(np.int32), votes.astype(np.float32))

    def _counts(
        self, rows: NDArray[np.int32], weights: NDArray[np.float32], ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(K, NUM_TIME_DECAYS) weighted clicks of K items after several queries, and the same sums over all items."""
        counts = np.zeros((len(ids), NUM_TIME_DECAYS), np.float32)
        starts, ends = self.clicks.indptr[rows], self.clicks.indptr[rows + 1]
        lengths = ends - starts
        at = ragged_gather(starts, lengths)
        clicks = self._counts_by_decay[at] * np.repeat(weights, lengths)[:, None]
        order = np.argsort(ids)
        place = np.minimum(np.searchsorted(ids, self.clicks.indices[at], sorter=order), len(ids) - 1)
        is_clicked = ids[order[place]] == self.clicks.indices[at]
        np.add.at(counts, order[place[is_clicked]], clicks[is_clicked])
        return counts, clicks.sum(axis=0)

    def _similar(self, text: str) -> Similar:
        text = text[:MAX_CHARS]
        exact = self._row.get(text, -1)
        grams, counts = np.unique([self._gram[g] for g in trigrams(text) if g in self._gram], return_counts=True)
        rows, similarity = self._nearest(grams.astype(np.int64), counts, len(trigrams(text)))
        if exact >= 0:
            others = rows != exact
            rows, similarity = np.append(exact, rows[others]), np.append(1.0, similarity[others])
        return Similar(rows.astype(np.int32), similarity.astype(np.float32), exact)

    def _nearest(
        self, grams: NDArray[np.int64], counts: NDArray[np.int64], num_grams: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if not len(grams):
            return np.empty(0, np.int64), np.empty(0)
        weight = counts * self._idf[grams]
        unknown = num_grams - counts.sum()  # trigrams never seen lengthen the vector: they are evidence of difference
        norm = np.sqrt((weight**2).sum() + unknown * float(self._idf.max()) ** 2)
        at, weights = _entries(self._by_gram, grams, weight / norm)
        shape = self._by_gram.shape[1]
        similarity = np.bincount(self._by_gram.indices[at], weights * self._by_gram.data[at], shape)
        rows = np.flatnonzero(similarity >= MIN_SIMILARITY)
        order = rows[np.argsort(-similarity[rows], kind="stable")][:MAX_SIMILAR]
        return order, np.minimum(similarity[order], 1.0)


def _of_several_users(live: LiveLog) -> dict[str, float]:
    """Decayed clicks of the live queries of at least `MIN_LIVE_USERS` users: what one alone typed is their own."""
    log, size = live.log, live.queries.num_rows + 1
    searched = log.query_idx != schema.PAD
    pairs = np.unique(np.stack([log.query_idx[searched], log.user_idx[searched]]), axis=1)
    users = np.bincount(pairs[0], minlength=size)
    clicks = np.bincount(log.query_idx[searched], log.weights(live.half_life_days)[searched], size)
    texts = ["", *live.queries.column("query").to_pylist()]
    return {texts[query]: float(clicks[query]) for query in np.flatnonzero(users >= MIN_LIVE_USERS).tolist()}


class _Entries(NamedTuple):
    """Entries of some rows of a sparse matrix."""

    at: NDArray[np.int64]  # places in its data
    weights: NDArray[Any]  # of their rows


def _entries(matrix: sp.csr_array, rows: NDArray[Any], weights: NDArray[Any]) -> _Entries:
    """Entries of rows with the rows' weights; a third of the time of a product of sparse matrices."""
    starts, lengths = matrix.indptr[rows], matrix.indptr[rows + 1] - matrix.indptr[rows]
    return _Entries(ragged_gather(starts, lengths), np.repeat(weights, lengths))


def _summed(one: Scored, other: Scored) -> Scored:
    """Items of both with the sums of their scores."""
    if not len(other.item_idx):
        return one
    ids, place = np.unique(np.concatenate([one.item_idx, other.item_idx]), return_inverse=True)
    scores = np.bincount(place, weights=np.concatenate([one.scores, other.scores]))
    return Scored(ids.astype(np.int32), scores.astype(np.float32))


class _TrigramIndex(NamedTuple):
    """Vocabulary, (V, Q) normalised TF-IDF by trigram, and (V,) inverse document frequencies."""

    grams: list[str]
    weights: sp.csr_array
    idf: NDArray[np.float32]


def _trigram_index(texts: list[str]) -> _TrigramIndex:
    vocabulary: dict[str, int] = {}
    grams = [[vocabulary.setdefault(gram, len(vocabulary)) for gram in trigrams(text)] for text in texts]
    lengths = np.array([len(row) for row in grams], dtype=np.int64)
    flat = (
        np.concatenate([np.asarray(row, dtype=np.int64) for row in grams]) if lengths.sum() else np.empty(0, np.int64)
    )
    query = np.repeat(np.arange(len(texts)), lengths)
    counts = sp.coo_array((np.ones(len(flat), np.float32), (flat, query)), shape=(len(vocabulary), len(texts))).tocsr()
    idf = np.log1p(len(texts) / np.maximum(np.diff(counts.indptr), 1)).astype(np.float32)
    weighted = sp.csr_array(sp.diags_array(idf) @ counts)
    norms = np.sqrt(np.asarray(weighted.power(2).sum(axis=0)).ravel())
    index = sp.csr_array(weighted @ sp.diags_array(1.0 / np.maximum(norms, 1e-9)))
    return _TrigramIndex(list(vocabulary), index.astype(np.float32), idf)


def _dense_row(matrix: sp.csr_array, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    start, end = matrix.indptr[row], matrix.indptr[row + 1]
    return matrix.indices[start:end], matrix.data[start:end]
