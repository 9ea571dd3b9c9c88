"""HTTP bodies of audiences: the users most likely to want an item, a category or a query."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from serve.api.base import ITEMS, QUERY, Body, Id, Reply
from txrec.json_numbers import Integer

MAX_MEMBERS = 1_000
MAX_TARGETS = 100


class AudienceBody(Body):
    """A target, and how many users are wanted; exactly one of items, category and query."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [ITEMS[0]], "top_n": 5},
                {"query": QUERY, "top_n": 5, "exclude_buyers": True},
            ]
        }
    )

    items: tuple[Id, ...] = Field((), max_length=MAX_TARGETS)
    """Products; users who want any of them."""
    category: str = Field("", max_length=256)
    """Name anywhere on the category path of products."""
    query: str = Field("", max_length=512)
    """Search text: users who want what it finds."""
    top_n: Integer = Field(100, ge=1, le=MAX_MEMBERS)
    """Users wanted."""
    exclude_buyers: bool = False
    """Leave out users who bought a product of the target."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(bool(part) for part in (self.items, self.category.strip(), self.query.strip())) != 1:
            raise ValueError("expected exactly one of items, category and query")
        return self


class MemberReply(Reply):
    """A user of an audience."""

    user_id: str
    """Raw id."""
    score: float
    """Probability of an event on the target in a window as long as the validation part of the log; without a fitted one
    the expected number of next events. Comparable within one answer."""
    events: int
    """Events of the user on products of the target."""
    purchases: int
    """Of them, purchases."""


class AudienceReply(Reply):
    """The users most likely to want a target, best first."""

    model_version: str
    """Version of the bundle that answered."""
    users: list[MemberReply]
    """Forgotten users are left out."""
    num_users: int
    """Users considered."""
    num_encoded: int
    """Of them, those whose histories the model read: at most `serve.audience_users`, chosen by their habits."""
    num_items: int
    """Products of the target."""
