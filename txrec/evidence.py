"""What is known about a candidate in the light of a request: the ranker's features, the only function that makes them.

Count-based evidence must not have seen the event that is being ranked: it is fitted on a log that ends before the
requests it is used for, in training as in serving.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.catalogue import Catalogue
from txrec.index.arrays import load_arrays, save_arrays
from txrec.index.covisitation import Covisitation
from txrec.index.log import DAY_US, EventLog
from txrec.index.query_clicks import NUM_EVIDENCE, QueryClicks
from txrec.index.source import Source
from txrec.index.tokens import trigrams, words
from txrec.schema import EventKind
from txrec.slate import Candidates

NUM_REQUEST_FEATURES = 6
FAST = 0.25
"""Half-life of the fast counts as a share of the configured one."""


@dataclass(frozen=True, eq=False)
class Activity:
    """How much and how lately each item was wanted, by the end of a log."""

    slow: NDArray[np.float32]  # (N + 1,) decayed events
    fast: NDArray[np.float32]  # (N + 1,) fast-decaying events
    plain: NDArray[np.float32]  # (N + 1,) events
    last_ts: NDArray[np.int64]  # (N + 1,) microseconds, 0 = never or unknown
    first_ts: NDArray[np.int64]  # (N + 1,)
    end_us: int

    @classmethod
    def fit(cls, log: EventLog, num_items: int, half_life_days: float) -> "Activity":
        """Counts item events."""
        size = num_items + 1
        counts = [
            np.bincount(log.item, weights=log.weights(half_life), minlength=size).astype(np.float32)
            for half_life in (half_life_days, half_life_days * FAST, np.inf)
        ]
        last, first = np.zeros(size, np.int64), np.full(size, np.iinfo(np.int64).max)
        np.maximum.at(last, log.item, log.ts)
        np.minimum.at(first, log.item, log.ts)
        return cls(counts[0], counts[1], counts[2], last, np.where(last > 0, first, 0), log.end_us)

    def extended(self, num_items: int) -> "Activity":
        """The same over a grown catalogue; new items have no events."""
        more = num_items + 1 - len(self.slow)
        grown: dict[str, Any] = {n: np.pad(a, (0, more)) for n, a in self.__dict__.items() if n != "end_us"}
        return Activity(**grown, end_us=self.end_us)

    def features(self, ids: NDArray[np.int32], now_us: int) -> list[NDArray[Any]]:
        """Popularity, trend and recency of K items, as K-long columns."""
        now = now_us or self.end_us
        slow, fast = self.slow[ids], self.fast[ids]
        known = self.last_ts[ids] > 0
        since_last = np.where(known, np.maximum(now - self.last_ts[ids], 0) / DAY_US, 365.0)
        since_first = np.where(known, np.maximum(now - self.first_ts[ids], 0) / DAY_US, 0.0)
        return [
            np.log1p(slow),
            np.log1p(fast),
            np.log1p(self.plain[ids]),
            np.log((fast + 0.5) / (slow + 2.0)),
            np.log1p(since_last),
            np.log1p(since_first),
        ]

    def save(self, path: Path) -> None:
        """One safetensors file."""
        save_arrays(path / "activity.safetensors", {**self.__dict__, "end_us": np.array([self.end_us])})

    @classmethod
    def open(cls, path: Path) -> "Activity":
        """Reads what `save` wrote."""
        arrays = load_arrays(path / "activity.safetensors")
        end_us = int(arrays.pop("end_us")[0])
        return cls(**arrays, end_us=end_us)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that features are made from; the catalogue, the vectors and the fitted counts."""

    catalogue: Catalogue
    activity: Activity
    item_vectors: NDArray[np.float32]  # (N + 1, D) of the retrieval model
    item_text: NDArray[np.float32] | None  # (N + 1, Dt) of the text encoder
    sources: Mapping[str, Source]

    @property
    def num_features(self) -> int:
        """F, columns of `features`."""
        return 3 * len(self.sources) + 2 + NUM_EVIDENCE + 6 + 2 + 4 + 7

    def features(self, candidates: Candidates, k: int) -> NDArray[np.float32]:
        """(K, F) of the first k candidates; unscaled, finite."""
        ids = candidates.ids[:k]
        columns = [
            *self._source_columns(candidates, k),
            self.item_vectors[ids] @ candidates.state,
            candidates.fused[:k],
            *self._query_clicks(candidates.query, ids).T,
            *self.activity.features(ids, candidates.now_us),
            *self._prices(ids),
            *self._text(candidates, ids),
            *self._history(candidates, ids),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def request_features(self, candidates: Candidates) -> NDArray[np.float32]:
        """(NUM_REQUEST_FEATURES,) of the request as a whole."""
        history = candidates.history
        clicks = self.sources.get("query_clicks")
        same = near = 0.0
        if isinstance(clicks, QueryClicks) and candidates.query:
            *_, same, near = clicks.evidence(candidates.query, np.zeros(1, np.int32))[0]
        idle = 0.0
        if len(history.ts) and history.ts[-1] > 0 and candidates.now_us:
            idle = np.log1p(max(candidates.now_us - int(history.ts[-1]), 0) / DAY_US)
        length = np.log1p(len(history.item))
        return np.array([bool(candidates.query), len(candidates.query) / 32, length, idle, same, near], np.float32)

    def _source_columns(self, candidates: Candidates, k: int) -> list[NDArray[Any]]:
        ranks, scores = candidates.ranks[:k], candidates.scores[:k]
        found = ranks > 0
        scores = np.where(found, scores, 0.0)
        top = np.maximum(scores.max(axis=0, initial=0.0), 1e-6)
        return [*found.T, *np.where(found, 3.0 / (2.0 + ranks), 0.0).T, *(scores / top).T]

    def _query_clicks(self, query: str, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        clicks = self.sources.get("query_clicks")
        if not isinstance(clicks, QueryClicks):
            return np.zeros((len(ids), NUM_EVIDENCE), np.float32)
        return clicks.evidence(query, ids)

    def _prices(self, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        price = self.catalogue.prices[ids]
        known = ~np.isnan(price)
        return [np.log1p(np.where(known, price, 0.0)), known]

    def _text(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        if not candidates.query:
            return [np.zeros(len(ids))] * 4
        cosine = np.zeros(len(ids)) if self.item_text is None else self.item_text[ids] @ candidates.query_vector
        asked, grams = frozenset(words(candidates.query)), frozenset(trigrams(candidates.query))
        titles = [self.catalogue.words(int(item)) for item in ids]
        shared = np.array([len(asked & title) for title in titles], dtype=np.float64)
        lengths = np.array([len(title) for title in titles])
        spelled = [self.catalogue.trigrams(int(item)) for item in ids]
        covered = np.array([len(grams & title) for title in spelled]) / max(len(grams), 1)
        return [cosine, shared / max(len(asked), 1), shared / np.maximum(lengths, 1), covered]

    def _history(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        history = candidates.history
        place = np.flatnonzero(history.item != schema.PAD)
        items, ts, kinds = history.item[place], history.ts[place], history.event[place]
        if not len(items):
            return [np.zeros(len(ids))] * 7
        same = items[None, :] == ids[:, None]  # (K, H)
        seen = same.any(axis=1)
        latest = len(items) - 1 - same[:, ::-1].argmax(axis=1)
        days = np.maximum(candidates.now_us - ts[latest], 0) / DAY_US if candidates.now_us else np.zeros(len(ids))
        bought = (same & (kinds >= EventKind.PURCHASE)[None, :]).any(axis=1)
        last = int(items[-1])
        return [
            np.log1p(same.sum(axis=1)),
            np.where(seen, 1.0 / (len(items) - latest), 0.0),
            np.where(seen, 1.0 / (1.0 + days), 0.0),
            bought,
            self._affinity(last, ids),
            self.item_vectors[ids] @ self.item_vectors[last],
            (self.catalogue.categories[ids] == self.catalogue.categories[last]) & (self.catalogue.categories[last] > 0),
        ]

    def _affinity(self, item: int, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        source = self.sources.get("covisitation")
        found = np.zeros(len(ids), dtype=np.float32)
        if isinstance(source, Covisitation):
            neighbours, affinity = source.neighbours(item)
            known = dict(zip(neighbours.tolist(), affinity.tolist(), strict=True))
            found[:] = [known.get(item_id, 0.0) for item_id in ids.tolist()]
        return found
