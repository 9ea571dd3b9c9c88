"""Context of an endpoint that answers with a slate: placement, limits, user state, and the request to the service."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request

from serve.api.events import SessionEvent
from serve.api.slates import ContextRequest
from serve.documents.placements import Placement
from serve.documents.profiles import Profile, Profiles
from serve.history.event_log import check_event, check_time
from serve.http.dependencies import ConfigDep, EventLogDep, ServiceDep
from serve.types import ServingRequest
from txrec.data.profiles import value_segments
from txrec.errors import RequestError, UnavailableError
from txrec.online.history import LiveHistory
from txrec.recommender import types


class UserState(NamedTuple):
    """Logged events and profile of the user of a request.

    Attributes:
        user_id: None for an anonymous user and for one who was forgotten.
        live: logged events.
        profile: as it was put; it replaces that of the users table. None = none.
        fallback: set where the events cannot be read.
    """

    user_id: str | None = None
    live: LiveHistory = LiveHistory()
    profile: Profile | None = None
    fallback: str | None = None

    @property
    def properties(self) -> dict[str, Any] | None:
        """Properties of the profile; None without one."""
        return None if self.profile is None else self.profile.properties


ANONYMOUS = UserState()


@dataclass(frozen=True)
class SlateContext:
    """An HTTP request for a slate with the parts of the application that answer it; a FastAPI dependency."""

    request: Request
    service: ServiceDep
    config: ConfigDep
    event_log: EventLogDep

    async def placement(self, body: ContextRequest, instead: str = "") -> Placement | None:
        """The placement that a request names, or another one instead; counts its slate."""
        state = self.request.app.state
        placement: Placement | None = await state.placements.find(instead or body.placement)
        state.metrics.placement("none" if body.placement is None else "other" if placement is None else body.placement)
        return placement

    def check_limits(self, query: str | None, top_k: int) -> None:
        """Raises a `RequestError` for a query or a slate above the operator's limits."""
        most = self.config.max_query_chars
        if query is not None and len(query) > most:
            raise RequestError("query", f"has {len(query)} characters; a query may have at most {most}")
        if top_k > self.config.max_top_k:
            raise RequestError("top_k", f"{top_k} is more than the {self.config.max_top_k} items that a slate may have")

    async def user(self, user_id: str | None) -> UserState:
        """The user's logged events and profile, read at the same time."""
        profiles: Profiles = self.request.app.state.profiles
        (live, fallback), profile = await asyncio.gather(self._recent(user_id), profiles.known(user_id))
        return UserState(None if live.forgotten else user_id, live, profile, fallback)

    async def shown(self, user_id: str | None, num_places: int) -> tuple[tuple[str, int], ...]:
        """Products that logged slates showed to a user in their first places, with times; none while unavailable."""
        if not num_places:
            return ()
        try:
            slates = await self.event_log.slates_of(user_id)
        except UnavailableError:
            return ()
        return tuple((item_id, slate.ts) for slate in slates for item_id in slate.item_ids[:num_places])

    def serving_request(
        self, query: types.Request, user_id: str | None = None, user: UserState = ANONYMOUS, **settings: Any
    ) -> ServingRequest:
        """A request to the service.

        Args:
            query: the question.
            user_id: as the HTTP request names the user, who may be forgotten.
            user: state of the user.
            settings: other fields of `ServingRequest`.
        """
        request_id = str(self.request.state.request_id)
        return ServingRequest(query, user.live.events, key=user_id or request_id, request_id=request_id, **settings)

    async def _recent(self, user_id: str | None) -> tuple[LiveHistory, str | None]:
        try:
            return await self.event_log.recent(user_id), None
        except UnavailableError:
            return LiveHistory(), "history_unavailable"


ContextDep = Annotated[SlateContext, Depends(SlateContext)]


def rule_settings(body: ContextRequest, user: UserState, placement: Placement | None) -> dict[str, Any]:
    """Fields of `ServingRequest` that rules and placements read.

    Segments are those that the request states, that its context means, and that the user's profile holds.
    """
    stored = () if user.profile is None else user.profile.all_segments
    return {
        "placement": body.placement or "",
        "segments": (*body.segments, *value_segments(body.context), *stored),
        "use_rules": body.rules,
        "fallback_items": placement.fallback_items if placement else (),
    }


def session_of(session: tuple[SessionEvent, ...], now_us: int) -> tuple[types.Event, ...]:
    """Events of a session; raises a `RequestError` for an incomplete one, and for one dated more than a day ahead."""
    for place, event in enumerate(session):
        check_event(event, f"session.{place}.")
        check_time(event, f"session.{place}.", now_us)
    return tuple(types.Event(event.event, event.item_id, event.query, event.ts, event.value) for event in session)
