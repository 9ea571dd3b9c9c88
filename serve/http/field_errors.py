"""Messages of invalid fields in the words of JSON: lists and objects, no tuples or dictionaries; unknown names."""

import difflib
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

MAX_NAMES = 40
"""Known names that a message lists."""
_WORDS = (
    ("valid tuple", "list"),
    ("valid list", "list"),
    ("tuple", "list"),
    ("valid dictionary or object to extract fields from", "object"),
    ("valid dictionary", "object"),
    ("dictionary", "object"),
    ("input should", "should"),
    ("should be a object", "should be an object"),
    (" after validation", ""),
)


def message_of(error: Any, models: Sequence[type[BaseModel]] = ()) -> str:
    """Message of one of pydantic's errors.

    Args:
        error: an element of `ValidationError.errors()`.
        models: bodies in which its location is looked up, to name the fields that there are.
    """
    if error["type"] == "extra_forbidden":
        return unknown_field(str(error["loc"][-1]), _names_beside(error["loc"], models))
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] != "value_error":
        for python, plain in _WORDS:
            message = message.replace(python, plain)
    return message


def unknown_field(name: str, known: Collection[str]) -> str:
    """Message of a name that is no field: the nearest one, or all that there are."""
    near = difflib.get_close_matches(name.lower(), known, 1, 0.6)
    if near:
        return f"is no field here; did you mean {near[0]!r}?"
    return (
        f"is no field here; expected one of {', '.join(known)}" if 0 < len(known) <= MAX_NAMES else "is no field here"
    )


def _names_beside(location: Sequence[Any], models: Sequence[type[BaseModel]]) -> list[str]:
    """Fields of the model in which the last part of a location stands; none where that cannot be said."""
    for model in models:
        places: list[type[BaseModel]] = [model]
        for part in location[:-1]:
            inner = [one for place in places for one in _inner(place, part)]
            places = inner or places  # names of alternatives and numbers of elements lead nowhere
        names = [field.alias or name for place in places for name, field in place.model_fields.items()]
        if names and location[-1] not in names:
            return list(dict.fromkeys(name for name in names if name != "root"))
    return []


def _inner(model: type[BaseModel], part: Any) -> Iterator[type[BaseModel]]:
    root = model.model_fields.get("root")
    if root is not None:
        for one in _models_in(root.annotation):
            yield from _inner(one, part) if part in one.model_fields else (one,)
    elif part in model.model_fields:
        yield from _models_in(model.model_fields[part].annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models that a type holds: itself, elements of lists, alternatives."""
    arguments = typing.get_args(annotation)
    if not arguments and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in arguments:
        yield from _models_in(argument)
