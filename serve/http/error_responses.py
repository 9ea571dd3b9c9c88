"""Error responses: one shape, `ErrorReply`, for every answer that is not 2xx; it names the offending field.

400  the body is not JSON                   409  the present state does not allow it, e.g. a damaged model
401  no API key, or an unknown one          413  the body is too large
403  a key that may not do this             422  a field is missing or out of range
404  no such product, user, model or path   429  more requests than this caller may make
405  wrong method                           503  overloaded or starting
408  the body did not arrive in time             429 and 503 say in `Retry-After` when to come back
"""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from serve.api.errors import ErrorReply, Problem
from serve.http.field_errors import message_of
from serve.observability import logs
from txrec.errors import (
    FIELD_ERROR,
    ConflictError,
    RequestError,
    UnavailableError,
    UnknownExperimentError,
    UnknownItemError,
    UnknownRuleError,
    UnknownVersionError,
)

RETRY_AFTER_S = 1
_STATUS: dict[type[RequestError], int] = {
    UnknownItemError: 404,
    UnknownRuleError: 404,
    UnknownExperimentError: 404,
    UnknownVersionError: 404,
    ConflictError: 409,
}


def install(app: FastAPI) -> None:
    """Registers the handlers of all errors with an application."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _http_error)


def problem(
    request: Request, status: int, field: str | None, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The error response."""
    request_id = getattr(request.state, "request_id", "")
    reply = ErrorReply(error=Problem(field=field, message=message), request_id=request_id)
    return JSONResponse(reply.model_dump(), status, dict(headers or {}))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        detail = first.get("ctx", {}).get("error", first["msg"])
        return problem(request, 400, "body", f"is not JSON: {detail}")
    where = [str(part) for part in first["loc"] if not _names_alternative(part)]
    place = where[1:] if where and where[0] in ("body", "path", "query", "header") else where
    if isinstance(error.body, dict) and place[:1] == ["0"]:  # one event, read as a list of one
        place = place[1:]
    if first["type"] == FIELD_ERROR:  # found by a check of several fields, which has no place of its own
        place = [*place, first["ctx"]["field"]]
    error_in_body = {**first, "loc": first["loc"][1:]}
    return problem(request, 422, ".".join(place) or "body", message_of(error_in_body, _bodies(request)))


def _bodies(request: Request) -> list[type[BaseModel]]:
    """Models of the body of the request's endpoint."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    kinds = [parameter.field_info.annotation for parameter in dependant.body_params] if dependant else []
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _names_alternative(part: object) -> bool:
    """True where a part of a location is pydantic's name of an alternative or of a key, not a field of the body."""
    text = str(part)
    return not text or text.startswith("constrained-") or ("[" in text and text.endswith("]"))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestError):
        raise error
    if isinstance(error, UnavailableError):
        return problem(request, 503, error.field or None, str(error), {"Retry-After": str(RETRY_AFTER_S)})
    return problem(request, _STATUS.get(type(error), 422), error.field, str(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    field = headers.pop("X-Field", "body" if error.status_code == 400 else None)
    return problem(request, error.status_code, field, str(error.detail), headers)


def internal_error(request: Request, error: Exception) -> JSONResponse:
    """The response to a request that hit a bug, whose traceback goes to the log."""
    logs.log.error("internal error", exc_info=error)
    return problem(
        request, 500, None, f"the server failed ({type(error).__name__}); the request id finds it in its log"
    )
