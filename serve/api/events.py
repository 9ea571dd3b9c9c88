"""HTTP bodies of users' events: those of a request's session, and those to be logged."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from serve.api.base import ITEMS, USER, Body, Id, Reply, as_many, one_or_many
from txrec.json_numbers import Number

MAX_EVENTS = 1_000

MAX_SESSION_EVENTS = 500

EventName = Literal["search", "impression", "view", "click", "cart", "purchase", "rate"]
"""Labels of `txrec.schema.EventKind`."""

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
    value: Number | None = None
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


class LiveEvent(SessionEvent):
    """An event of a user, to be logged."""

    user_id: Id = Field(examples=[USER])
    """The user."""
    event_id: Id | None = Field(None, examples=["0b7c6a52f1"])
    """Sent again with the same id, an event counts once. Absent = the server makes one up."""
    session_id: Id | None = None
    """The shop's session."""
    request_id: Id | None = None
    """Request id of the slate that the event came from."""


class EventsRequest(RootModel[tuple[LiveEvent, ...]]):
    """One event, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=one_or_many(
            MAX_EVENTS, {"user_id": USER, "event": "click", "item_id": ITEMS[0], "event_id": "0b7c6a52f1"}
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return as_many(body, MAX_EVENTS, "events")


class EventsReply(Reply):
    """Events are on disk and part of the next answer."""

    stored: int
    """Events that are new."""
    repeated: int
    """Events that were known by their ids already."""
    event_ids: list[str]
    """Ids of all of them, in the order of the request."""
