"""HTTP bodies of users' histories and of forgetting a user."""

from pydantic import Field

from serve.api.base import Reply


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
    """A user's history and profile."""

    user_id: str
    """Raw id."""
    events: list[HistoryEvent]
    """The user's history, oldest first, as far back as the model looks."""
    properties: dict[str, str | bool | float] = Field(default_factory=dict)
    """Of the user's profile."""
    segments: list[str] = Field(default_factory=list)
    """Of the user's profile."""


class ProfileReply(Reply):
    """A profile is stored."""

    user_id: str
    """Raw id."""


class ForgottenReply(Reply):
    """A user is forgotten."""

    user_id: str
    """Raw id."""
    num_events: int
    """Events removed. What the model's bundle still holds about the user is not used any more."""
