"""Shared parts of the HTTP API's bodies: base classes, ids, events, the products of the examples, one-or-many lists."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Id = Annotated[str, Field(min_length=1, max_length=256)]
"""A user, item, event or request id."""

EventName = Literal["search", "impression", "view", "click", "cart", "purchase", "rate"]
"""Labels of `txrec.schema.EventKind`."""

USER, ITEMS, NEW_ITEM, QUERY = "u00042", ("SKU100013", "SKU100026", "SKU100039"), "SKU900001", "blue jeans"
"""Ids of the examples: a user and products of the generated shop of `configs/demo.toml`, so that examples run there."""

MAX_SESSION_EVENTS = 500

MAX_IDS = 10_000


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

    @field_validator("ts", mode="before")
    @classmethod
    def _number(cls, ts: Any) -> Any:
        if isinstance(ts, bool):
            raise ValueError(f"ts = {str(ts).lower()} is no time; expected microseconds since 1970 UTC")
        return ts

    @field_validator("ts")
    @classmethod
    def _microseconds(cls, ts: int | None) -> int | None:
        if ts is not None and EARLIEST_SECONDS <= ts < EARLIEST_US:
            unit = "seconds" if ts < EARLIEST_SECONDS * 1_000 else "milliseconds"
            raise ValueError(f"ts = {ts} lies in 1970 and looks like {unit}; expected microseconds since 1970 UTC")
        return ts


def one_or_many(max_items: int, example: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Changes the schema of a list so that a single element may also come without it."""

    def either(schema: dict[str, Any]) -> None:
        one = schema.pop("items")
        schema.pop("type")
        schema["anyOf"] = [one, {"type": "array", "items": one, "minItems": 1, "maxItems": max_items}]
        schema["examples"] = [example]

    return either


def as_many(body: Any, max_items: int, noun: str) -> Any:
    """A body as a list: a single object becomes a list of one; too many, or none, is an error that gives the noun."""
    if isinstance(body, list) and not 1 <= len(body) <= max_items:
        raise ValueError(f"{len(body)} {noun}; expected 1 to {max_items}")
    return [body] if isinstance(body, dict) else body
