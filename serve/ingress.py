"""The HTTP application over a `Service`: validate, delegate, say what went wrong. It runs without Ray."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from serve import api, changes, problems
from serve.batching import Batcher
from serve.changes import Products, Versions
from serve.envelope import MAX_BODY_BYTES, Envelope
from serve.impressions import Impressions
from serve.keys import Key, Keys, Role
from serve.metrics import CONTENT_TYPE, Metrics
from serve.service import Answer, Asked, Service
from serve.state import Answering, Limits, of_app
from serve.switch import Switch
from txrec import __version__
from txrec.config import ServeConfig
from txrec.errors import RequestError, UnavailableError
from txrec.online.history import HistoryStore, Impression, LiveHistory, LoggedEvent
from txrec.online.journal import ItemJournal
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender import types

STORE_PAUSE_S = 1.0
"""After a failure the event store is not read for so long, seconds."""
MAX_FUTURE_US = 86_400_000_000
"""An event may be dated this far ahead of the server's clock, microseconds."""

_DESCRIPTION = """
Recommendations and search for a shop. Ids are the shop's own. Every error names the field that is to blame:
`{"error": {"field": "top_k", "message": "..."}, "request_id": "..."}`.
"""
_KEYS: dict[int | str, dict[str, Any]] = {
    401: {"model": api.ErrorReply, "description": "No API key, or an unknown one"},
    403: {"model": api.ErrorReply, "description": "The key may not do this"},
    429: {"model": api.ErrorReply, "description": "Too many requests of this caller; see Retry-After"},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    **_KEYS,
    400: {"model": api.ErrorReply, "description": "The body is no JSON"},
    408: {"model": api.ErrorReply, "description": "The body did not arrive in time"},
    413: {"model": api.ErrorReply, "description": f"The body is larger than {MAX_BODY_BYTES} bytes"},
    422: {"model": api.ErrorReply, "description": "A field is missing, unknown or out of range"},
    500: {"model": api.ErrorReply, "description": "A defect of the server"},
    503: {"model": api.ErrorReply, "description": "Overloaded or starting; see Retry-After"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": api.ErrorReply, "description": "Not in the catalogue"}}
_NO_USER: dict[int | str, dict[str, Any]] = {
    404: {"model": api.ErrorReply, "description": "Nothing is known about this user"}
}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": api.ErrorReply, "description": "Not ready to answer"}}
_BEARER = HTTPBearer(auto_error=False, description="API key; needed where the server knows any")


def create_app(
    service: Service,
    config: ServeConfig | None = None,
    store: HistoryStore | None = None,
    keys: Keys | None = None,
    clock: Callable[[], float] = time.time,
    journal: ItemJournal | None = None,
    switch: Switch | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Builds the HTTP application.

    Args:
        service: what answers.
        config: limits; defaults apply without.
        store: keeps events; in memory without.
        keys: who may do what; without, everybody may do everything.
        clock: seconds since 1970 UTC.
        journal: keeps changes of products; in memory without.
        switch: changes the served models; without, there is just the one.
        metrics: figures, of which the service may make some.
    """
    app = FastAPI(title="txrec", version=__version__, description=_DESCRIPTION, redoc_url=None, lifespan=_lifespan)
    app.state.service = service
    app.state.config = config = config or ServeConfig()
    app.state.metrics = metrics = metrics or Metrics()
    store = store or SqliteHistory()
    app.state.events = Events(store, clock, metrics)
    app.state.impressions = Impressions(store, config.impression_days, clock)
    app.state.products = Products(journal or SqliteJournal(), service)
    app.state.versions = Versions(switch or Switch(None, config), service, store)
    app.include_router(_slates)
    app.include_router(_state)
    app.include_router(changes.reading, responses=_ERRORS, dependencies=[_needs("read")])
    app.include_router(changes.changing, responses=_ERRORS, dependencies=[_needs("admin")])
    problems.install(app)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Envelope, config=config, keys=keys or Keys(), metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What still waits in memory is written before the process ends."""
    yield
    await app.state.impressions.flush()


class Events:
    """Live history as requests see it: events that arrive together are written together, with one fsync."""

    def __init__(self, store: HistoryStore, clock: Callable[[], float], metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._rests_until = 0.0
        self._write: Batcher[list[LoggedEvent], int] = Batcher(
            self._append, max_size=64, observe=partial(metrics.batch, "events")
        )

    async def log(self, events: tuple[api.LiveEvent, ...]) -> api.EventsReply:
        """Stores events; they are on disk when this returns."""
        now_us = self.now_us()
        logged = [_logged(event, now_us) for event in events]
        late = [place for place, one in enumerate(logged) if (one.event.ts or 0) > now_us + MAX_FUTURE_US]
        if late:
            raise RequestError(
                f"{_place(late[0], events)}ts", "lies more than a day in the future; expected microseconds since 1970"
            )
        stored = await self._write(logged)
        ids = [one.event_id for one in logged]
        return api.EventsReply(stored=stored, repeated=len(logged) - stored, event_ids=ids)

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return int(self._clock() * 1e6)

    def of(self, user_id: str | None) -> LiveHistory:
        """What the user did since the model was trained.

        Raises:
            UnavailableError: the store is away; it is then left alone for a second, so that requests do not queue up
                behind one that does not answer.
        """
        if user_id is None:
            return LiveHistory()
        if self._clock() < self._rests_until:
            raise UnavailableError("", "the event store does not answer; try again in a moment")
        try:
            return self._store.recent(user_id)
        except UnavailableError:
            self._rests_until = self._clock() + STORE_PAUSE_S
            raise

    async def forget(self, user_id: str) -> int:
        """Removes a user."""
        return await asyncio.to_thread(self._store.forget, user_id)

    async def _append(self, batches: list[list[LoggedEvent]]) -> list[int | BaseException]:
        return [*await asyncio.to_thread(self._store.append, *batches)]


def _place(place: int, events: tuple[api.LiveEvent, ...]) -> str:
    """Prefix of the fields of one event; a lone one needs none."""
    return f"{place}." if len(events) > 1 else ""


def _logged(event: api.LiveEvent, now_us: int) -> LoggedEvent:
    done = types.Event(event.event, event.item_id, event.query, event.ts or now_us, event.value)
    return LoggedEvent(event.event_id or uuid.uuid4().hex, event.user_id, done, event.session_id, event.request_id)


Log = Annotated[Events, of_app("events")]


def _needs(role: Role) -> Any:
    """A dependency that lets only keys of a role in; the envelope has looked up whose key it is."""

    async def check(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        key: Key | None = request.state.key
        if key is None:
            raise HTTPException(
                401, "send a known API key: `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"}
            )
        if not key.may(role):
            raise HTTPException(403, f"this key has not the role {role}")

    return Depends(check)


_slates = APIRouter(prefix="/v1", tags=["slates"], responses=_ERRORS, dependencies=[_needs("read")])
_state = APIRouter(tags=["state"])


@_slates.post("/recommend", summary="What to show to a user now")
async def recommend(
    body: api.RecommendRequest, request: Request, service: Answering, limits: Limits, log: Log
) -> api.SlateReply:
    """Uses the user's history, the session, the cart and, where there is one, the search.

    Somebody unknown without session or query gets popular products and `fallback: "unknown_user"`.
    """
    return await _personal(body, request, service, limits, log)


@_slates.post("/search", summary="Products for a search")
async def search(
    body: api.SearchRequest, request: Request, service: Answering, limits: Limits, log: Log
) -> api.SlateReply:
    """The same as `recommend` with a query, which is required here."""
    if not body.query.strip():
        raise RequestError("query", "is blank; expected a search text")
    return await _personal(body, request, service, limits, log)


async def _personal(
    body: api.RecommendRequest | api.SearchRequest,
    request: Request,
    service: Service,
    limits: ServeConfig,
    log: Events,
) -> api.SlateReply:
    _check(limits, body.query, body.top_k)
    user_id, events, missing = _known(log, body)
    asked = Asked(
        types.Request(
            user_id=user_id,
            events=events,
            query=body.query,
            cart=body.items,
            top_k=body.top_k,
            filters=body.filters,
            exclude=frozenset(body.exclude),
            exclude_seen=body.exclude_seen,
            diversity=body.diversity,
            explain=body.explain or body.candidates > 0,
        ),
        body.candidates,
        key=_key(body.user_id, request),
        request_id=request.state.request_id,
    )
    reply = _reply(await service.recommend(asked), request, body.explain, missing)
    return _shown(reply, request, body)


@_slates.post("/similar", summary="Products like this one", responses=_UNKNOWN)
async def similar(body: api.SimilarRequest, request: Request, service: Answering, limits: Limits) -> api.SlateReply:
    """By what users do with it and by its text."""
    _check(limits, None, body.top_k)
    found = await service.similar(body.item_id, body.top_k, body.filters, _key(None, request))
    reply = _reply(found, request, body.explain)
    return _shown(reply, request)


@_slates.post("/rank", summary="The caller's own list in order")
async def rank(body: api.RankRequest, request: Request, service: Answering, limits: Limits, log: Log) -> api.SlateReply:
    """Orders the given products for a user, a search or both; unknown products are left out and noted."""
    _check(limits, body.query, len(body.items))
    user_id, events, missing = _known(log, body)
    asked = Asked(
        types.Request(
            user_id=user_id,
            events=events,
            query=body.query,
            top_k=len(body.items),
            explain=body.explain,
        ),
        key=_key(body.user_id, request),
        request_id=request.state.request_id,
    )
    reply = _reply(await service.rank(body.items, asked), request, body.explain, missing)
    return _shown(reply, request, body)


@_state.get(
    "/v1/users/{user_id}",
    summary="A user's history",
    tags=["users"],
    responses={**_ERRORS, **_NO_USER},
    dependencies=[_needs("read")],
)
async def user(user_id: str, service: Answering, log: Log) -> api.UserReply:
    """Oldest first, as far back as the model looks."""
    live = log.of(user_id)
    events = await service.history(None if live.forgotten else user_id, live.events)
    if not events:
        raise HTTPException(404, "nothing is known about this user", {"X-Field": "user_id"})
    return api.UserReply(
        user_id=user_id, events=[api.HistoryEvent(**asdict(seen.event), title=seen.title) for seen in events]
    )


@_state.delete(
    "/v1/users/{user_id}",
    summary="Forget a user",
    tags=["users"],
    responses={**_KEYS, **_NOT_READY},
    dependencies=[_needs("admin")],
)
async def forget(user_id: str, log: Log) -> api.ForgottenReply:
    """Removes what was logged; what the model's bundle still holds about the user is not used any more."""
    return api.ForgottenReply(user_id=user_id, num_events=await log.forget(user_id))


@_state.post(
    "/v1/events",
    status_code=202,
    summary="What users did",
    tags=["events"],
    responses=_ERRORS,
    dependencies=[_needs("events")],
)
async def events(body: api.EventsRequest, request: Request, log: Log) -> api.EventsReply:
    """Durable before the answer, and part of the next recommendation for the user."""
    for place, event in enumerate(body.root):
        _check_event(event, _place(place, body.root))
    reply = await log.log(body.root)
    request.app.state.metrics.events(reply.stored, reply.repeated)
    return reply


@_state.get("/health/live", summary="Is the process up?", tags=["health"])
async def live() -> api.HealthReply:
    """Says nothing about models."""
    return api.HealthReply(status="live")


@_state.get("/health/ready", summary="Can it answer?", tags=["health"], responses=_NOT_READY)
async def ready(service: Answering) -> api.HealthReply:
    """200 once a model is loaded, 503 before."""
    return api.HealthReply(status="ready", model_version=(await service.model()).version)


@_state.get(
    "/metrics",
    summary="Figures for Prometheus",
    tags=["health"],
    response_class=Response,
    responses=_KEYS,
    dependencies=[_needs("read")],
)
async def metrics(request: Request) -> Response:
    """Requests, latencies by stage, fallbacks, events and the model, of the replica that answers."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


@_state.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """The documentation is the front page."""
    return RedirectResponse("docs")


def _check(limits: ServeConfig, query: str | None, top_k: int) -> None:
    if query is not None and len(query) > limits.max_query_chars:
        raise RequestError("query", f"has {len(query)} characters; a query may have at most {limits.max_query_chars}")
    if top_k > limits.max_top_k:
        raise RequestError("top_k", f"{top_k} is more than the {limits.max_top_k} items that a slate may have")


def _known(
    log: Events, body: api.RecommendRequest | api.SearchRequest | api.RankRequest
) -> tuple[str | None, tuple[types.Event, ...], str | None]:
    """Whose stored history to use, the events that follow it, and why that is less than was asked for."""
    session = _session(body.session)
    try:
        live = log.of(body.user_id)
    except UnavailableError:
        return body.user_id, session, "history_unavailable"
    return None if live.forgotten else body.user_id, (*live.events, *session), None


def _session(session: tuple[api.SessionEvent, ...]) -> tuple[types.Event, ...]:
    for place, event in enumerate(session):
        _check_event(event, f"session.{place}.")
    return tuple(types.Event(event.event, event.item_id, event.query, event.ts, event.value) for event in session)


def _check_event(event: api.SessionEvent, prefix: str) -> None:
    if event.item_id is None and event.event != "search":
        raise RequestError(f"{prefix}item_id", f"is missing; a {event.event} needs an item")
    if event.event == "search" and not (event.query or "").strip():
        raise RequestError(f"{prefix}query", "is missing; a search needs its text")


def _reply(answer: Answer, request: Request, explain: bool, missing: str | None = None) -> api.SlateReply:
    result = answer.slate
    fallback = missing or result.fallback
    request.app.state.metrics.slate(answer, fallback)
    return api.SlateReply(
        request_id=request.state.request_id,
        model_version=answer.model_version,
        variant=answer.variant,
        took_ms=round((time.perf_counter() - request.state.started) * 1000, 3),
        fallback=fallback,
        items=[_item(item) for item in result.items],
        candidates=[_item(item) for item in result.candidates],
        notes=list(result.notes),
        timings_ms=dict(result.timings_ms) if explain else {},
    )


def _key(user_id: str | None, request: Request) -> str:
    """What decides about the canary."""
    return user_id or str(request.state.request_id)


def _shown(
    reply: api.SlateReply, request: Request, body: api.PersonalRequest | api.RankRequest | None = None
) -> api.SlateReply:
    """Logs the slate that is about to be answered."""
    events: Events = request.app.state.events
    request.app.state.impressions.add(
        Impression(
            request_id=reply.request_id,
            ts=events.now_us(),
            variant=reply.variant,
            model_version=reply.model_version,
            item_ids=tuple(item.item_id for item in reply.items),
            scores=tuple(item.score for item in reply.items),
            user_id=body.user_id if body else None,
            query=getattr(body, "query", None),
            fallback=reply.fallback,
        )
    )
    return reply


def _item(item: types.SlateItem) -> api.ItemReply:
    return api.ItemReply(
        item_id=item.item_id,
        score=item.score,
        title=item.title,
        source=item.source,
        sources=dict(item.sources),
        reasons=list(item.reasons),
    )
