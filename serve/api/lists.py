"""HTTP bodies of the lists that every shop has: trending, popular, new, complements, recently viewed, buy again."""

from pydantic import ConfigDict, Field

from serve.api.base import ITEMS, USER, Id
from serve.api.events import MAX_SESSION_EVENTS, SessionEvent
from serve.api.slates import SlateRequest

MAX_GIVEN = 100


class ListRequestBody(SlateRequest):
    """A list for everybody."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"top_k": 10, "filters": {"where": "price < 100"}}]})


class ComplementsRequest(SlateRequest):
    """Products that are bought together with others."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [ITEMS[0]], "top_k": 5, "user_id": USER, "strict": False}]}
    )

    items: tuple[Id, ...] = Field(min_length=1, max_length=MAX_GIVEN)
    """The products that they go with, e.g. the cart; none of them is in the answer."""
    strict: bool = False
    """true = only products in at least two common baskets; false = also one basket, and complements of products most
    like these."""
    user_id: Id | None = Field(None, examples=[USER])
    """User whose taste counts too; absent or unknown = none."""


class UserListRequest(SlateRequest):
    """A list from one user's history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": USER, "top_k": 5, "explain": True}]})

    user_id: Id = Field(examples=[USER])
    """User whose history is listed."""
    session: tuple[SessionEvent, ...] = Field((), max_length=MAX_SESSION_EVENTS)
    """Events of the user since then, oldest first."""
