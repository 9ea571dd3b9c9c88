"""Endpoints of the lists that every shop has: trending, popular, new, complements, recently viewed, buy again."""

from fastapi import APIRouter, Request

from serve.access import requires
from serve.api.lists import ComplementsRequest, ListRequestBody, UserListRequest
from serve.api.slates import SlateReply, SlateRequest
from serve.dependencies import ConfigDep, EventLogDep, ServiceDep
from serve.event_log import EventLog
from serve.placements import with_defaults
from serve.responses import ERRORS
from serve.routers.slates import (
    check_limits,
    find_placement,
    log_impression,
    profile_of,
    recent_events,
    rollout_key,
    segments_of,
    session_of,
    slate_reply,
)
from serve.types import Service, ServingRequest
from txrec.config import ServeConfig
from txrec.online.history import LiveHistory
from txrec.recommender import types
from txrec.recommender.lists import ListRequest

router = APIRouter(prefix="/v1", tags=["lists"], responses=ERRORS, dependencies=[requires("read")])


@router.post("/trending", summary="Products that rise now")
async def trending(
    body: ListRequestBody, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """More users in the last six hours than the product's usual share lets expect; minutes old, from live events."""
    return await _answer(ListRequest("trending"), body, request, (service, config, event_log))


@router.post("/popular", summary="Products with most events")
async def popular(
    body: ListRequestBody, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """By decayed events of the training log and live ones."""
    return await _answer(ListRequest("popular"), body, request, (service, config, event_log))


@router.post("/new", summary="New products")
async def new(
    body: ListRequestBody, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """Products that were added live, then by their first event, the latest first."""
    return await _answer(ListRequest("new"), body, request, (service, config, event_log))


@router.post("/complements", summary="Products bought together with others")
async def complements(
    body: ComplementsRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """From baskets, not from views; personal where a user is named."""
    spec = ListRequest("complements", body.items, body.strict)
    return await _answer(spec, body, request, (service, config, event_log))


@router.post("/recently-viewed", summary="Products that a user looked at lately")
async def recently_viewed(
    body: UserListRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """The latest first, each once."""
    return await _answer(ListRequest("recently-viewed"), body, request, (service, config, event_log))


@router.post("/buy-again", summary="Products that a user is due to buy again")
async def buy_again(
    body: UserListRequest, request: Request, service: ServiceDep, config: ConfigDep, event_log: EventLogDep
) -> SlateReply:
    """By the user's own interval between purchases, or by everybody's where the user bought a product once."""
    return await _answer(ListRequest("buy-again"), body, request, (service, config, event_log))


async def _answer(
    spec: ListRequest, body: SlateRequest, request: Request, parts: tuple[Service, ServeConfig, EventLog]
) -> SlateReply:
    service, config, event_log = parts
    placement = await find_placement(body, request)
    body = with_defaults(body, placement)
    check_limits(config, None, body.top_k)
    user_id, live, fallback = getattr(body, "user_id", None), LiveHistory(), None
    profile = await profile_of(body, request)
    if user_id is not None:
        live, fallback = await recent_events(event_log, user_id)
    serving = ServingRequest(
        types.Request(
            user_id=None if live.forgotten else user_id,
            events=session_of(getattr(body, "session", ())),
            top_k=body.top_k,
            filters=body.filters,
            explain=body.explain,
            properties=None if profile is None else profile.properties,
            context=body.context,
        ),
        live.events,
        key=rollout_key(user_id, request),
        request_id=request.state.request_id,
        placement=body.placement or "",
        segments=segments_of(body, profile),
        use_rules=body.rules,
        fallback_items=placement.fallback_items if placement else (),
    )
    request.app.state.metrics.product_list(spec.kind)
    answer = await service.product_list(spec, serving)
    return log_impression(slate_reply(answer, request, body.explain, fallback), request, body)
