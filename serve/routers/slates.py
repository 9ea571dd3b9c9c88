"""Endpoints that answer with a slate: recommend, search, similar, rank."""

import asyncio
import time
from dataclasses import replace

from fastapi import APIRouter, Request

from serve.access import requires
from serve.api.common import SessionEvent
from serve.api.slates import (
    AppliedRule,
    ItemReply,
    RankRequest,
    RecommendRequest,
    SearchRequest,
    SimilarRequest,
    SlateReply,
    SlateRequest,
)
from serve.dependencies import ConfigDep, EventLogDep, ServiceDep
from serve.event_log import EventLog, check_event
from serve.pages import group_reply, highlight_reply, page_reply, page_request
from serve.participation import failure, with_settings
from serve.placements import Placement, with_defaults
from serve.responses import ERRORS, UNKNOWN_ITEM
from serve.types import Answer, Service, ServingRequest
from serve.users import Profile, Profiles
from txrec.config import ServeConfig
from txrec.data.profiles import value_segments
from txrec.errors import RequestError, UnavailableError
from txrec.loop.exploration_log import Record
from txrec.online.history import Impression, LiveHistory
from txrec.recommender import types

router = APIRouter(prefix="/v1", tags=["slates"], responses=ERRORS, dependencies=[requires("read")])


@router.post("/recommend", summary="Recommendations for a user")
async def recommend(
    body: RecommendRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """Uses the user's history, the session, the cart and, where there is one, the search.

    An unknown user without session or query gets popular products and `fallback: "unknown_user"`.
    """
    return await _personal(body, request, service, config, event_log)


@router.post("/search", summary="Products for a search")
async def search(
    body: SearchRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """The same as `recommend` with a query, which is required here."""
    if not body.query.strip():
        raise RequestError("query", "is blank; expected a search text")
    return await _personal(body, request, service, config, event_log)


async def find_placement(body: SlateRequest, request: Request, instead: str = "") -> Placement | None:
    """The placement that a request names, or another one instead; counts its slate."""
    placement: Placement | None = await request.app.state.placements.find(instead or body.placement)
    name = "none" if body.placement is None else "other" if placement is None else body.placement
    request.app.state.metrics.placement(name)
    return placement


async def _personal(
    body: RecommendRequest | SearchRequest,
    request: Request,
    service: Service,
    config: ServeConfig,
    event_log: EventLog,
) -> SlateReply:
    part = await request.app.state.experiments.participation(body.user_id)
    placement = await find_placement(body, request, part.placement)
    body = with_settings(with_defaults(body, placement), part)
    check_limits(config, body.query, body.top_k)
    history = recent_events(event_log, body.user_id)
    (live, fallback), profile = await asyncio.gather(history, profile_of(body, request))
    serving = ServingRequest(
        types.Request(
            user_id=None if live.forgotten else body.user_id,
            events=session_of(body.session),
            query=body.query,
            cart=body.items,
            top_k=body.top_k,
            filters=body.filters,
            exclude=frozenset(body.exclude),
            exclude_seen=body.exclude_seen,
            max_showings=body.max_showings,
            diversity=body.diversity,
            properties=None if profile is None else profile.properties,
            context=body.context,
            sources=body.sources,
            explain=body.explain,
            with_candidates=body.candidates > 0,
        ),
        live.events,
        body.candidates,
        key=rollout_key(body.user_id, request),
        request_id=request.state.request_id,
        placement=body.placement or "",
        segments=(*segments_of(body, profile), *part.segments),
        use_rules=body.rules,
        fallback_items=placement.fallback_items if placement else (),
        page=(page := page_request(body)),
        version=part.version,
        interleaved=part.interleaved if page is None else None,
    )
    try:
        answer = await service.recommend(serving)
    except Exception as error:
        if part.labels and (isinstance(error, UnavailableError) or not isinstance(error, RequestError)):
            request.app.state.impressions.add(failure(serving.request_id, event_log.now_us(), body, part))
        raise
    slate, record = answer.slate, None
    explored = placement is None or placement.explore
    if page is None and explored and not answer.teams:  # the places of a page are those of the pages before it
        slate, record = request.app.state.explorer.apply(slate)
    reply = slate_reply(replace(answer, slate=slate), request, body.explain, fallback)
    reply.experiments = dict(label.split(":", 1) for label in part.labels)
    return log_impression(reply, request, body, record, answer.teams, tuple(answer.slate.rules))


@router.post("/similar", summary="Products similar to one", responses=UNKNOWN_ITEM)
async def similar(body: SimilarRequest, request: Request, service: ServiceDep, config: ConfigDep) -> SlateReply:
    """By users' behaviour and by text."""
    placement = await find_placement(body, request)
    body = with_defaults(body, placement)
    check_limits(config, None, body.top_k)
    serving = ServingRequest(
        types.Request(top_k=body.top_k, filters=body.filters, explain=body.explain),
        key=rollout_key(None, request),
        request_id=request.state.request_id,
        placement=body.placement or "",
        segments=segments_of(body, None),
        use_rules=body.rules,
        fallback_items=placement.fallback_items if placement else (),
    )
    answer = await service.similar(body.item_id, serving)
    reply = slate_reply(answer, request, body.explain)
    return log_impression(reply, request, body, rules=tuple(answer.slate.rules))


@router.post("/rank", summary="The caller's own list in order")
async def rank(
    body: RankRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """Orders the products of the request for a user, a search or both; unknown products are left out and noted."""
    check_limits(config, body.query, len(body.items))
    history = recent_events(event_log, body.user_id)
    (live, fallback), profile = await asyncio.gather(history, profile_of(body, request))
    serving = ServingRequest(
        types.Request(
            user_id=None if live.forgotten else body.user_id,
            events=session_of(body.session),
            query=body.query,
            top_k=len(body.items),
            properties=None if profile is None else profile.properties,
            explain=body.explain,
        ),
        live.events,
        key=rollout_key(body.user_id, request),
        request_id=request.state.request_id,
    )
    reply = slate_reply(await service.rank(body.items, serving), request, body.explain, fallback)
    return log_impression(reply, request, body)


def check_limits(config: ServeConfig, query: str | None, top_k: int) -> None:
    """Raises a `RequestError` for a query or a slate above the operator's limits."""
    if query is not None and len(query) > config.max_query_chars:
        raise RequestError("query", f"has {len(query)} characters; a query may have at most {config.max_query_chars}")
    if top_k > config.max_top_k:
        raise RequestError("top_k", f"{top_k} is more than the {config.max_top_k} items that a slate may have")


async def recent_events(event_log: EventLog, user_id: str | None) -> tuple[LiveHistory, str | None]:
    """The user's logged events, and the fallback where they cannot be read."""
    try:
        return await event_log.recent(user_id), None
    except UnavailableError:
        return LiveHistory(), "history_unavailable"


async def profile_of(body: SlateRequest | RankRequest, request: Request) -> Profile | None:
    """The profile that was put for the request's user; it replaces that of the users table."""
    profiles: Profiles = request.app.state.profiles
    return await profiles.known(getattr(body, "user_id", None))


def segments_of(body: SlateRequest, profile: Profile | None) -> tuple[str, ...]:
    """Segments that the request states, that its context means, and that a profile holds."""
    stored = () if profile is None else profile.all_segments
    return (*body.segments, *value_segments(body.context), *stored)


def session_of(session: tuple[SessionEvent, ...]) -> tuple[types.Event, ...]:
    """Events of a session; raises a `RequestError` for an incomplete one."""
    for place, event in enumerate(session):
        check_event(event, f"session.{place}.")
    return tuple(types.Event(event.event, event.item_id, event.query, event.ts, event.value) for event in session)


def slate_reply(answer: Answer, request: Request, explain: bool, fallback: str | None = None) -> SlateReply:
    """The reply of an answer; counts it."""
    slate = answer.slate
    fallback = fallback or slate.fallback
    request.app.state.metrics.slate(answer, fallback)
    return SlateReply(
        request_id=request.state.request_id,
        model_version=answer.model_version,
        variant=answer.variant,
        took_ms=round((time.perf_counter() - request.state.started) * 1000, 3),
        fallback=fallback,
        items=[_item(item) for item in slate.items],
        candidates=[_item(item) for item in slate.candidates],
        notes=list(slate.notes),
        rules=[AppliedRule(rule_id=name, effect=effect) for name, effect in slate.rules.items()] if explain else [],
        redirect=slate.redirect,
        page=page_reply(slate.page),
        timings_ms=dict(slate.timings_ms) if explain else {},
    )


def rollout_key(user_id: str | None, request: Request) -> str:
    """Key that assigns a request to production or canary."""
    return user_id or str(request.state.request_id)


def log_impression(
    reply: SlateReply,
    request: Request,
    body: SlateRequest | RankRequest,
    exploration: Record | None = None,
    teams: tuple[int, ...] = (),
    rules: tuple[str, ...] = (),
) -> SlateReply:
    """Logs the slate that is about to be answered, and returns it."""
    request.app.state.impressions.add(
        Impression(
            request_id=reply.request_id,
            ts=request.app.state.event_log.now_us(),
            variant=reply.variant,
            model_version=reply.model_version,
            item_ids=tuple(item.item_id for item in reply.items),
            scores=tuple(item.score for item in reply.items),
            user_id=getattr(body, "user_id", None),
            query=getattr(body, "query", None),
            fallback=reply.fallback,
            took_ms=reply.took_ms,
            sources=tuple(item.source for item in reply.items),
            exploration=exploration.to_json() if exploration else None,
            placement=getattr(body, "placement", None),
            experiments=tuple(f"{name}:{variant}" for name, variant in reply.experiments.items()),
            teams=teams,
            rules=rules,
        )
    )
    return reply


def _item(item: types.SlateItem) -> ItemReply:
    return ItemReply(
        item_id=item.item_id,
        score=item.score,
        title=item.title,
        source=item.source,
        sources=dict(item.sources),
        reasons=list(item.reasons),
        highlight=highlight_reply(item),
        group=group_reply(item),
    )
