"""Audiences: the users most likely to want an item, a category or the products of a search; for campaigns.

The score of a user is the probability of an event on the target in a window as long as the validation part: a logistic
regression on the user's decayed events and on the probability that the history model gives to the products of the
target (`audience_model`). Without such a regression, as in logs without times, it is the expected number of next events
on the target: the user's rate of events times the share of it that the target takes, which is that of their own decayed
events, shrunk towards the probability by the history model (a Dirichlet prior of `PRIOR_EVENTS` events). Users without
a history have the target's popularity times its lift for their properties as probability.
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
from txrec.index.filters.filters import Filters
from txrec.index.live_log import LiveEvent
from txrec.recommender.audience_model import HALF_LIFE_DAYS, PRIOR_EVENTS, TargetKind, features
from txrec.recommender.bundle import Bundle
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.lists.next_items import BATCH, NextItems, history_of
from txrec.recommender.page_types import PageRequest
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.retrieval.retriever import Retriever
from txrec.recommender.types import Request, Slate
from txrec.schema import DAY_US, EventKind, Split

IDLE_RATE = 0.05
"""Added to every user's rate: somebody without recent events may come again."""
QUERY_ITEMS = 100
"""First products of a search that are the target of a query."""


class AudienceModel(Protocol):
    """The part of `txrec.recommender.recommender.Recommender` that audiences are made with."""

    bundle: Bundle
    catalogue: Catalogue
    retriever: Retriever
    ranking_features: RankingFeatures

    def search_page(self, request: Request, page: PageRequest) -> Slate:
        """A page of everything that matches a request."""

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
        score: probability of an event on the target in the window, or expected next events without a regression.
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
        kind: of the regression that scores users; the products of a query are scored like a category.
    """

    item_idx: NDArray[np.int64]
    weights: NDArray[np.float64]
    kind: TargetKind = "item"

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
                raise UnknownItemError.of("items", unknown)
            weight_of = {catalogue.idx_of[key]: 1.0 for key in request.items}
        elif request.category:
            mask = catalogue.filters.mask(Filters(category=(request.category,)))
            weight_of = dict.fromkeys(np.flatnonzero(mask).tolist() if mask is not None else [], 1.0)
        else:
            slate = recommender.search_page(Request(query=request.query, top_k=QUERY_ITEMS), PageRequest())
            if slate.page is not None and slate.page.match == "nearest":
                slate = replace(slate, items=())  # the nearest products of a search without matches are no target
            top = max((item.score for item in slate.items), default=1.0)
            weight_of = {catalogue.idx_of[item.item_id]: item.score / max(top, 1e-9) for item in slate.items}
        if not weight_of:
            raise RequestError(request.kind, f"no product has the {request.kind} {getattr(request, request.kind)!r}")
        weights = np.zeros(len(catalogue) + 1)
        weights[list(weight_of)] = np.clip(list(weight_of.values()), 0.0, 1.0)
        kind: TargetKind = "item" if request.items else "category"
        return cls(np.array(sorted(weight_of), np.int64), weights, kind)


class Audience:
    """Scores of users for one target."""

    def __init__(self, recommender: AudienceModel, target: Target, now_us: int) -> None:
        """Takes the model, the target and the time from which ages are counted."""
        self._recommender, self._target, self._now_us = recommender, target, now_us
        self._popularity = recommender.ranking_features.activity.shares[:, -1].astype(np.float64)
        self._items = NextItems(recommender.retriever, recommender.ranking_features.item_vectors)
        fitted = recommender.bundle.audience
        self._regression = None if fitted is None else fitted.by_kind.get(target.kind)

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
        """(U,) probability of an event on the target in the window, or expected events without a regression.

        Args:
            users: their histories; `query_idx` holds the bundle's own.
            habits: of the same users.
            profiles: (U,) properties by name; empty = none are known.
        """
        prior = np.empty(len(users))
        for start in range(0, len(users), BATCH):
            rows = range(start, min(start + BATCH, len(users)))
            states = self._items.states([history_of(users, row) for row in rows], self._now_us)
            prior[rows.start : rows.stop] = self._items.probability(states, self._target.weights)
        for row in np.flatnonzero(np.diff(users.offsets) == 0).tolist():
            prior[row] = self._probability_of_profile(profiles[row] if profiles else {})
        if self._regression is None:
            return _expected(habits, prior)
        weights = self._target.weights
        wider = wider_weights(weights, self._recommender.catalogue.categories)
        return self._regression.probability(features(users, weights, wider, self._now_us, prior))

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


def wider_weights(weights: NDArray[np.float64], category: NDArray[Any]) -> NDArray[np.float64]:
    """(N + 1,) weights of all products of the categories of a target: the greatest of each category.

    Args:
        weights: (N + 1,) of the target.
        category: (N + 1,) leaf category of every product, PAD = none.
    """
    greatest = np.zeros(int(category.max(initial=0)) + 1)
    np.maximum.at(greatest, category, weights)
    greatest[schema.PAD] = 0.0
    wider: NDArray[np.float64] = np.maximum(weights, greatest[category])
    return wider


def before(sequences: Sequences, split: Split) -> Sequences:
    """Users with events before a part of the log, and those events."""
    kept = sequences.split < split
    counts = np.add.reduceat(np.append(kept, False), sequences.offsets[:-1]) * (np.diff(sequences.offsets) > 0)
    columns = {
        name: getattr(sequences, name)[kept] for name in ("item_idx", "query_idx", "event", "ts", "value", "split")
    }
    cut = replace(sequences, offsets=np.append(0, np.cumsum(counts)).astype(np.int64), **columns)
    return select(cut, np.flatnonzero(counts > 0))


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
