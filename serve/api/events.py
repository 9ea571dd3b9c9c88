"""HTTP bodies of logging users' events."""

from typing import Any

from pydantic import ConfigDict, Field, RootModel, model_validator

from serve.api.common import ITEMS, USER, Id, Reply, SessionEvent, as_many, one_or_many

MAX_EVENTS = 1_000


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
