"""Request middleware: request id, API key, rate limit, body limits, metrics and one log line per request.

A request is refused here, before the application, where the caller is above the rate limit (429) or declares a body
that is too large (413). A body that turns out too large or that does not arrive in time (408) is cut off while it is
read.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http import error_responses
from serve.http.api_keys import Key, Keys
from serve.http.rate_limit import RateLimit
from serve.observability import logs
from serve.observability.metrics import Metrics
from txrec.config import ServeConfig

MAX_BODY_BYTES = 1 << 20
_TOO_LARGE = f"is larger than {MAX_BODY_BYTES} bytes"
_PROBES = ("/health/live", "/health/ready")
"""Health checks are exempt from the rate limit."""


class RequestMiddleware:
    """ASGI middleware around the application; sets `request_id`, `started` and `key` of the request's state."""

    def __init__(self, app: ASGIApp, config: ServeConfig, keys: Keys, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._rate = RateLimit(config.rate_limit_per_s)
        self._body_timeout_s = config.body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        key = self._keys.find(_bearer(headers))
        state = scope.setdefault("state", {})
        state.update(request_id=uuid.uuid4().hex, started=time.perf_counter(), key=key)
        logs.bind_request_ids((state["request_id"],))
        answer = _Answer(send, state["request_id"])
        try:
            await self._answered(scope, headers, _limited(receive, self._body_timeout_s), answer)
        except Exception as error:
            if answer.status is not None:
                raise  # part of the answer is sent
            await error_responses.internal_error(Request(scope), error)(scope, receive, answer)
        finally:
            self._account(scope, key, answer)

    async def _answered(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        wait_s = 0 if scope["path"] in _PROBES else self._rate.wait_s(_caller(scope))
        length = headers.get(b"content-length", b"0")
        if wait_s:
            message = f"rate limit exceeded; retry after {wait_s} s"
            reply = error_responses.problem(Request(scope), 429, None, message, {"Retry-After": str(wait_s)})
            await reply(scope, receive, send)
        elif length.isdigit() and int(length) > MAX_BODY_BYTES:
            await error_responses.problem(Request(scope), 413, "body", _TOO_LARGE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _account(self, scope: Scope, key: Key | None, answer: "_Answer") -> None:
        route = getattr(scope.get("route"), "path_format", "other")  # unknown paths are unbounded in number
        ended = answer.began or time.perf_counter()
        seconds = ended - scope["state"]["started"]
        if answer.status:
            self._metrics.request(route, answer.status, seconds)
        logs.log.info(
            "answered" if answer.status else "client disconnected",
            extra={
                "method": scope["method"],
                "route": route,
                "status": answer.status,
                "ms": round(1e3 * seconds, 2),
                "key": key.name if key else None,
            },
        )


class _Answer:
    """Sends the answer on with the request's id, and records its status and time."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._header = (b"x-request-id", request_id.encode())
        self.status: int | None = None
        self.began = 0.0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], time.perf_counter()
            message["headers"] = [*message.get("headers", ()), self._header]
        await self._send(message)


def _bearer(headers: Mapping[bytes, bytes]) -> str:
    """The key of `Authorization: Bearer KEY`, empty without one."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _caller(scope: Scope) -> str:
    """Subject of the rate limit: a known key, or else a network address."""
    key: Key | None = scope["state"]["key"]
    return key.sha256 if key and key.sha256 else str((scope.get("client") or ("",))[0])


def _limited(receive: Receive, timeout_s: float) -> Receive:
    """Limits the size of a body and the time in which it must arrive."""
    total, whole, deadline = 0, False, asyncio.get_running_loop().time() + timeout_s

    async def wrapped() -> Message:
        nonlocal total, whole
        if whole:  # the next message is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"did not arrive within {timeout_s:g} s", {"X-Field": "body"}) from None
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE, {"X-Field": "body"})
        whole = not message.get("more_body", False)
        return message

    return wrapped
