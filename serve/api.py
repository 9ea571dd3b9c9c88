"""Bodies of the HTTP API: requests and replies, with limits and examples.

Ids are the shop's own strings. Bodies are closed: an unknown field is an error that names it, so that a misspelt
`filter` is never ignored. Limits that an operator sets (`serve.max_top_k`, `serve.max_query_chars`) are checked by the
ingress, the others here.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from serve.placements import Placement
from txrec.index.filters import Filters
from txrec.recommender.rules.types import Rule

Id = Annotated[str, Field(min_length=1, max_length=256)]
"""A user, item, event or request id."""
EventName = Literal["search", "impression", "view", "click", "cart", "purchase", "rate"]
"""Labels of `txrec.schema.EventKind`."""

USER, ITEMS, NEW_ITEM, QUERY = "u00042", ("SKU100013", "SKU100026", "SKU100039"), "SKU900001", "blue jeans"
"""Of the examples: a user and products of the generated shop of `configs/demo.toml`, so that examples run there."""

MAX_SESSION_EVENTS = 500
MAX_IDS = 10_000
MAX_RANKED = 1_000
MAX_EVENTS = 1_000
MAX_ITEMS = 1_000
MAX_RULES = 1_000


class Body(BaseModel):
    """A request body: closed, no NaN, fields documented under their definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Reply(BaseModel):
    """A response body."""

    model_config = ConfigDict(use_attribute_docstrings=True)


EARLIEST_SECONDS = 100_000_000
"""Times from here on could be meant in seconds (1973) or, a thousandfold, in milliseconds."""
EARLIEST_US = 946_684_800_000_000
"""Start of the year 2000: an earlier time of an event is a mistaken unit."""


class SessionEvent(Body):
    """An event of a user: with an item or, for a search, a query."""

    event: EventName = Field(examples=["click"])
    """Kind of the event."""
    item_id: Id | None = None
    """The product; absent for a search."""
    query: str | None = Field(None, max_length=10_000)
    """The search text, or the search that led to the event."""
    ts: int | None = Field(None, ge=0, le=2**53, examples=[1_700_000_000_000_000])
    """Microseconds since 1970 UTC; absent = unknown."""
    value: float | None = None
    """Price of a purchase, grade of a rating."""

    @field_validator("ts")
    @classmethod
    def _microseconds(cls, ts: int | None) -> int | None:
        if ts is not None and EARLIEST_SECONDS <= ts < EARLIEST_US:
            unit = "seconds" if ts < EARLIEST_SECONDS * 1_000 else "milliseconds"
            raise ValueError(f"ts = {ts} lies in 1970 and looks like {unit}; expected microseconds since 1970 UTC")
        return ts


class SlateRequest(Body):
    """Fields of every request for a slate."""

    top_k: int = Field(25, ge=1)
    """Items of the slate."""
    filters: Filters | None = None
    """Conditions on the items; they hold during retrieval, so that the slate is full whenever enough items match."""
    explain: bool = False
    """Fill `reasons` and `timings_ms`."""
    placement: Id | None = Field(None, examples=["home"])
    """Name of the place where the slate is shown; rules and reports know it."""
    segments: tuple[Id, ...] = Field((), max_length=100)
    """Segments of the user, for rules."""
    rules: bool = True
    """false leaves merchandising rules out, e.g. to measure them."""
    candidates: int = Field(0, ge=0, le=1_000)
    """Also return this many candidates in the order in which retrieval proposed them, before ranking."""


class PersonalRequest(SlateRequest):
    """Fields of a personal request for a slate."""

    user_id: Id | None = Field(None, examples=[USER])
    """Whose history to use; absent or unknown = no history."""
    session: tuple[SessionEvent, ...] = Field((), max_length=MAX_SESSION_EVENTS)
    """What the user has done since, oldest first; it follows the stored history."""
    items: tuple[Id, ...] = Field((), max_length=MAX_IDS)
    """Products in the cart: they count as history and are never recommended."""
    exclude: tuple[Id, ...] = Field((), max_length=MAX_IDS)
    """Products that must not be shown."""
    exclude_seen: bool = False
    """Leave out everything in the user's history."""
    diversity: float = Field(0.0, ge=0.0, le=1.0)
    """0 = by relevance alone, 1 = by dissimilarity to what is already in the slate."""


class RecommendRequest(PersonalRequest):
    """Recommendations for a user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": USER, "top_k": 10},
                {"session": [{"event": "click", "item_id": ITEMS[0]}], "top_k": 10, "explain": True},
            ]
        }
    )

    query: str | None = None
    """Search text; absent or blank = recommendation without a search."""


class SearchRequest(PersonalRequest):
    """Products for a search."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": QUERY, "top_k": 10, "filters": {"price": {"max": 50}}}]}
    )

    query: str = Field(min_length=1)
    """Search text."""


class SimilarRequest(SlateRequest):
    """Products similar to one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": ITEMS[0], "top_k": 10}]})

    item_id: Id
    """The product to start from."""


class RankRequest(Body):
    """The caller's own list, put in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": list(ITEMS), "query": "lamp"}]})

    items: tuple[Id, ...] = Field(min_length=1, max_length=MAX_RANKED)
    """Products to order."""
    user_id: Id | None = None
    """Whose history to use."""
    session: tuple[SessionEvent, ...] = Field((), max_length=MAX_SESSION_EVENTS)
    """What the user has done since, oldest first."""
    query: str | None = None
    """Search text."""
    explain: bool = False
    """Fill `reasons` and `timings_ms`."""


class LiveEvent(SessionEvent):
    """An event of a user, to be logged."""

    user_id: Id = Field(examples=[USER])
    """The user."""
    event_id: Id | None = Field(None, examples=["0b7c6a52f1"])
    """Sent again with the same id, an event counts once. Absent = the server makes one up."""
    session_id: Id | None = None
    """The shop's session."""
    request_id: Id | None = None
    """Of the slate that the event came from."""


def _one_or_many(max_items: int, example: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Changes the schema of a list so that a single element may also come without it."""

    def either(schema: dict[str, Any]) -> None:
        one = schema.pop("items")
        schema.pop("type")
        schema["anyOf"] = [one, {"type": "array", "items": one, "minItems": 1, "maxItems": max_items}]
        schema["examples"] = [example]

    return either


def _as_many(body: Any, max_items: int, noun: str) -> Any:
    if isinstance(body, list) and not 1 <= len(body) <= max_items:
        raise ValueError(f"{len(body)} {noun}; expected 1 to {max_items}")
    return [body] if isinstance(body, dict) else body


class EventsRequest(RootModel[tuple[LiveEvent, ...]]):
    """One event, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=_one_or_many(
            MAX_EVENTS, {"user_id": USER, "event": "click", "item_id": ITEMS[0], "event_id": "0b7c6a52f1"}
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return _as_many(body, MAX_EVENTS, "events")


class LiveItem(Body):
    """A product from now on. Fields that are left out stay as they are, null removes a value."""

    item_id: Id = Field(examples=[ITEMS[0]])
    """The product; an unknown id adds a new one."""
    title: str | None = Field(None, max_length=2_000, examples=["Reading lamp, brass"])
    """Name."""
    description: str | None = Field(None, max_length=20_000)
    """Further text that searches match."""
    category: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = Field(None, max_length=20)
    """Path, broadest first."""
    brand: str | None = Field(None, max_length=256)
    """Maker."""
    price: float | None = Field(None, ge=0, le=1e9)
    """In the shop's currency."""
    available: bool | None = None
    """false takes it out of every slate, except where a filter asks for unavailable products, until it is true or
    null."""
    attributes: dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=2_000)]] | None = Field(
        None, max_length=100
    )
    """Values for filters, e.g. colour."""


class ItemsRequest(RootModel[tuple[LiveItem, ...]]):
    """One product, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=_one_or_many(
            MAX_ITEMS, {"item_id": ITEMS[0], "title": "Reading lamp, brass", "price": 49.9, "available": True}
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return _as_many(body, MAX_ITEMS, "products")


class RulesRequest(RootModel[tuple[Rule, ...]]):
    """One rule, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=_one_or_many(
            MAX_RULES,
            {
                "rule_id": "jeans first",
                "when": {"query": {"contains": "jeans"}},
                "effect": {"type": "pin", "items": [ITEMS[0]], "position": 1},
            },
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return _as_many(body, MAX_RULES, "rules")


class BlockedWords(Body):
    """Words that no suggestion may hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"words": ["adult"]}]})

    words: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field((), max_length=10_000)
    """The words; spelling compares after normalisation."""


class ActivateRequest(Body):
    """The role that a version gets."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "canary", "share": 0.1}]})

    role: Literal["production", "canary", "shadow"] = "production"
    """production answers; canary answers a share of the users; the answers of shadow go to the log only."""
    share: float | None = Field(None, gt=0, le=1)
    """Of the users that a canary answers; absent for other roles."""


class EventsReply(Reply):
    """Events are on disk and part of the next answer."""

    stored: int
    """Events that are new."""
    repeated: int
    """Events that were known by their ids already."""
    event_ids: list[str]
    """Ids of all of them, in the order of the request."""


class ForgottenReply(Reply):
    """A user is forgotten."""

    user_id: str
    """Raw id."""
    num_events: int
    """Events removed. What the model's bundle still holds about the user is not used any more."""


class ItemsReply(Reply):
    """Changes of products are on disk and part of every slate within two seconds."""

    stored: int
    """Products changed."""
    change: int
    """Number of the last change."""


class PlacementsReply(Reply):
    """Placements, by name."""

    placements: dict[str, Placement]
    """Name = defaults."""


class PlacementDeletedReply(Reply):
    """A placement is removed."""

    name: str
    """Its name."""


class SuggestionReply(Reply):
    """A completion."""

    text: str
    """The completion."""
    kind: Literal["query", "category", "product"]
    """Kind of the text."""
    item_id: str | None
    """Of a product."""


class SuggestReply(Reply):
    """Completions, best first."""

    suggestions: list[SuggestionReply]
    """Completions."""


class RulesReply(Reply):
    """Rules, by name."""

    rules: list[Rule]
    """All of them."""


class RulesStoredReply(Reply):
    """Rules are on disk and act within two seconds."""

    stored: int
    """Rules added or replaced."""
    warnings: list[str]
    """Rules that have no effect now, e.g. because no product fulfils their filters."""


class RuleDeletedReply(Reply):
    """A rule is removed and ceases to act within two seconds."""

    rule_id: str
    """Name of the rule."""


class ProductReply(Reply):
    """A product as the model in production knows it."""

    item_id: str
    """Raw id."""
    title: str | None
    """Name."""
    description: str | None
    """Further text that searches match."""
    category: list[str] | None
    """Path, broadest first."""
    brand: str | None
    """Maker."""
    price: float | None
    """In the shop's currency."""
    available: bool | None
    """As the shop says."""
    attributes: dict[str, str | None]
    """Values for filters."""
    on_sale: bool
    """Whether it may be in a slate."""


class ItemReply(Reply):
    """One product of a slate."""

    item_id: str
    """Raw id."""
    score: float
    """Click probability where the ranker ran, fused retrieval score otherwise."""
    title: str | None
    """As the catalogue has it."""
    source: str
    """The candidate source that ranked it highest."""
    sources: dict[str, float]
    """Every source that proposed it, with that source's own score."""
    reasons: list[str]
    """Why it is here; empty unless `explain`."""


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
    """Role of the model that answered: `production` or `canary`."""
    took_ms: float
    """Time in the server, milliseconds."""
    fallback: str | None
    """null, or the reason of a simpler answer: `unknown_user`, `ranker_unavailable`, `history_unavailable`."""
    items: list[ItemReply]
    """The slate, best first."""
    candidates: list[ItemReply]
    """Candidates before ranking, as many as `candidates` of the request."""
    rules: list[AppliedRule] = []
    """Rules that acted on the slate; empty unless `explain`."""
    redirect: str | None = None
    """Page that a rule sends the user to."""
    notes: list[str]
    """Ignored parts of the request, e.g. unknown products in the session."""
    timings_ms: dict[str, float]
    """Stage = milliseconds, for the whole batch the request was in; empty unless `explain`. `retriever_call` and
    `ranker_call` are calls of other processes, their work included."""


class HistoryEvent(Reply):
    """One event of a user's history."""

    event: str
    """Kind of the event."""
    item_id: str | None
    """The product."""
    title: str | None
    """As the catalogue has it; null for unknown products."""
    query: str | None
    """The search text, or the search that led to the event."""
    ts: int | None
    """Microseconds since 1970 UTC."""
    value: float | None
    """Price of a purchase, grade of a rating."""


class UserReply(Reply):
    """The known events of a user."""

    user_id: str
    """Raw id."""
    events: list[HistoryEvent]
    """The user's history, oldest first, as far back as the model looks."""


class OverlapReply(Reply):
    """Agreement of a shadow's slates with those that were shown."""

    num_requests: int
    """Requests compared."""
    mean: float | None
    """Mean share of the slate that both hold, 0 to 1; null before the first comparison."""


class ModelReply(Reply):
    """A model that is served or could be."""

    version: str
    """Version of the bundle."""
    variant: str | None
    """Its role: `production`, `canary` or `shadow`; null = registered only."""
    share: float
    """Of the users that it answers, 0 to 1."""
    overlap: OverlapReply | None
    """Agreement of a shadow with production; null for the other roles."""
    created: str | None
    """When it was made, ISO 8601."""
    num_items: int
    """Products in its catalogue."""
    metrics: dict[str, float]
    """Metrics on its test events."""


class ModelsReply(Reply):
    """All models of the registry, oldest first; the only one where the server was started without a registry."""

    models: list[ModelReply]
    """One entry per model."""


class HealthReply(Reply):
    """State of the server."""

    status: str = Field(examples=["ready"])
    """`live` or `ready`."""
    model_version: str | None = None
    """Version of the bundle that answers."""


class Problem(Reply):
    """Description of an error."""

    field: str | None = Field(examples=["top_k"])
    """Dotted path of the offending field; `body` for a body that is not a JSON object; null = no single field."""
    message: str = Field(examples=["10000 is more than the 1000 items that a slate may have"])
    """The value found and the value expected."""


class ErrorReply(Reply):
    """Every reply that is not 2xx."""

    error: Problem
    """Description of an error."""
    request_id: str
    """Also in the header `X-Request-ID` and in the server's log."""


class RateReply(Reply):
    """A live figure with its 95 % interval, users as clusters; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None
    users: int = Field(description="Users, or anonymous requests.")
    count: float = Field(description="What the figure is per: slates, searches or places.")


class MonitorReply(Reply):
    """Live figures of the last hours."""

    hours: float = Field(description="Hours covered.")
    computed: float = Field(description="When they were computed, seconds since 1970 UTC.")
    figures: dict[str, dict[str, dict[str, RateReply]]] = Field(
        description="Slice (`all`, `variant`, `hour` ...) -> part -> figure."
    )
