"""Ranker features of a candidate given a request, in training and in serving.

Count-based features must not have seen the event that is being ranked: counts are fitted on a log that ends before the
requests they are used for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.arrays import sorted_index
from txrec.index.arrays import load_arrays, save_arrays
from txrec.index.log import FAST_HALF_LIFE_FACTOR, NUM_TIME_DECAYS, EventLog
from txrec.index.source import NUM_TERM_MATCH, Source, Title
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.types import Candidates
from txrec.schema import DAY_US, EventKind
from txrec.text import trigrams

DECAYS = ("slow", "fast", "plain")
"""Time decays of every count, in the order of `NUM_TIME_DECAYS` columns."""
REQUEST_FEATURES = (
    "has_query",
    "query_length",
    "history_length",
    "days_since_last_event",
    "query_clicks",
    "query_similarity",
)
"""Names of the columns of `request_features`."""
TERM_MATCH = (
    "term_match.lexical_score",
    "term_match.rarity_share",
    "term_match.rarest_missed",
    "term_match.last_word",
    "term_match.last_word_trigrams",
    "term_match.worst_word_trigrams",
    "term_match.mean_word_trigrams",
)
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
            np.bincount(log.item_idx, weights=log.weights(half_life), minlength=size).astype(np.float32)
            for half_life in (half_life_days, half_life_days * FAST_HALF_LIFE_FACTOR, np.inf)
        ]
        last = np.zeros(size, np.int64)
        np.maximum.at(last, log.item_idx, log.ts)
        return cls(counts[0], counts[1], counts[2], last, log.first_ts(num_items), log.end_us)

    def with_items(self, num_items: int) -> "Activity":
        """The same over a grown catalogue; new items have no events."""
        more = num_items + 1 - len(self.slow)
        if not more:
            return self
        grown: dict[str, Any] = {name: np.pad(array, (0, more)) for name, array in self._arrays().items()}
        return Activity(**grown, end_us=self.end_us)

    def features(self, ids: NDArray[np.int32], now_us: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Popularity, trend and recency of P items, each at a time of its own (0 = when the log ends), by columns."""
        now = np.where(now_us > 0, now_us, self.end_us)
        known = self.last_ts[ids] > 0
        since_last = np.where(known, np.maximum(now - self.last_ts[ids], 0) / DAY_US, 365.0)
        since_first = np.where(known, np.maximum(now - self.first_ts[ids], 0) / DAY_US, 0.0)
        return [*self._popularity[ids].T, np.log1p(since_last), np.log1p(since_first)]

    def warm(self) -> None:
        """Fills the cached logarithms and shares, so that the first request need not wait for them."""
        for name in ("_popularity", "shares"):
            getattr(self, name)

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
        """(N + 1, NUM_TIME_DECAYS) each item's share of all events at every pace; no item's is 0."""
        counts = np.stack([self.slow, self.fast, self.plain], axis=1) + np.float32(PRIOR_EVENTS)
        return np.asarray(counts / counts[1:].sum(axis=0), np.float32)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "end_us"}


@dataclass(frozen=True, eq=False)
class _Sets:
    """The candidates of B requests one after the other, P in all: what is computed for all at once costs one call."""

    requests: Sequence[Candidates]
    parts: Sequence[slice]  # (B,) where the candidates of each request are
    item_idx: NDArray[np.int32]  # (P,)
    row: NDArray[np.int64]  # (P,) the request of each

    @classmethod
    def of(cls, requests: Sequence[Candidates], counts: Sequence[int]) -> "_Sets":
        """The first candidates of each request, so many of them."""
        ends = np.cumsum([0, *counts]).tolist()
        ids = np.concatenate([one.item_idx[:count] for one, count in zip(requests, counts, strict=True)])
        parts = [slice(start, end) for start, end in pairwise(ends)]
        return cls(requests, parts, ids, np.repeat(np.arange(len(requests)), counts))

    def __len__(self) -> int:
        return len(self.item_idx)

    def __iter__(self) -> Iterator[tuple[int, Candidates, slice]]:
        """(number, request, where its candidates are)."""
        return zip(range(len(self.requests)), self.requests, self.parts, strict=True)

    @cached_property
    def now_us(self) -> NDArray[np.int64]:
        """(P,) time of the candidate's request."""
        return np.array([one.now_us for one in self.requests], np.int64)[self.row]

    def joined(self, arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """(P, ...) of an array for each request whose first rows are of its candidates."""
        return np.concatenate([array[: part.stop - part.start] for array, part in zip(arrays, self.parts, strict=True)])

    def of_searches(
        self, width: int, make: Callable[[Candidates, NDArray[np.int32]], NDArray[Any]]
    ) -> NDArray[np.float32]:
        """(P, width) of what a function makes of a request with a query and its K ids, (K, width); zeros elsewhere."""
        found = np.zeros((len(self), width), np.float32)
        for _, one, part in self:
            if one.query:
                found[part] = make(one, self.item_idx[part])
        return found


@dataclass(frozen=True, eq=False)
class _Histories:
    """What B users did with items, one user after the other: E events in all, impressions left out."""

    row: NDArray[np.int64]  # (E,) whose
    item_idx: NDArray[np.int32]  # (E,)
    ts: NDArray[np.int64]  # (E,)
    bought: NDArray[np.bool_]  # (E,)
    back: NDArray[np.int64]  # (E,) steps back from the user's last one
    last: NDArray[np.int32]  # (B,) item of everybody's last event, PAD = none

    @classmethod
    def of(cls, requests: Sequence[Candidates]) -> "_Histories":
        """The histories of requests."""
        all_of = [one.history for one in requests]
        row = np.repeat(np.arange(len(all_of)), [len(one.item_idx) for one in all_of])
        item, event = (np.concatenate([getattr(one, name) for one in all_of]) for name in ("item_idx", "event"))
        kept = np.flatnonzero((item != schema.PAD) & schema.is_engagement(event))
        row, item, event = row[kept], item[kept], event[kept]
        count = np.bincount(row, minlength=len(all_of))
        ends = np.cumsum(count)
        last = np.full(len(all_of), schema.PAD, np.int32)
        last[count > 0] = item[ends[count > 0] - 1]
        ts = np.concatenate([one.ts for one in all_of])[kept]
        return cls(row, item, ts, event >= EventKind.PURCHASE, ends[row] - 1 - np.arange(len(row)), last)

    def found(self, sets: _Sets) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the events that were about a candidate of their user, and that candidate's; in order of time."""
        size = 1 + max(sets.item_idx.max(initial=0), self.item_idx.max(initial=0))
        candidate, there = sorted_index(sets.row * size + sets.item_idx, self.row * size + self.item_idx)
        place = np.flatnonzero(there)
        return place, candidate[place]


class FeatureGroup(NamedTuple):
    """Columns of the ranker features that one function computes."""

    names: tuple[str, ...]
    compute: Callable[[_Sets], Iterable[NDArray[Any]]]
    """Candidate sets to one column per name, P long."""
    model_derived: frozenset[str] = frozenset()
    """Names of those that trained vectors decide."""


@dataclass(frozen=True, eq=False)
class RankingFeatures:
    """Everything that features are made from; the catalogue, the vectors and the fitted counts."""

    catalogue: Catalogue
    activity: Activity
    item_vectors: NDArray[np.float32]  # (N + 1, D) of the retrieval model
    item_text: NDArray[np.float32] | None  # (N + 1, Dt) of the text encoder
    sources: Mapping[str, Source]
    use_term_match: bool = False
    """Whether features tell how titles meet a query's words one by one: rankers trained on grades read them."""

    def warm(self) -> None:
        """Fills what is cached, so that the first request need not wait for it."""
        _ = self.names
        self.catalogue.warm()
        self.activity.warm()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(F,) names of the columns of `compute`."""
        return tuple(name for group in self._groups for name in group.names)

    @property
    def num_features(self) -> int:
        """F, columns of `compute`."""
        return len(self.names)

    @property
    def model_derived_columns(self) -> list[int]:
        """Columns of `compute` that trained vectors decide: too good on events that the vectors were trained on."""
        derived = frozenset().union(*(group.model_derived for group in self._groups))
        return [column for column, name in enumerate(self.names) if name in derived]

    def compute(self, candidates: Sequence[Candidates], counts: Sequence[int]) -> NDArray[np.float32]:
        """(P, F) features of the first candidates of B requests, `counts` of each, request by request; not scaled."""
        sets = _Sets.of(candidates, counts)
        table = np.empty((self.num_features, len(sets)), np.float32)
        columns = (column for group in self._groups for column in group.compute(sets))
        for row, column in enumerate(columns):  # sooner than to stack columns of several types
            table[row] = column
        return table.T

    @cached_property
    def _groups(self) -> tuple[FeatureGroup, ...]:
        """The columns of `compute` from left to right; the first one is `ORDER`."""
        per_source = tuple(f"{name}.{kind}" for kind in ("proposed", "rank", "score") for name in self.sources)
        derived = frozenset(name for name in per_source if self.sources[name.split(".")[0]].model_derived)
        shares = tuple(f"share_{of}.{decay}" for of in ("query", "similar_queries", "all") for decay in DECAYS)
        own = tuple(f"{name}.{column}" for name, source in self.sources.items() for column in source.feature_names)
        return (
            FeatureGroup(("retrieval_order",), self._order),
            FeatureGroup(per_source, self._source_columns, derived),
            FeatureGroup(("state_cosine", "fused_score"), self._retrieval, frozenset({"state_cosine"})),
            FeatureGroup((*shares, "clicks_query", "clicks_similar_queries", "clicks_and_name"), self._shares),
            FeatureGroup(
                (*(f"popularity.{decay}" for decay in DECAYS), "trend", "days_since_last", "days_since_first"),
                self._activity,
            ),
            FeatureGroup(("price", "has_price"), self._prices),
            FeatureGroup(
                ("text_cosine", "query_terms_in_title", "title_in_query", "query_trigrams_in_title"),
                self._text,
                frozenset({"text_cosine"}),
            ),
            FeatureGroup(("cold.lexical_score", "cold.lexical_rank", "cold.query_terms_in_title"), self._cold_matches),
            *((FeatureGroup(TERM_MATCH, self._term_match),) if self.use_term_match else ()),
            FeatureGroup(
                (
                    "history.events",
                    "history.recency_rank",
                    "history.recency_days",
                    "history.purchased",
                    "history.last_item_affinity",
                    "history.last_item_cosine",
                    "history.same_category",
                ),
                self._history,
                frozenset({"history.last_item_cosine"}),
            ),
            FeatureGroup(own, self._own_columns),
        )

    def request_features(self, candidates: Candidates) -> NDArray[np.float32]:
        """(NUM_REQUEST_FEATURES,) of the request as a whole, named by `REQUEST_FEATURES`."""
        history = candidates.history
        known = [source.familiarity(candidates.query) for source in self.sources.values()] if candidates.query else []
        same = np.log1p(max((clicks for clicks, _ in known), default=0.0))
        near = max((similarity for _, similarity in known), default=0.0)
        idle = 0.0
        if len(history.ts) and history.ts[-1] > 0 and candidates.now_us:
            idle = np.log1p(max(candidates.now_us - int(history.ts[-1]), 0) / DAY_US)
        length = np.log1p(len(history.item_idx))
        return np.array([bool(candidates.query), len(candidates.query) / 32, length, idle, same, near], np.float32)

    def _order(self, sets: _Sets) -> list[NDArray[Any]]:
        return [np.concatenate([-np.log1p(np.arange(part.stop - part.start)) for part in sets.parts])]

    def _source_columns(self, sets: _Sets) -> list[NDArray[Any]]:
        ranks = sets.joined(one.ranks for one in sets.requests)
        found = ranks > 0
        scores = np.where(found, sets.joined(one.scores for one in sets.requests), np.float32(0))
        top = np.maximum.reduceat(scores, [part.start for part in sets.parts], axis=0)
        scaled = scores / np.maximum(top, np.float32(1e-6))[sets.row]
        return [*found.T, *np.where(found, 3.0 / (2.0 + ranks), 0.0).T, *scaled.T]

    def _retrieval(self, sets: _Sets) -> list[NDArray[Any]]:
        return [
            self._cosines(sets, [one.state for one in sets.requests]),
            sets.joined(one.fused for one in sets.requests),
        ]

    def _activity(self, sets: _Sets) -> list[NDArray[Any]]:
        return self.activity.features(sets.item_idx, sets.now_us)

    def _cosines(
        self, sets: _Sets, vectors: Sequence[NDArray[np.float32]] | NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(P,) of each candidate's vector with that of its request, (D,) each."""
        return np.concatenate([self.item_vectors[sets.item_idx[part]] @ vectors[row] for row, _, part in sets])

    def _shares(self, sets: _Sets) -> list[NDArray[Any]]:
        """How the clicks of the same query, of those spelled alike and of everybody are shared out among items.

        As logarithms at every pace, each smoothed by the next wider one; then two plain shares, and what a careful shop
        would sort by: like queries' clicks and the name.
        """
        own, own_total, votes, votes_total = np.split(sets.of_searches(4 * NUM_TIME_DECAYS, self._clicks), 4, axis=1)
        everybody = self.activity.shares[sets.item_idx]
        alike = (votes + PRIOR_VOTES * everybody) / (votes_total + PRIOR_VOTES)
        same = (own + PRIOR_CLICKS * alike) / (own_total + PRIOR_CLICKS)
        least = np.float32(1e-9)
        plain = [own[:, 0] / np.maximum(own_total[:, 0], least), votes[:, 0] / np.maximum(votes_total[:, 0], least)]
        name = sets.of_searches(1, self._name_match)[:, 0]
        by_hand = np.log(plain[1] + NAME_WEIGHT * name + LEAST_SHARE)
        return [*np.log(np.concatenate([same, alike, everybody], axis=1)).T, *plain, by_hand]

    def _clicks(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K, 4 NUM_TIME_DECAYS) clicks after the query, after it and similar ones, each followed by all items'."""
        counts = (source.click_counts(candidates.query, ids) for source in self.sources.values())
        known = next((one for one in counts if one is not None), None)
        if known is None:
            return np.zeros((len(ids), 4 * NUM_TIME_DECAYS), np.float32)
        own_total, votes_total = (
            np.broadcast_to(all_, known.own.shape) for all_ in (known.own_total, known.votes_total)
        )
        return np.concatenate([known.own, own_total, known.votes, votes_total], axis=1)

    def _name_match(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 1) the lexical source's scores, 1 for its best one."""
        if "lexical" not in self.sources:
            return np.zeros((len(ids), 1), np.float32)
        scores = candidates.scores[:, list(self.sources).index("lexical")]
        scores = np.where(np.isnan(scores), np.float32(0), scores)  # a fifth of the time of nan_to_num
        return np.asarray(scores[: len(ids), None] / max(float(scores.max(initial=0.0)), 1e-6))

    def _prices(self, sets: _Sets) -> list[NDArray[Any]]:
        price = self.catalogue.prices[sets.item_idx]
        known = ~np.isnan(price)
        return [np.log1p(np.where(known, price, 0.0)), known]

    def _text(self, sets: _Sets) -> list[NDArray[Any]]:
        return [*sets.of_searches(4, self._text_of).T]

    def _text_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 4) how much products' texts have of the query."""
        cosine = np.zeros(len(ids)) if self.item_text is None else self.item_text[ids] @ candidates.query_vector
        query_terms, grams = self.catalogue.analyser.terms(candidates.query), frozenset(trigrams(candidates.query))
        terms = list({frozenset(token for token, _ in term) for term in query_terms})
        titles = [self.catalogue.title_tokens(int(item)) for item in ids]
        shared = np.array([sum(not term.isdisjoint(title) for term in terms) for title in titles], dtype=np.float64)
        lengths = np.array([len(title) for title in titles])
        spelled = [self.catalogue.trigrams(int(item)) for item in ids]
        covered = np.array([len(grams & title) for title in spelled]) / max(len(grams), 1)
        return np.stack([cosine, shared / max(len(terms), 1), shared / np.maximum(lengths, 1), covered], axis=1)

    def _cold_matches(self, sets: _Sets) -> list[NDArray[Any]]:
        """How well a product without events meets the query by its name; zeros for all others.

        Clicks know nothing of it, so its name has to count for more than another's.
        """
        cold = self.activity.plain[sets.item_idx] == 0
        return [*np.where(cold[:, None], sets.of_searches(3, self._cold_matches_of), np.float32(0)).T]

    def _cold_matches_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 3) lexical score, 1 for the best one; reciprocal lexical rank; share of query terms in the title."""
        if "lexical" not in self.sources:
            return np.zeros((len(ids), 3), np.float32)
        ranks = candidates.ranks[: len(ids), list(self.sources).index("lexical")]
        found = np.zeros((len(ids), 3), np.float32)
        found[:, 0] = self._name_match(candidates, ids)[:, 0]
        found[:, 1] = np.where(ranks > 0, 3.0 / (2.0 + ranks), 0.0)
        cold = np.flatnonzero(self.activity.plain[ids] == 0)
        terms = [frozenset(token for token, _ in term) for term in self.catalogue.analyser.terms(candidates.query)]
        for place in cold.tolist():
            title = self.catalogue.title_tokens(int(ids[place]))
            found[place, 2] = sum(not term.isdisjoint(title) for term in terms) / max(len(terms), 1)
        return found

    def _term_match(self, sets: _Sets) -> list[NDArray[Any]]:
        return [*sets.of_searches(1 + NUM_TERM_MATCH, self._term_match_of).T]

    def _term_match_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K, 1 + NUM_TERM_MATCH) the lexical source's score as it is, and how the titles meet the query's words."""
        found = np.zeros((len(ids), 1 + NUM_TERM_MATCH), np.float32)
        titles = [Title(self.catalogue.title_tokens(int(item)), self.catalogue.trigrams(int(item))) for item in ids]
        for column, source in enumerate(self.sources.values()):
            matches = source.term_match(candidates.query, titles)
            if matches is not None:
                found[:, 0] = np.nan_to_num(candidates.scores[: len(ids), column])
                found[:, 1:] = matches
        return found

    def _own_columns(self, sets: _Sets) -> list[NDArray[Any]]:
        """Columns that sources add of their own."""
        columns: list[NDArray[Any]] = []
        for source in self.sources.values():
            if source.feature_names:
                parts = [source.features(one.query, one.history.item_idx, sets.item_idx[part]) for _, one, part in sets]
                columns.extend(np.concatenate(parts).T)
        return columns

    def _history(self, sets: _Sets) -> list[NDArray[Any]]:
        history = _Histories.of(sets.requests)
        place, candidate = history.found(sets)  # of events, and of candidates that they were about
        back, bought = np.full(len(sets), -1), np.zeros(len(sets), np.bool_)
        last_ts = np.zeros(len(sets), np.int64)
        back[candidate], last_ts[candidate] = history.back[place], history.ts[place]  # the last of several stays
        bought[candidate[history.bought[place]]] = True
        seen = back >= 0
        days = np.where(sets.now_us > 0, np.maximum(sets.now_us - last_ts, 0) / DAY_US, 0.0)
        category = self.catalogue.categories[history.last][sets.row]
        return [
            np.log1p(np.bincount(candidate, minlength=len(sets))),
            np.where(seen, 1.0 / (1 + np.maximum(back, 0)), 0.0),
            np.where(seen, 1.0 / (1.0 + days), 0.0),
            bought,
            np.concatenate([self._affinity(int(history.last[row]), sets.item_idx[part]) for row, _, part in sets]),
            self._cosines(sets, self.item_vectors[history.last]),
            (self.catalogue.categories[sets.item_idx] == category) & (category > 0),
        ]

    def _affinity(self, item: int, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K,) greatest affinity that a source knows between an item and K candidates."""
        known = [source.affinities(item, ids) for source in self.sources.values()]
        return np.max(known, axis=0) if known else np.zeros(len(ids), np.float32)
