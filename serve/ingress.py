"""The HTTP application over a `Service`: middleware, routers, and the state that endpoints share. Runs without Ray."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serve import judging, suggester
from serve.documents import placements, profiles
from serve.documents.rules import KIND
from serve.experiments.exploration import Explorer
from serve.experiments.lifecycle import Experiments, Stores
from serve.history.event_log import EventLog
from serve.history.impressions import Impressions
from serve.http import error_responses
from serve.http.api_keys import Keys
from serve.http.middleware import RequestMiddleware
from serve.models.switch import Switch
from serve.observability.live_monitor import LiveMonitor, TrafficProfiles
from serve.observability.metrics import Metrics
from serve.routers import (
    audience,
    events,
    experiments,
    health,
    items,
    lists,
    models,
    monitor,
    rules,
    slates,
    suggest,
    users,
)
from serve.routers import judging as judging_router
from serve.routers import mcp as mcp_route
from serve.routers import placements as placements_router
from serve.types import Service
from txrec import __version__
from txrec.config import ServeConfig
from txrec.loop.experiments.served_experiments import KIND as EXPERIMENTS
from txrec.loop.judging import JUDGMENTS_KIND
from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore
from txrec.online.journal import ItemJournal
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal

_DESCRIPTION = """
Recommendations and search for a shop. Ids are the shop's own. Every error names the offending field:
`{"error": {"field": "top_k", "message": "..."}, "request_id": "..."}`.
"""


@dataclass(frozen=True)
class Components:
    """Parts of the HTTP application that a deployment brings; by default everything is kept in memory.

    Attributes:
        store: keeps events and impressions.
        journal: keeps live changes of products.
        keys: API keys; without any, no key is needed.
        rules: keeps merchandising rules.
        placements: keeps placements.
        suggestions: keeps the blocked words of suggestions.
        profiles: keeps properties and segments of users.
        judgments: keeps the grades of judges.
        experiments: keeps experiments.
        switch: changes the served models; None = there is one bundle for good.
        traffic: profiles of the training logs that live traffic is compared with.
        metrics: figures, of which the service may count some.
        clock: seconds since 1970 UTC.
    """

    store: HistoryStore = field(default_factory=SqliteHistory)
    journal: ItemJournal = field(default_factory=SqliteJournal)
    keys: Keys = field(default_factory=Keys)
    rules: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=KIND))
    placements: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=placements.KIND))
    suggestions: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=suggester.KIND))
    profiles: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=profiles.KIND))
    judgments: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=JUDGMENTS_KIND))
    experiments: DocumentStore = field(default_factory=lambda: SqliteDocuments(kind=EXPERIMENTS))
    switch: Switch | None = None
    traffic: TrafficProfiles = field(default_factory=TrafficProfiles)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = time.time


def create_app(service: Service, config: ServeConfig | None = None, components: Components | None = None) -> FastAPI:
    """Builds the HTTP application.

    Args:
        service: answers requests.
        config: limits; the defaults of `[serve]` without.
        components: stores, keys and the rest; in memory without.
    """
    config, parts = config or ServeConfig(), components or Components()
    app = FastAPI(title="txrec", version=__version__, description=_DESCRIPTION, redoc_url=None, lifespan=_lifespan)
    app.state.service = service
    app.state.keys_needed = bool(parts.keys.known)
    app.state.config = config
    app.state.metrics = parts.metrics
    app.state.event_log = EventLog(parts.store, parts.clock, parts.metrics)
    app.state.impressions = Impressions(
        parts.store, config.impression_days, parts.clock, count_dropped=parts.metrics.lost_impressions
    )
    app.state.explorer = Explorer(config.exploration)
    app.state.monitor = LiveMonitor(parts.store, config.monitor, parts.clock, parts.metrics, parts.traffic)
    app.state.products = items.LiveProducts(parts.journal, service)
    app.state.rules = rules.LiveRules(parts.rules, service, parts.clock)
    app.state.suggester = suggester.Suggester(service, app.state.event_log, parts.suggestions)
    app.state.placements = placements.Placements(parts.placements, placements.read_file(config.placements_file))
    app.state.profiles = profiles.Profiles(parts.profiles, parts.metrics.profile, parts.clock)
    switch = parts.switch or Switch(None, config)
    app.state.versions = models.ServedVersions(switch, service, parts.store)
    app.state.judging = judging.Judging(service, parts.judgments, switch.canary_share, parts.clock)
    app.state.experiments = Experiments(
        Stores(parts.experiments, parts.store), switch, config.experiment_check_s, parts.clock, parts.metrics
    )
    shop = (slates, lists, suggest, rules, placements_router, users, audience, events, items)
    for resource in (*shop, models, experiments, monitor, judging_router, health):
        app.include_router(resource.router)
    if config.mcp:
        mcp_route.add_route(app)
    error_responses.install(app)
    app.add_middleware(RequestMiddleware, config=config, keys=parts.keys, metrics=parts.metrics)
    if config.cors_origins:  # outermost, so that refusals of the request middleware carry its headers too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs the MCP endpoint, watches experiments and suggestions, and in the end writes the impressions that wait."""
    async with AsyncExitStack() as stack:
        config: ServeConfig = app.state.config
        if config.mcp:
            from serve.http import mcp_endpoint  # the SDK takes a second to import, and only this process needs it

            any_host = app.state.keys_needed
            app.state.mcp = await stack.enter_async_context(mcp_endpoint.running(app, config.host, any_host))
        watching = [asyncio.create_task(part.watch()) for part in (app.state.experiments, app.state.suggester)]
        yield
        for task in watching:
            task.cancel()
        app.state.mcp = None
    await app.state.impressions.close()
