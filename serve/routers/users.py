"""Endpoints of users: their history, and forgetting them. User ids may hold any character, `/` included."""

from dataclasses import asdict

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from serve.access import requires
from serve.api.users import ForgottenReply, HistoryEvent, UserReply
from serve.dependencies import EventLogDep, ServiceDep
from serve.responses import ERRORS, KEYS, NOT_READY, UNKNOWN_USER

router = APIRouter(prefix="/v1", tags=["users"])


@router.get(
    "/users/{user_id:id}",
    summary="A user's history",
    responses={**ERRORS, **UNKNOWN_USER},
    dependencies=[requires("read")],
)
async def user(user_id: str, service: ServiceDep, event_log: EventLogDep) -> UserReply:
    """Oldest first, as far back as the model looks."""
    live = await event_log.recent(user_id)
    history = await service.history(None if live.forgotten else user_id, live.events)
    if not history:
        raise HTTPException(404, "no events of this user are known", {"X-Field": "user_id"})
    return UserReply(user_id=user_id, events=[HistoryEvent(**asdict(item.event), title=item.title) for item in history])


@router.delete(
    "/users/{user_id:id}",
    summary="Forget a user",
    responses={**KEYS, **NOT_READY},
    dependencies=[requires("admin")],
)
async def forget(user_id: str, event_log: EventLogDep) -> ForgottenReply:
    """Removes the user's logged events; those that the model's bundle still holds are not used any more."""
    return ForgottenReply(user_id=user_id, num_events=await event_log.forget(user_id))
