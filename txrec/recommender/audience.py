"""Audiences: the users most likely to want an item, a category or the products of a search; for campaigns.

The score of a user is the expected number of their next events on the target: their rate of events times the share of
it that the target takes. The share is estimated from the user's own decayed events, shrunk towards the probability that
the history model gives to the products of the target (a Dirichlet prior of `PRIOR_EVENTS` events). Users without a
history have the target's popularity times its lift for their properties as probability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.arrays import ragged_gather
from txrec.data.prepared import Sequences
from txrec.errors import RequestError, UnknownItemError
from txrec.index.filters import Filters
from txrec.index.live import LiveEvent
from txrec.model.history_features import History
from txrec.recommender.bundle import Bundle
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking_features import RankingFeatures
from txrec.recommender.retriever import BatchQueryVectors, RetrievalQuery, Retriever
from txrec.recommender.types import Request, Slate
from txrec.schema import DAY_US, EventKind, Split

PRIOR_EVENTS = 10.0
"""Events that the probability by the history model weighs as much as."""
IDLE_RATE = 0.05
"""Added to every user's rate: somebody without recent events may come again."""
HALF_LIFE_DAYS = 21.0
"""Events lose half their weight in this time, days."""
QUERY_ITEMS = 100
"""First products of a search that are the target of a query."""
MAX_EXACT, SAMPLED = 50_000, 20_000
"""Catalogues with more products have their probabilities normalised by a sample of so many."""
BATCH = 256


class AudienceModel(Protocol):
    """The part of `txrec.recommender.recommender.Recommender` that audiences are made with."""

    bundle: Bundle
    catalogue: Catalogue
    retriever: Retriever
    ranking_features: RankingFeatures

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Slates for a batch of requests."""

    def profile_of(self, user_id: str) -> Mapping[str, str]:
        """Properties of a user in the users table."""


@dataclass(frozen=True)
class AudienceRequest:
    """A question for an audience; one of items, category and query.

    Attributes:
        items: raw ids; users who want any of them.
        category: name anywhere on the category path.
        query: search text; its first products are the target.
        top_n: users wanted.
        exclude_buyers: leave out users who bought a product of the target.
        max_encoded: users whose histories are encoded, those with most expected events by a first estimate; 0 = all.
    """

    items: tuple[str, ...] = ()
    category: str = ""
    query: str = ""
    top_n: int = 1_000
    exclude_buyers: bool = False
    max_encoded: int = 0

    @property
    def kind(self) -> str:
        """`item`, `category` or `query`."""
        return "item" if self.items else "category" if self.category else "query"


class Member(NamedTuple):
    """A user of an audience.

    Attributes:
        user_id: raw id.
        score: expected number of next events on the target, relative.
        events: events of the user on products of the target.
        purchases: of them, purchases.
    """

    user_id: str
    score: float
    events: int
    purchases: int


@dataclass(frozen=True)
class AudienceAnswer:
    """The users most likely to want a target, best first.

    Attributes:
        members: the users.
        num_users: users who were considered.
        num_encoded: of them, those whose histories the model read.
        num_items: products of the target.
    """

    members: tuple[Member, ...] = ()
    num_users: int = 0
    num_encoded: int = 0
    num_items: int = 0


class Habits(NamedTuple):
    """Past events of U users, decayed and as they are."""

    rate: NDArray[np.float64]  # (U,) decayed events
    own: NDArray[np.float64]  # (U,) decayed events on the target, by its weights
    events: NDArray[np.int64]  # (U,) events on the target
    purchases: NDArray[np.int64]  # (U,) purchases of the target

    def select(self, rows: NDArray[np.int64]) -> "Habits":
        """Habits of some of the users."""
        return Habits(self.rate[rows], self.own[rows], self.events[rows], self.purchases[rows])


@dataclass(frozen=True, eq=False)
class Target:
    """Products that an audience is to want.

    Attributes:
        item_idx: (n,) dense indices.
        weights: (N + 1,) weight of every product, 0 to 1; 0 for all others.
    """

    item_idx: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, recommender: AudienceModel, request: AudienceRequest) -> "Target":
        """Products of a request; those of a query weigh by their places in the search.

        Raises:
            UnknownItemError: an item that the catalogue does not hold.
            RequestError: not exactly one of items, category and query, or no product that fits; names the field.
        """
        if sum(bool(part) for part in (request.items, request.category, request.query)) != 1:
            raise RequestError("items", "expected exactly one of items, category and query")
        catalogue = recommender.catalogue
        if request.items:
            unknown = next((key for key in request.items if key not in catalogue.idx_of), None)
            if unknown is not None:
                raise UnknownItemError("items", f"{unknown} is not in the catalogue; expected item_ids that it holds")
            weight_of = {catalogue.idx_of[key]: 1.0 for key in request.items}
        elif request.category:
            mask = catalogue.filters.mask(Filters(category=(request.category,)))
            weight_of = dict.fromkeys(np.flatnonzero(mask).tolist() if mask is not None else [], 1.0)
        else:
            (slate,) = recommender.recommend([Request(query=request.query, top_k=QUERY_ITEMS)])
            top = max((item.score for item in slate.items), default=1.0)
            weight_of = {catalogue.idx_of[item.item_id]: item.score / max(top, 1e-9) for item in slate.items}
        if not weight_of:
            raise RequestError(request.kind, f"no product has the {request.kind} {getattr(request, request.kind)!r}")
        weights = np.zeros(len(catalogue) + 1)
        weights[list(weight_of)] = np.clip(list(weight_of.values()), 0.0, 1.0)
        return cls(np.array(sorted(weight_of), np.int64), weights)


class Audience:
    """Scores of users for one target."""

    def __init__(self, recommender: AudienceModel, target: Target, now_us: int) -> None:
        """Takes the model, the target and the time from which ages are counted."""
        self._recommender, self._target, self._now_us = recommender, target, now_us
        self._temperature = recommender.retriever.model.cfg.temperature
        counts = recommender.ranking_features.activity.shares[:, -1].astype(np.float64)
        self._popularity = counts
        vectors = recommender.ranking_features.item_vectors
        rows = np.arange(1, len(vectors))
        if len(rows) > MAX_EXACT:
            rows = np.random.default_rng(0).choice(rows, SAMPLED, replace=False)
        self._others = vectors[rows]
        self._scale = (len(vectors) - 1) / max(len(rows), 1)

    def habits(self, users: Sequences) -> Habits:
        """Past events of users: in all, and on the target."""
        user = np.repeat(np.arange(len(users)), np.diff(users.offsets))
        engaged = schema.is_engagement(users.event) & (users.item_idx != schema.PAD)
        age_days = np.where(users.ts > 0, np.maximum(self._now_us - users.ts, 0), 0) / DAY_US
        weight = np.exp2(-age_days / HALF_LIFE_DAYS) * engaged
        on_target = engaged * self._target.weights[users.item_idx]
        bought = (on_target > 0) & (users.event == EventKind.PURCHASE)
        sums = (weight, weight * on_target, on_target > 0, bought)
        rate, own, events, purchases = (
            np.bincount(user, np.asarray(one, np.float64), len(users)).astype(np.float64) for one in sums
        )
        return Habits(rate, own, events.astype(np.int64), purchases.astype(np.int64))

    def estimate(self, habits: Habits) -> NDArray[np.float64]:
        """(U,) first scores, by habits and the popularity of the target alone."""
        popularity = float((self._popularity * self._target.weights).sum())
        return _expected(habits, np.full(len(habits.rate), popularity))

    def scores(
        self, users: Sequences, habits: Habits, profiles: Sequence[Mapping[str, str]] = ()
    ) -> NDArray[np.float64]:
        """(U,) expected events on the target.

        Args:
            users: their histories; `query_idx` holds the bundle's own.
            habits: of the same users.
            profiles: (U,) properties by name; empty = none are known.
        """
        prior = np.empty(len(users))
        for start in range(0, len(users), BATCH):
            rows = range(start, min(start + BATCH, len(users)))
            prior[rows.start : rows.stop] = self._probabilities([_history(users, row) for row in rows])
        for row in np.flatnonzero(np.diff(users.offsets) == 0).tolist():
            prior[row] = self._probability_of_profile(profiles[row] if profiles else {})
        return _expected(habits, prior)

    def _probabilities(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """(B,) probability that the next event of a user is on the target, by the history model."""
        retriever = self._recommender.retriever
        queries = [RetrievalQuery(history, "", self._now_us) for history in histories]
        states = retriever.states(queries, BatchQueryVectors(retriever.query_encoder))
        vectors = self._recommender.ranking_features.item_vectors
        own = np.exp((states @ vectors[self._target.item_idx].T - 1.0) / self._temperature)
        all_ = np.exp((states @ self._others.T - 1.0) / self._temperature).sum(axis=1) * self._scale
        mass: NDArray[np.float64] = own @ self._target.weights[self._target.item_idx] / np.maximum(all_, 1e-30)
        return np.minimum(mass, 1.0)

    def _probability_of_profile(self, profile: Mapping[str, str]) -> float:
        ids = self._target.item_idx
        share = self._popularity[ids] * self._target.weights[ids]
        for source in self._recommender.retriever.sources.values():
            if source.knows_profile(profile):
                share = share * np.exp(source.features_of_profile(profile, ids.astype(np.int32))[:, 0])
        return min(float(share.sum()), 1.0)


def _expected(habits: Habits, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    share = (habits.own + PRIOR_EVENTS * prior) / (habits.rate + PRIOR_EVENTS)
    expected: NDArray[np.float64] = (habits.rate + IDLE_RATE) * share
    return expected


def _history(users: Sequences, row: int) -> History:
    own = slice(int(users.offsets[row]), int(users.offsets[row + 1]))
    return History(users.item_idx[own], users.query_idx[own], users.event[own], users.ts[own])


def select(users: Sequences, rows: NDArray[np.int64]) -> Sequences:
    """Some of the users, in the order of `rows`."""
    lengths = np.diff(users.offsets)[rows]
    take = ragged_gather(users.offsets[:-1][rows], lengths)
    columns = {name: getattr(users, name)[take] for name in ("item_idx", "query_idx", "event", "ts", "value", "split")}
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    return replace(users, user_id=users.user_id[rows], offsets=offsets, **columns)


@dataclass(frozen=True, eq=False)
class KnownUsers:
    """Users of a bundle, of live events and of the users table, in this order, with their histories.

    Attributes:
        users: one row per user; those of the table alone have no events.
    """

    users: Sequences = field(repr=False)

    @classmethod
    def of(cls, recommender: AudienceModel, live: Sequence[LiveEvent] = ()) -> "KnownUsers":
        """Everybody whom a recommender knows.

        Args:
            recommender: with a bundle.
            live: events since its log; those on products that it does not know are left out.
        """
        stored, idx_of = recommender.bundle.users, recommender.catalogue.idx_of
        end_us = recommender.bundle.meta.end_ts
        fresh = [one for one in live if one.ts > end_us and one.item_id in idx_of]
        row_of = {str(user): row for row, user in enumerate(stored.user_id)}
        for event in fresh:
            row_of.setdefault(event.user_id, len(row_of))
        table = recommender.bundle.profiles
        for user in table.user_ids if table is not None else ():
            row_of.setdefault(user, len(row_of))
        return cls(_joined(stored, fresh, idx_of, row_of))

    def __len__(self) -> int:
        return len(self.users)

    def part(self, start: int, stop: int) -> Sequences:
        """A range of the users."""
        return select(self.users, np.arange(start, min(stop, len(self)), dtype=np.int64))


def _joined(
    stored: Sequences, fresh: Sequence[LiveEvent], idx_of: Mapping[str, int], row_of: Mapping[str, int]
) -> Sequences:
    """Stored and live events by user and time."""
    if not fresh:
        offsets = np.append(stored.offsets, np.full(len(row_of) - len(stored), stored.offsets[-1]))
        return replace(stored, user_id=np.array(list(row_of), dtype=object), offsets=offsets)
    user = np.repeat(np.arange(len(stored)), np.diff(stored.offsets))
    user = np.append(user, np.array([row_of[one.user_id] for one in fresh], np.int64)).astype(np.int64)
    order = np.argsort(user, kind="stable")  # live events are later than the log and in the order of their arrival
    more: dict[str, NDArray[Any]] = {
        "item_idx": np.array([idx_of[one.item_id] for one in fresh], np.int32),
        "query_idx": np.zeros(len(fresh), np.int32),
        "event": np.array([one.kind for one in fresh], np.int8),
        "ts": np.array([one.ts for one in fresh], np.int64),
        "value": np.zeros(len(fresh), np.float32),
        "split": np.full(len(fresh), int(Split.TEST), np.int8),
    }
    columns = {name: np.append(getattr(stored, name), column)[order] for name, column in more.items()}
    offsets = np.append(0, np.cumsum(np.bincount(user, minlength=len(row_of)))).astype(np.int64)
    return Sequences(user_id=np.array(list(row_of), dtype=object), offsets=offsets, **columns)


def best_of(recommender: AudienceModel, users: Sequences, request: AudienceRequest, target: Target) -> AudienceAnswer:
    """The audience among some users.

    Args:
        recommender: the model.
        users: candidates.
        request: how many users, and who is left out.
        target: its products.
    """
    now_us = max(recommender.bundle.meta.end_ts, int(users.ts.max(initial=0)))
    audience = Audience(recommender, target, now_us)
    habits = audience.habits(users)
    rows = np.flatnonzero(habits.purchases == 0) if request.exclude_buyers else np.arange(len(users))
    num_users = len(rows)
    if request.max_encoded and len(rows) > request.max_encoded:
        estimate = audience.estimate(habits)[rows]
        rows = np.sort(rows[np.argsort(-estimate, kind="stable")[: request.max_encoded]])
    chosen, own = select(users, rows), habits.select(rows)
    profiles = [recommender.profile_of(str(user)) for user in chosen.user_id]
    scores = audience.scores(chosen, own, profiles)
    order = np.argsort(-scores, kind="stable")[: request.top_n]
    members = tuple(
        Member(str(chosen.user_id[row]), float(scores[row]), int(own.events[row]), int(own.purchases[row]))
        for row in order.tolist()
    )
    return AudienceAnswer(members, num_users, len(rows), len(target.item_idx))
