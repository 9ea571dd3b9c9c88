"""HTTP bodies of recommendation, search, similar products and ranking, and the slate that answers them."""

from pydantic import ConfigDict, Field

from serve.api.base import ITEMS, MAX_IDS, QUERY, USER, Body, Id, Reply
from serve.api.events import MAX_SESSION_EVENTS, SessionEvent
from serve.api.pages import GroupReply, PageFields, PageReply, TextPart
from txrec.config import ObjectiveConfig
from txrec.index.filters.filters import Filters
from txrec.json_numbers import Integer, Number

MAX_RANKED = 1_000


class ContextRequest(Body):
    """Fields of every request whose answer depends on its circumstances."""

    explain: bool = False
    """Fill `reasons` and `timings_ms`."""
    placement: Id | None = Field(None, examples=["home"])
    """Name of the place where the slate is shown; rules and reports know it."""
    segments: tuple[Id, ...] = Field((), max_length=100)
    """Segments of the user, for rules; those of the user's profile hold in addition."""
    context: dict[Id, Id] = Field({}, max_length=20, examples=[{"device": "mobile", "country": "AT"}])
    """Circumstances by name, e.g. device, store, country; each is the segment `name=value`, for rules, and a property
    of the user for the model. `store` and `country` decide prices and stock."""
    rules: bool = True
    """false leaves merchandising rules out, e.g. to measure them."""


class SlateRequest(ContextRequest):
    """Fields of every request for a slate."""

    top_k: Integer = Field(25, ge=1)
    """Items of the slate; at most `serve.max_top_k` (1000)."""
    filters: Filters | None = None
    """Conditions on the items; they hold during retrieval, so that the slate is full whenever enough items match."""
    candidates: Integer = Field(0, ge=0, le=1_000)
    """Number of candidates to return as well, in the order in which retrieval proposed them, before ranking."""


class UserFields(Body):
    """Fields of a request for a user."""

    user_id: Id | None = Field(None, examples=[USER])
    """User whose history is used; absent or unknown = no history."""
    session: tuple[SessionEvent, ...] = Field((), max_length=MAX_SESSION_EVENTS)
    """Events of the user since then, oldest first; they follow the stored history."""
    max_showings: Integer = Field(0, ge=0, le=1_000)
    """Products that were shown this often (`impression` events) since the user last engaged with them stand behind all
    others; 0 = none do."""
    fatigue: bool = False
    """Lowers the scores of products that the user was shown in vain, as served slates in the training log taught; no
    effect where there were none."""
    seen_places: Integer = Field(0, ge=0, le=1_000)
    """Number of first products of every slate of this server that count as shown to the user too; 0 = only those of
    `impression` events do."""
    objective: ObjectiveConfig | None = Field(None, examples=[{"click": 0.1, "purchase": 1.0, "revenue": 0.02}])
    """Worth of clicks, carts and purchases that decides the order; {} = by relevance, absent = as the placement or the
    bundle says."""


class PersonalRequest(SlateRequest, UserFields):
    """Fields of a personal request for a slate."""

    items: tuple[Id, ...] = Field((), max_length=MAX_IDS)
    """Products in the cart: they count as history and are never recommended."""
    exclude: tuple[Id, ...] = Field((), max_length=MAX_IDS)
    """Products that must not be shown."""
    exclude_seen: bool = False
    """Leave out everything in the user's history, products of `impression` events included, except what a rule pins or
    promotes by name and the fallback products of the placement."""
    diversity: Number = Field(0.0, ge=0.0, le=1.0)
    """0 = by relevance alone, 1 = by dissimilarity to what is already in the slate."""
    sources: tuple[Id, ...] = Field((), max_length=50, examples=[["dense", "popularity"]])
    """Candidate sources that may propose products; empty = all."""


class RecommendRequest(PersonalRequest, PageFields):
    """Recommendations for a user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": USER, "top_k": 10},
                {"user_id": USER, "top_k": 10, "objective": {"click": 0.1, "purchase": 1.0, "revenue": 0.02}},
                {"session": [{"event": "click", "item_id": ITEMS[0]}], "top_k": 10, "explain": True},
            ]
        }
    )

    query: str | None = None
    """Search text; absent or blank = recommendation without a search. At most `serve.max_query_chars` (512) characters,
    as in every other request."""


class SearchRequest(PersonalRequest, PageFields):
    """Products for a search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": QUERY, "top_k": 10, "filters": {"price": {"max": 50}}},
                {"query": QUERY, "top_k": 10, "facets": ["auto"], "sort": "price", "group_by": "colour"},
            ]
        }
    )

    query: str = Field(min_length=1)
    """Search text; not blank, at most `serve.max_query_chars` (512) characters."""


class SimilarRequest(SlateRequest):
    """Products similar to one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": ITEMS[0], "top_k": 10}]})

    item_id: Id
    """The product to start from."""


class RankRequest(ContextRequest, UserFields):
    """The caller's own list, put in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": list(ITEMS), "query": "lamp"},
                {"items": list(ITEMS), "user_id": USER, "placement": "cart", "context": {"country": "AT"}},
            ]
        }
    )

    items: tuple[Id, ...] = Field(min_length=1, max_length=MAX_RANKED)
    """Products to order; those that cannot be bought in the store or country of the `context` now stand last."""
    query: str | None = None
    """Search text."""
    filters: Filters | None = None
    """Conditions; products of the list that do not fulfil them are left out."""


class ItemReply(Reply):
    """One product of a slate."""

    item_id: str
    """Raw id."""
    score: float
    """Expected worth where an objective decided the order; else click probability where the ranker ran, fused retrieval
    score otherwise."""
    title: str | None
    """As the catalogue has it."""
    price: float | None = None
    """In the store or country of the request's `context`, else the usual one."""
    source: str
    """The candidate source that ranked it highest."""
    sources: dict[str, float]
    """Every source that proposed it, with that source's own score."""
    reasons: list[str]
    """Reasons of its place in the slate; empty unless `explain`."""
    highlight: list[TextPart] = Field(default_factory=list)
    """The title in parts, marked where they match; empty unless `highlight`."""
    group: GroupReply | None = None
    """Products that it stands for, with `group_by`."""
    estimates: dict[str, float] = Field({})
    """Estimates by which an objective decided the order: probability of `click`, `cart` and `purchase`, and `revenue`,
    the expected price paid, as far as the model has them; else empty."""


class AppliedRule(Reply):
    """A rule that acted on a slate."""

    rule_id: str
    """Name of the rule."""
    effect: str
    """Type of its effect."""


class SlateReply(Reply):
    """A ranked slate."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": "5f0c9a2e7d1b4c55a1f7f0f3f7c0a001",
                    "model_version": "v3",
                    "variant": "production",
                    "took_ms": 11.8,
                    "fallback": None,
                    "items": [
                        {
                            "item_id": ITEMS[0],
                            "score": 0.41,
                            "title": "Reading lamp, brass",
                            "price": 49.9,
                            "source": "dense",
                            "sources": {"dense": 0.83, "lexical": 7.1},
                            "reasons": ["matches 'blue jeans'"],
                        }
                    ],
                    "candidates": [],
                    "notes": [],
                    "timings_ms": {},
                }
            ]
        }
    )

    request_id: str
    """Send it with later events: it joins them to this slate."""
    model_version: str
    """Version of the bundle that answered."""
    variant: str
    """Role of the model that answered: `production`, `canary` or `experiment`."""
    experiments: dict[str, str] = Field({})
    """Experiment = variant of every experiment that the user takes part in."""
    took_ms: float
    """Time in the server, milliseconds."""
    fallback: str | None
    """null, or the reason of a simpler answer: `unknown_user`, `ranker_unavailable`, `history_unavailable`,
    `corrected_query`, `partial_match`, `nearest_match`, `version_unavailable`."""
    items: list[ItemReply]
    """The slate, best first."""
    candidates: list[ItemReply]
    """Candidates before ranking, as many as `candidates` of the request."""
    rules: list[AppliedRule] = Field([])
    """Rules that acted on the slate; empty unless `explain`."""
    redirect: str | None = None
    """Page that a rule sends the user to."""
    page: PageReply | None = None
    """Total, facets and the like; null unless the request has a field of a page."""
    notes: list[str]
    """Ignored parts of the request, e.g. unknown products in the session."""
    timings_ms: dict[str, float]
    """Stage = milliseconds, for the whole batch the request was in; empty unless `explain`. `retriever_call` and
    `ranker_call` are calls of other processes, their work included."""
