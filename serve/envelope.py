"""What surrounds every request: its id, its start time, its share in the figures, and the limit on its body."""

import time
import uuid
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import problems
from serve.metrics import Metrics

MAX_BODY_BYTES = 1 << 20
_TOO_LARGE = f"is larger than {MAX_BODY_BYTES} bytes"


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, started=time.perf_counter())
        tagged = self._counted(scope, _tagged(send, request_id))
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await problems.problem(Request(scope), 413, "body", _TOO_LARGE)(scope, receive, tagged)
            return
        await self._app(scope, _limited(receive), tagged)

    def _counted(self, scope: Scope, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")  # unknown paths would be without number
                seconds = time.perf_counter() - scope["state"]["started"]
                self._metrics.request(route, message["status"], seconds)
            await send(message)

        return wrapped


def _tagged(send: Send, request_id: str) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
        await send(message)

    return wrapped


def _limited(receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Bodies without a declared length are counted as they arrive."""
    total = 0

    async def wrapped() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE, {"X-Field": "body"})
        return message

    return wrapped
