"""Base of the HTTP API's bodies: requests and replies, ids, the products of the examples, one-or-many lists."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=256)]
"""A user, item, event or request id."""

USER, ITEMS, NEW_ITEM, QUERY = "u00042", ("SKU100013", "SKU100026", "SKU100039"), "SKU900001", "blue jeans"
"""Ids of the examples: a user and products of the generated shop of `configs/demo.toml`, so that examples run there."""

MAX_IDS = 10_000


class Body(BaseModel):
    """A request body: closed, no NaN, fields documented under their definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Reply(BaseModel):
    """A response body."""

    model_config = ConfigDict(use_attribute_docstrings=True)


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
