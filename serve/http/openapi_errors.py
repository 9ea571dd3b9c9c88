"""Documented error responses of the endpoints, by status, for OpenAPI."""

from typing import Any

from serve.api.errors import ErrorReply
from serve.http.middleware import MAX_BODY_BYTES

Responses = dict[int | str, dict[str, Any]]


def _error(description: str) -> dict[str, Any]:
    return {"model": ErrorReply, "description": description}


KEYS: Responses = {
    401: _error("No API key, or an unknown one"),
    403: _error("The key has not the role that this needs"),
    429: _error("Too many requests of this caller; see Retry-After"),
}
ERRORS: Responses = {
    **KEYS,
    400: _error("The body is not JSON"),
    408: _error("The body did not arrive in time"),
    413: _error(f"The body is larger than {MAX_BODY_BYTES} bytes"),
    422: _error("A field is missing, unknown or out of range"),
    500: _error("A bug of the server"),
    503: _error("Overloaded or starting; see Retry-After"),
}
UNKNOWN_ITEM: Responses = {404: _error("No such product in the catalogue")}
UNKNOWN_USER: Responses = {404: _error("Neither events nor a profile of this user")}
UNKNOWN_VERSION: Responses = {404: _error("No such version")}
VERSION_REFUSED: Responses = {409: _error("The version cannot be served this way; the one before stays in service")}
UNKNOWN_RULE: Responses = {404: _error("No such rule, or a product that is not in the catalogue")}
UNKNOWN_EXPERIMENT: Responses = {404: _error("No such experiment")}
EXPERIMENT_CONFLICT: Responses = {
    404: _error("No such version"),
    409: _error("Its name or segment is taken, or a replica refuses a version; the message says which"),
}
UNKNOWN_PLACEMENT: Responses = {404: _error("No such placement, or a product that is not in the catalogue")}
RULE_CONFLICT: Responses = {409: _error("The rule contradicts another one; the message names both")}
NOT_READY: Responses = {503: _error("Not ready to answer")}
