"""HTTP body of every reply that is not 2xx."""

from pydantic import Field

from serve.api.base import Reply


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
    """Id of the request, also in the header `X-Request-ID` and in the server's log."""
