"""Endpoints of the lists that every shop has: trending, popular, new, complements, recently viewed, buy again."""

from fastapi import APIRouter

from serve.api.lists import ComplementsRequest, ListRequestBody, UserListRequest
from serve.api.slates import SlateReply, SlateRequest
from serve.documents.placements import with_defaults
from serve.http.authorization import requires
from serve.http.openapi_errors import ERRORS, UNKNOWN_ITEM
from serve.http.slate_context import ANONYMOUS, ContextDep, SlateContext, rule_settings, session_of
from serve.routers.slates import log_impression, slate_reply
from txrec.recommender import types
from txrec.recommender.lists.lists import ListRequest

router = APIRouter(prefix="/v1", tags=["lists"], responses=ERRORS, dependencies=[requires("read")])


@router.post("/trending", summary="Products that rise now")
async def trending(body: ListRequestBody, context: ContextDep) -> SlateReply:
    """More users in the last six hours than the product's usual share lets expect; minutes old, from live events."""
    return await _answer(ListRequest("trending"), body, context)


@router.post("/popular", summary="Products with most events")
async def popular(body: ListRequestBody, context: ContextDep) -> SlateReply:
    """By decayed events of the training log and live ones."""
    return await _answer(ListRequest("popular"), body, context)


@router.post("/new", summary="New products")
async def new(body: ListRequestBody, context: ContextDep) -> SlateReply:
    """Products that were added live, then by their first event, the latest first."""
    return await _answer(ListRequest("new"), body, context)


@router.post("/complements", summary="Products bought together with others", responses=UNKNOWN_ITEM)
async def complements(body: ComplementsRequest, context: ContextDep) -> SlateReply:
    """From baskets, not from views; personal where a user is named."""
    spec = ListRequest("complements", body.items, body.strict)
    return await _answer(spec, body, context)


@router.post("/recently-viewed", summary="Products that a user looked at lately")
async def recently_viewed(body: UserListRequest, context: ContextDep) -> SlateReply:
    """The latest first, each once."""
    return await _answer(ListRequest("recently-viewed"), body, context)


@router.post("/buy-again", summary="Products that a user is due to buy again")
async def buy_again(body: UserListRequest, context: ContextDep) -> SlateReply:
    """By the user's own interval between purchases, or by everybody's where the user bought a product once."""
    return await _answer(ListRequest("buy-again"), body, context)


async def _answer(spec: ListRequest, body: SlateRequest, context: SlateContext) -> SlateReply:
    placement = await context.placement(body)
    body = with_defaults(body, placement)
    context.check_limits(None, body.top_k)
    user_id = getattr(body, "user_id", None)
    user = ANONYMOUS if user_id is None else await context.user(user_id)
    serving = context.serving_request(
        types.Request(
            user_id=user.user_id,
            events=session_of(getattr(body, "session", ()), context.event_log.now_us()),
            top_k=body.top_k,
            filters=body.filters,
            explain=body.explain,
            properties=user.properties,
            context=body.context,
        ),
        user_id,
        user,
        **rule_settings(body, user, placement),
    )
    context.request.app.state.metrics.product_list(spec.kind)
    answer = await context.service.product_list(spec, serving)
    reply = slate_reply(answer, context.request, body.explain, user.fallback)
    return log_impression(reply, context.request, body, rules=tuple(answer.slate.rules))
