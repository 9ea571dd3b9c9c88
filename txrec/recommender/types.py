"""Requests, candidates and slates: the values that travel between HTTP, batch jobs, evaluation and the library.

Everything here speaks the shop's own strings (`item_id` is the raw id) except `Candidates`, the picklable half-way
result between retrieval and ranking, which carries dense indices and arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from txrec.config import ObjectiveConfig
from txrec.data.profiles import PropertyValue
from txrec.index.filters.filters import Filters
from txrec.model.history_features import History
from txrec.recommender.page_types import Group, Page


@dataclass(frozen=True)
class Event:
    """One thing that a user did, in the shop's words.

    Attributes:
        event: a label of `schema.EventKind`, e.g. `click`.
        item_id: raw item id; None for a bare search.
        query: the search text, or the search that led to the event.
        ts: microseconds since 1970 UTC; None = unknown.
        value: price of a purchase, grade of a rating.
    """

    event: str
    item_id: str | None = None
    query: str | None = None
    ts: int | None = None
    value: float | None = None


@dataclass(frozen=True)
class Request:
    """One question: what to show to this user, after these events, for this query.

    Attributes:
        user_id: raw user id; their stored history is used where `events` is empty.
        events: the user's history, oldest first; replaces the stored one.
        query: search text; None or blank = recommendation without a search.
        sent_query: search text as it was sent, where a rule changed it; None = `query`. Pages of one search have it in
            common.
        variants: search texts of the same meaning by synonym rules; a page holds the products that match any of them.
            Empty = `query` alone.
        cart: raw ids in the cart: part of the history, never recommended.
        top_k: number of items.
        filters: conditions that hold during retrieval.
        exclude: raw ids never to be shown.
        exclude_seen: leave out every item of the history.
        max_showings: products that the history shows so often since the user last engaged with them stand behind all
            others; 0 = none do.
        shown: products that slates of the server showed to the user, raw ids, and when, microseconds; oldest first.
            They count as impressions for `exclude_seen`, `max_showings` and `fatigue`.
        fatigue: scores of products that the user was shown in vain are lowered as the log teaches.
        diversity: 0 = by relevance alone, 1 = by dissimilarity to what is already in the slate (MMR).
        explain: fill `SlateItem.reasons`.
        with_candidates: fill `Slate.candidates`.
        now_us: time of the request, microseconds since 1970 UTC; None = just after the last event of the log.
        properties: of the user, by name; None = those of the users table.
        context: circumstances of the request by name, e.g. store, device; they count as properties.
        sources: names of the candidate sources that may propose; empty = all.
        objective: worth of clicks, carts and purchases that decides the order; None = the bundle's.
        blocked: (N + 1,) products that are not retrieved, by item_idx; None = none. It is not sent to a ranker.
    """

    user_id: str | None = None
    events: tuple[Event, ...] = ()
    query: str | None = None
    cart: tuple[str, ...] = ()
    top_k: int = 25
    filters: Filters | None = None
    exclude: frozenset[str] = frozenset()
    exclude_seen: bool = False
    max_showings: int = 0
    shown: tuple[tuple[str, int], ...] = ()
    fatigue: bool = False
    diversity: float = 0.0
    explain: bool = False
    with_candidates: bool = False
    now_us: int | None = None
    properties: Mapping[str, PropertyValue] | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    objective: ObjectiveConfig | None = None
    blocked: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    sent_query: str | None = None
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlateItem:
    """One recommended item.

    Attributes:
        item_id: raw id.
        score: expected worth where an objective decided the order; else click probability where a ranker ran, fused
            retrieval score otherwise.
        title: as the catalogue has it.
        price: in the store or country of the request; None where it is unknown.
        source: the candidate source that placed it best.
        sources: source name = its own score, for every source that proposed the item.
        reasons: why it is here, in plain words; empty unless `Request.explain`.
        highlight: the title in parts, each with whether it matches the query; empty unless a page asks for it.
        group: products that this one stands for on a page with groups; None = none.
        estimates: where an objective decided the order: `click`, `cart`, `purchase` = probability, `revenue` = expected
            price paid, as far as the model estimates them.
    """

    item_id: str
    score: float
    title: str | None = None
    source: str = ""
    sources: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    highlight: tuple[tuple[str, bool], ...] = ()
    group: Group | None = None
    price: float | None = None
    estimates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Slate:
    """The answer to a `Request`.

    Attributes:
        items: the slate, best first.
        candidates: what retrieval proposed, in retrieval order; empty without `Request.with_candidates`.
        fallback: None, or why a simpler answer was given: `unknown_user`, `ranker_unavailable`.
        timings_ms: stage = milliseconds; batched stages count the whole batch.
        notes: ignored parts of the request, e.g. item ids of the history that the catalogue does not hold.
        rules: rules that acted on the slate, rule_id = type of its effect.
        redirect: page that a rule sends the user to.
        page: total, facets and the like, where the request was for a page.
    """

    items: tuple[SlateItem, ...]
    candidates: tuple[SlateItem, ...] = ()
    fallback: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    redirect: str | None = None
    page: Page | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of one request from retrieval; picklable, the input of ranking.

    Attributes:
        request: the question.
        history: events that were used, in dense indices; `query_idx` holds rows of the data set's queries, for
            other texts those of the batch's `BatchQueryVectors`.
        query: normalised search text, empty = none.
        query_vector: (Dt,) text vector of the query; zeros without one.
        state: (D,) L2-normalised state of the user after the history and the query.
        item_idx: (K,) dense item indices in retrieval order.
        fused: (K,) fused score, descending.
        scores: (K, S) every source's own score, NaN where the source did not propose the item.
        ranks: (K, S) 1-based rank in every source, 0 where it did not propose the item.
        now_us: time of the request.
        profile: properties of the user and the request by name.
        fallback: None or a reason.
        notes: ignored parts of the request.
        timings_ms: stage = milliseconds.
    """

    request: Request
    history: History
    query: str
    query_vector: NDArray[np.float32]
    state: NDArray[np.float32]
    item_idx: NDArray[np.int32]
    fused: NDArray[np.float32]
    scores: NDArray[np.float32]
    ranks: NDArray[np.int32]
    now_us: int
    profile: Mapping[str, str] = field(default_factory=dict)
    fallback: str | None = None
    notes: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item_idx)

    def first(self, count: int) -> "Candidates":
        """The same with the first candidates only."""
        kept = slice(count)
        return replace(
            self, item_idx=self.item_idx[kept], fused=self.fused[kept], scores=self.scores[kept], ranks=self.ranks[kept]
        )
