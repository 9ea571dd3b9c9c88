"""Endpoints that answer with a slate: recommend, search, similar, rank."""

import time
from dataclasses import replace

from fastapi import APIRouter, Request

from serve.api.slates import (
    AppliedRule,
    ContextRequest,
    ItemReply,
    RankRequest,
    RecommendRequest,
    SearchRequest,
    SimilarRequest,
    SlateReply,
)
from serve.documents.placements import with_defaults
from serve.experiments.participation import failure, with_settings
from serve.http.authorization import requires
from serve.http.openapi_errors import ERRORS, UNKNOWN_ITEM
from serve.http.search_pages import group_reply, highlight_reply, page_reply, page_request
from serve.http.slate_context import ANONYMOUS, ContextDep, SlateContext, rule_settings, session_of
from serve.types import Answer
from txrec.errors import RequestError, UnavailableError
from txrec.loop.exploration.exploration_log import Record
from txrec.online.history import Impression
from txrec.recommender import types

router = APIRouter(prefix="/v1", tags=["slates"], responses=ERRORS, dependencies=[requires("read")])


@router.post("/recommend", summary="Recommendations for a user")
async def recommend(body: RecommendRequest, context: ContextDep) -> SlateReply:
    """Uses the user's history, the session, the cart and, where there is one, the search.

    An unknown user without session or query gets popular products and `fallback: "unknown_user"`.
    """
    return await _personal(body, context)


@router.post("/search", summary="Products for a search")
async def search(body: SearchRequest, context: ContextDep) -> SlateReply:
    """The same as `recommend` with a query, which is required here."""
    if not body.query.strip():
        raise RequestError("query", "is blank; expected a search text")
    return await _personal(body, context)


async def _personal(body: RecommendRequest | SearchRequest, context: SlateContext) -> SlateReply:
    state = context.request.app.state
    part = await state.experiments.participation(body.user_id)
    placement = await context.placement(body, part.placement)
    body = with_settings(with_defaults(body, placement), part)
    context.check_limits(body.query, body.top_k)
    user = await context.user(body.user_id)
    page = page_request(body)
    settings = rule_settings(body, user, placement)
    settings["segments"] += part.segments
    explored = page is None and part.interleaved is None and (placement is None or placement.explore)
    bounds = placement.exploration if placement else None
    serving = context.serving_request(
        types.Request(
            user_id=user.user_id,
            events=session_of(body.session, context.event_log.now_us()),
            query=body.query,
            cart=body.items,
            top_k=body.top_k,
            filters=body.filters,
            exclude=frozenset(body.exclude),
            exclude_seen=body.exclude_seen,
            max_showings=body.max_showings,
            shown=await context.shown(user.user_id, body.seen_places),
            fatigue=body.fatigue,
            diversity=body.diversity,
            properties=user.properties,
            context=body.context,
            sources=body.sources,
            objective=body.objective,
            explain=body.explain,
            with_candidates=body.candidates > 0,
        ),
        body.user_id,
        user,
        **settings,
        num_candidates=body.candidates,
        page=page,
        version=part.version,
        interleaved=part.interleaved if page is None else None,
        depth=state.explorer.depth(bounds) if explored else 0,
    )
    try:
        answer = await context.service.recommend(serving)
    except Exception as error:
        if part.labels and (isinstance(error, UnavailableError) or not isinstance(error, RequestError)):
            state.impressions.add(failure(serving.request_id, context.event_log.now_us(), body, part))
        raise
    slate, record = answer.slate, None
    if explored and not answer.teams:  # the places of a page are those of the pages before it
        slate, record = state.explorer.apply(slate, bounds, body.top_k)
    reply = slate_reply(replace(answer, slate=slate), context.request, body.explain, user.fallback)
    reply.experiments = dict(label.split(":", 1) for label in part.labels)
    return log_impression(reply, context.request, body, record, answer.teams, tuple(answer.slate.rules))


@router.post("/similar", summary="Alternatives of a product", responses=UNKNOWN_ITEM)
async def similar(body: SimilarRequest, context: ContextDep) -> SlateReply:
    """Products of the same kind, by views and by text; products that are bought with it are at `/v1/complements`."""
    placement = await context.placement(body)
    body = with_defaults(body, placement)
    context.check_limits(None, body.top_k)
    serving = context.serving_request(
        types.Request(top_k=body.top_k, filters=body.filters, explain=body.explain, context=body.context),
        **rule_settings(body, ANONYMOUS, placement),
    )
    answer = await context.service.similar(body.item_id, serving)
    reply = slate_reply(answer, context.request, body.explain)
    return log_impression(reply, context.request, body, rules=tuple(answer.slate.rules))


@router.post("/rank", summary="The caller's own list in order")
async def rank(body: RankRequest, context: ContextDep) -> SlateReply:
    """Orders the products of the request for a user, a search or both.

    Products that are unknown, blocked by a rule or filtered out are left out; other rules move products of the list
    and add none.
    """
    placement = await context.placement(body)
    body = with_defaults(body, placement)
    context.check_limits(body.query, len(body.items))
    user = await context.user(body.user_id)
    serving = context.serving_request(
        types.Request(
            user_id=user.user_id,
            events=session_of(body.session, context.event_log.now_us()),
            query=body.query,
            top_k=len(body.items),
            filters=body.filters,
            max_showings=body.max_showings,
            shown=await context.shown(user.user_id, body.seen_places),
            fatigue=body.fatigue,
            properties=user.properties,
            context=body.context,
            objective=body.objective,
            explain=body.explain,
        ),
        body.user_id,
        user,
        **{**rule_settings(body, user, placement), "fallback_items": ()},
    )
    answer = await context.service.rank(body.items, serving)
    reply = slate_reply(answer, context.request, body.explain, user.fallback)
    return log_impression(reply, context.request, body, rules=tuple(answer.slate.rules))


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


def log_impression(
    reply: SlateReply,
    request: Request,
    body: ContextRequest,
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
        price=item.price,
        source=item.source,
        sources=dict(item.sources),
        reasons=list(item.reasons),
        highlight=highlight_reply(item),
        group=group_reply(item),
        estimates=dict(item.estimates),
    )
