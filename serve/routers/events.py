"""Endpoint of live events."""

from fastapi import APIRouter, Request

from serve.access import requires
from serve.api.events import EventsReply, EventsRequest
from serve.dependencies import EventLogDep
from serve.event_log import check_event, event_prefix
from serve.responses import ERRORS

router = APIRouter(prefix="/v1", tags=["events"], responses=ERRORS, dependencies=[requires("events")])


@router.post("/events", status_code=202, summary="Log events of users")
async def events(body: EventsRequest, request: Request, event_log: EventLogDep) -> EventsReply:
    """Durable before the answer, and part of the user's next recommendation."""
    for place, event in enumerate(body.root):
        check_event(event, event_prefix(place, body.root))
    reply = await event_log.append(body.root)
    request.app.state.metrics.events(reply.stored, reply.repeated)
    return reply
