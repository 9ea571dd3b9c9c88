"""What is known about a candidate in the light of a request: the ranker's features, the only function that makes them.

Count-based evidence must not have seen the event that is being ranked: it is fitted on a log that ends before the
requests it is used for, in training as in serving.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.catalogue import Catalogue
from txrec.index.arrays import load_arrays, save_arrays
from txrec.index.covisitation import Covisitation
from txrec.index.lexical import NUM_WORDING, Lexical, Title
from txrec.index.log import DAY_US, EventLog
from txrec.index.query_clicks import PACES, ClickEvidence, QueryClicks
from txrec.index.source import Source
from txrec.index.tokens import trigrams, words
from txrec.schema import EventKind
from txrec.slate import Candidates

NUM_REQUEST_FEATURES = 6
FAST = 0.25
"""Half-life of the fast counts as a share of the configured one."""
ORDER = 0
"""Column of `features` in which retrieval order is written: a ranker starts from it."""
BY_VECTORS = ("dense", "arrivals")
"""Sources that compare trained vectors."""
HAS_QUERY = 0
"""Column of `request_features` that says whether something is searched for."""
PRIOR_EVENTS = 0.05
"""Events that every item is taken to have had beside those counted."""
PRIOR_VOTES, PRIOR_CLICKS = 0.3, 2.0
"""Clicks that a query is taken to have had beside those counted: after everybody's taste, and after like queries'."""
NAME_WEIGHT, LEAST_SHARE = 0.1, 1e-3
"""What the best name match adds to a share of clicks, and to everything, before its logarithm is taken."""


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
        last = np.zeros(size, np.int64)
        np.maximum.at(last, log.item, log.ts)
        return cls(counts[0], counts[1], counts[2], last, log.first_ts(num_items), log.end_us)

    def extended(self, num_items: int) -> "Activity":
        """The same over a grown catalogue; new items have no events."""
        more = num_items + 1 - len(self.slow)
        if not more:
            return self
        grown: dict[str, Any] = {name: np.pad(array, (0, more)) for name, array in self._arrays().items()}
        return Activity(**grown, end_us=self.end_us)

    def features(self, ids: NDArray[np.int32], now_us: int) -> list[NDArray[Any]]:
        """Popularity, trend and recency of K items, as K-long columns."""
        now = now_us or self.end_us
        known = self.last_ts[ids] > 0
        since_last = np.where(known, np.maximum(now - self.last_ts[ids], 0) / DAY_US, 365.0)
        since_first = np.where(known, np.maximum(now - self.first_ts[ids], 0) / DAY_US, 0.0)
        return [*self._popularity[ids].T, np.log1p(since_last), np.log1p(since_first)]

    def warm(self) -> None:
        """Takes now the logarithms and shares that the first request would wait for."""
        _ = (self._popularity, self.shares)

    def save(self, path: Path) -> None:
        """One safetensors file."""
        save_arrays(path / "activity.safetensors", {**self._arrays(), "end_us": np.array([self.end_us])})

    @classmethod
    def open(cls, path: Path) -> "Activity":
        """Reads what `save` wrote."""
        arrays = load_arrays(path / "activity.safetensors")
        end_us = int(arrays.pop("end_us")[0])
        return cls(**arrays, end_us=end_us)

    @cached_property
    def _popularity(self) -> NDArray[np.float32]:
        """(N + 1, 4) popularity at every pace and its trend, as logarithms."""
        trend = np.log((self.fast + 0.5) / (self.slow + 2.0))
        return np.stack([np.log1p(self.slow), np.log1p(self.fast), np.log1p(self.plain), trend], axis=1)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """(N + 1, PACES) each item's share of all events at every pace; no item's is 0."""
        counts = np.stack([self.slow, self.fast, self.plain], axis=1) + np.float32(PRIOR_EVENTS)
        return np.asarray(counts / counts[1:].sum(axis=0), np.float32)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "end_us"}


class _Group(NamedTuple):
    """Columns of `Evidence.features` that one function makes."""

    width: int
    make: Callable[[Candidates, NDArray[np.int32]], Iterable[NDArray[Any]]]
    """Candidates and the dense ids of the first K of them to `width` columns, K long."""
    learnt: Sequence[int] = ()
    """Those of them that trained vectors decide."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that features are made from; the catalogue, the vectors and the fitted counts."""

    catalogue: Catalogue
    activity: Activity
    item_vectors: NDArray[np.float32]  # (N + 1, D) of the retrieval model
    item_text: NDArray[np.float32] | None  # (N + 1, Dt) of the text encoder
    sources: Mapping[str, Source]
    wording: bool = False
    """Whether features tell how titles meet a query's words one by one: rankers trained on grades read them."""

    def warm(self) -> None:
        """Builds now what the first request would wait for."""
        self.catalogue.warm()
        self.activity.warm()

    @property
    def num_features(self) -> int:
        """F, columns of `features`."""
        return sum(group.width for group in self._groups())

    @property
    def learnt_columns(self) -> list[int]:
        """Columns of `features` that trained vectors decide: too good on events that the vectors were trained on."""
        found: list[int] = []
        start = 0
        for group in self._groups():
            found.extend(start + place for place in group.learnt)
            start += group.width
        return found

    def features(self, candidates: Candidates, k: int) -> NDArray[np.float32]:
        """(K, F) of the first k candidates; unscaled, finite."""
        ids = candidates.ids[:k]
        columns = [column for group in self._groups() for column in group.make(candidates, ids)]
        found = np.empty((len(columns), len(ids)), np.float32)
        for row, column in enumerate(columns):  # sooner than to stack columns of several types
            found[row] = column
        return found.T

    def _groups(self) -> list[_Group]:
        """The columns of `features` from left to right: the one place that knows where what is."""
        count = len(self.sources)
        by_vectors = [place for place, name in enumerate(self.sources) if name in BY_VECTORS]
        return [
            _Group(1, lambda _, ids: [-np.log1p(np.arange(len(ids)))]),  # `ORDER`
            _Group(
                3 * count, self._source_columns, [kind * count + place for kind in range(3) for place in by_vectors]
            ),
            _Group(2, self._retrieval, [0]),
            _Group(3 * PACES + 3, self._shares),
            _Group(6, lambda candidates, ids: self.activity.features(ids, candidates.now_us)),
            _Group(2, self._prices),
            _Group(4, self._text, [0]),
            *([_Group(1 + NUM_WORDING, self._wording)] if self.wording else ()),
            _Group(7, self._history, [5]),
        ]

    def request_features(self, candidates: Candidates) -> NDArray[np.float32]:
        """(NUM_REQUEST_FEATURES,) of the request as a whole."""
        history = candidates.history
        clicks = self.sources.get("query_clicks")
        same = near = 0.0
        if isinstance(clicks, QueryClicks) and candidates.query:
            clicked, near = clicks.familiarity(candidates.query)
            same = np.log1p(clicked)
        idle = 0.0
        if len(history.ts) and history.ts[-1] > 0 and candidates.now_us:
            idle = np.log1p(max(candidates.now_us - int(history.ts[-1]), 0) / DAY_US)
        length = np.log1p(len(history.item))
        return np.array([bool(candidates.query), len(candidates.query) / 32, length, idle, same, near], np.float32)

    def _source_columns(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        ranks, scores = candidates.ranks[: len(ids)], candidates.scores[: len(ids)]
        found = ranks > 0
        scores = np.where(found, scores, 0.0)
        top = np.maximum(scores.max(axis=0, initial=0.0), 1e-6)
        return [*found.T, *np.where(found, 3.0 / (2.0 + ranks), 0.0).T, *(scores / top).T]

    def _retrieval(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        return [self.item_vectors[ids] @ candidates.state, candidates.fused[: len(ids)]]

    def _shares(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        """How the clicks of the same query, of those spelled alike and of everybody are shared out among items.

        As logarithms at every pace, each smoothed by the next wider one; then two plain shares, and what a careful shop
        would sort by: like queries' clicks and the name.
        """
        clicks = self.sources.get("query_clicks")
        known = ClickEvidence.none(len(ids))
        if isinstance(clicks, QueryClicks):
            known = clicks.evidence(candidates.query, ids)
        everybody = self.activity.shares[ids]
        alike = (known.votes + PRIOR_VOTES * everybody) / (known.votes_total + PRIOR_VOTES)
        same = (known.own + PRIOR_CLICKS * alike) / (known.own_total + PRIOR_CLICKS)
        plain = [
            known.own[:, 0] / max(float(known.own_total[0]), 1e-9),
            known.votes[:, 0] / max(float(known.votes_total[0]), 1e-9),
        ]
        by_hand = np.log(plain[1] + NAME_WEIGHT * self._name_match(candidates, len(ids)) + LEAST_SHARE)
        return [*np.log(np.concatenate([same, alike, everybody], axis=1)).T, *plain, by_hand]

    def _name_match(self, candidates: Candidates, k: int) -> NDArray[Any]:
        """(K,) the lexical source's scores, 1 for its best one."""
        if "lexical" not in self.sources:
            return np.zeros(k)
        scores = candidates.scores[:, list(self.sources).index("lexical")]
        scores = np.where(np.isnan(scores), np.float32(0), scores)  # a fifth of the time of nan_to_num
        return np.asarray(scores[:k] / max(float(scores.max(initial=0.0)), 1e-6))

    def _prices(self, _: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
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

    def _wording(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(1 + NUM_WORDING, K) the lexical source's score as it is, and how the titles meet the query's words."""
        lexical = self.sources.get("lexical")
        found = np.zeros((1 + NUM_WORDING, len(ids)), np.float32)
        if isinstance(lexical, Lexical) and candidates.query:
            scores = candidates.scores[: len(ids), list(self.sources).index("lexical")]
            found[0] = np.nan_to_num(scores)
            titles = [Title(self.catalogue.words(int(item)), self.catalogue.trigrams(int(item))) for item in ids]
            found[1:] = lexical.wording(candidates.query, titles).T
        return found

    def _history(self, candidates: Candidates, ids: NDArray[np.int32]) -> list[NDArray[Any]]:
        history = candidates.history
        place = np.flatnonzero((history.item != schema.PAD) & (history.event != EventKind.IMPRESSION))
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
            if len(neighbours):
                order = np.argsort(neighbours)
                place = order[np.minimum(np.searchsorted(neighbours, ids, sorter=order), len(order) - 1)]
                found = np.where(neighbours[place] == ids, affinity[place], found)
        return found
