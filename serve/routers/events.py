"""Endpoint of live events."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders

from serve.api.events import EventsReply, EventsRequest
from serve.history.event_log import check_event, event_prefix
from serve.http.authorization import requires
from serve.http.dependencies import EventLogDep
from serve.http.openapi_errors import ERRORS


class BeaconRoute(APIRoute):
    """Route that reads the JSON of browsers' beacons, which call it text/plain to need no CORS preflight.

    Only from the origins of `serve.cors_origins`: a page of any other must not be able to report events unasked.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handler that takes text/plain of an allowed origin for JSON."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            is_text = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/plain"
            if is_text and request.headers.get("origin") in request.app.state.config.cors_origins:
                MutableHeaders(scope=request.scope)["content-type"] = "application/json"
                request = Request(request.scope, request.receive)
            return await handler(request)

        return handle


router = APIRouter(
    prefix="/v1", tags=["events"], responses=ERRORS, dependencies=[requires("events")], route_class=BeaconRoute
)


@router.post("/events", status_code=202, summary="Log events of users")
async def events(body: EventsRequest, request: Request, event_log: EventLogDep) -> EventsReply:
    """Durable before the answer, and part of the user's next recommendation."""
    for place, event in enumerate(body.root):
        check_event(event, event_prefix(place, body.root))
    reply = await event_log.append(body.root)
    request.app.state.metrics.events(reply.stored, reply.repeated)
    return reply
