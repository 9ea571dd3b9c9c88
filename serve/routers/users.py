"""Endpoints of users: history, profile, and forgetting them. User ids may hold any character, `/` included."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from serve.api.users import ForgottenReply, HistoryEvent, ProfileReply, UserReply
from serve.documents.profiles import Profile, Profiles
from serve.http.authorization import requires
from serve.http.dependencies import EventLogDep, ServiceDep, of_app
from serve.http.openapi_errors import ERRORS, KEYS, NOT_READY, UNKNOWN_USER
from txrec.errors import RequestError

router = APIRouter(prefix="/v1", tags=["users"])

MAX_ID_CHARS = 256
ProfilesDep = Annotated[Profiles, of_app("profiles")]


@router.get(
    "/users/{user_id:id}",
    summary="A user's history and profile",
    responses={**ERRORS, **UNKNOWN_USER},
    dependencies=[requires("read")],
)
async def user(user_id: str, service: ServiceDep, event_log: EventLogDep, profiles: ProfilesDep) -> UserReply:
    """Events oldest first, as far back as the model looks; properties and segments as put, or of the users table."""
    live = await event_log.recent(user_id)
    history = await service.history(None if live.forgotten else user_id, live.events)
    profile = await profiles.find(user_id)
    if profile is None and not live.forgotten and (stored := await service.profile(user_id)) is not None:
        profile = Profile.model_construct(properties=dict(stored.properties), segments=stored.segments)
    if not history and profile is None:
        raise HTTPException(404, "neither events nor a profile of this user are known", {"X-Field": "user_id"})
    profile = profile or Profile()
    return UserReply(
        user_id=user_id,
        events=[HistoryEvent(**asdict(item.event), title=item.title) for item in history],
        properties=profile.properties,
        segments=list(profile.segments),
    )


@router.put(
    "/users/{user_id:id}", summary="Add or replace a user's profile", responses=ERRORS, dependencies=[requires("admin")]
)
async def put_user(user_id: str, body: Profile, profiles: ProfilesDep) -> ProfileReply:
    """Durable before the answer, and part of the user's next request on every replica.

    Rules ask for segments; a property `tier` with the value `gold` is also the segment `tier=gold`.
    """
    if len(user_id) > MAX_ID_CHARS:
        raise RequestError("user_id", f"has {len(user_id)} characters; an id may have at most {MAX_ID_CHARS}")
    await profiles.put(user_id, body)
    return ProfileReply(user_id=user_id)


@router.delete(
    "/users/{user_id:id}",
    summary="Forget a user",
    responses={**KEYS, **NOT_READY},
    dependencies=[requires("admin")],
)
async def forget(user_id: str, event_log: EventLogDep, profiles: ProfilesDep) -> ForgottenReply:
    """Removes the user's profile and logged events; what the model's bundle holds of them is not used any more."""
    await profiles.delete(user_id)
    return ForgottenReply(user_id=user_id, num_events=await event_log.forget(user_id))
