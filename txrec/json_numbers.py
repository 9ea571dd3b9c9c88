"""Numbers of JSON bodies: pydantic types that refuse booleans, which pydantic takes for 1 and 0 by default."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _no_boolean(value: Any) -> Any:
    """The value itself.

    Raises:
        PydanticCustomError: it is a boolean.
    """
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "expected a number, found {found}", {"found": str(value).lower()})
    return value


Number = Annotated[float, BeforeValidator(_no_boolean)]
"""A number with or without a fraction."""
Integer = Annotated[int, BeforeValidator(_no_boolean)]
"""A whole number."""
