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
from starlette.exceptions import HTTPException

from serve import logs
from serve.api.errors import ErrorReply, Problem
from txrec.errors import (
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
    where = [str(part) for part in first["loc"]]
    place = where[1:] if where and where[0] in ("body", "path", "query", "header") else where
    if isinstance(error.body, dict) and place[:1] == ["0"]:  # one event, read as a list of one
        place = place[1:]
    message = first["msg"].removeprefix("Value error, ")
    return problem(request, 422, ".".join(place) or "body", message[:1].lower() + message[1:])


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
