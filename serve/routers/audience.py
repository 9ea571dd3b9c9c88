"""Endpoint of audiences: the users most likely to want an item, a category or a query."""

import asyncio

from fastapi import APIRouter, Request

from serve.api.audience import AudienceBody, AudienceReply, MemberReply
from serve.history.event_log import EventLog
from serve.http.authorization import requires
from serve.http.dependencies import ConfigDep, EventLogDep, ServiceDep
from serve.http.openapi_errors import ERRORS, UNKNOWN_ITEM
from txrec.recommender.lists.audiences import AudienceRequest, Member

router = APIRouter(prefix="/v1", tags=["users"], responses={**ERRORS, **UNKNOWN_ITEM})

SPARE_MEMBERS = 50
"""Spare users of an answer, which replace those who were forgotten."""
LOOKUPS = 16
"""Users who are looked up at once."""


@router.post("/audience", summary="Who would like this?", dependencies=[requires("admin")])
async def audience(
    body: AudienceBody, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> AudienceReply:
    """Users by their expected events on the target: by their own events, live ones included, and by the model.

    For millions of users, `txrec audience` reads every history.
    """
    spec = AudienceRequest(
        body.items,
        body.category.strip(),
        body.query.strip(),
        body.top_n + SPARE_MEMBERS,
        body.exclude_buyers,
        config.audience_users,
    )
    answer, version = await service.audience(spec)
    request.app.state.metrics.audience(spec.kind)
    members = await _remembered(answer.members, event_log)
    return AudienceReply(
        model_version=version,
        users=[MemberReply(**member._asdict()) for member in members[: body.top_n]],
        num_users=answer.num_users,
        num_encoded=answer.num_encoded,
        num_items=answer.num_items,
    )


async def _remembered(members: tuple[Member, ...], event_log: EventLog) -> list[Member]:
    """The users who are not forgotten.

    Raises:
        UnavailableError: the event store, which knows it, cannot be read.
    """
    kept = []
    for start in range(0, len(members), LOOKUPS):
        part = members[start : start + LOOKUPS]
        lives = await asyncio.gather(*(event_log.recent(member.user_id) for member in part))
        kept += [member for member, live in zip(part, lives, strict=True) if not live.forgotten]
    return kept
