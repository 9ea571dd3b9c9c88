"""Endpoints for operators: liveness, readiness, metrics, and the front page."""

import asyncio
from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from serve.api.health import HealthReply
from serve.http.authorization import requires
from serve.http.dependencies import EventLogDep, ServiceDep
from serve.http.openapi_errors import KEYS, NOT_READY
from serve.observability.metrics import CONTENT_TYPE
from txrec.errors import UnavailableError

LIVE_COUNTS_TIMEOUT_S = 1.0
"""Longest wait for figures of live counts."""
router = APIRouter(tags=["health"])


@router.get("/health/live", summary="Liveness of the process")
async def live() -> HealthReply:
    """Says nothing about models."""
    return HealthReply(status="live")


@router.get("/health/ready", summary="Readiness to answer", responses=NOT_READY)
async def ready(service: ServiceDep) -> HealthReply:
    """200 once a model is loaded, 503 before."""
    return HealthReply(status="ready", model_version=(await service.model()).version)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=KEYS,
    dependencies=[requires("read")],
)
async def metrics(request: Request, service: ServiceDep, event_log: EventLogDep) -> Response:
    """Requests, latencies by stage, fallbacks, events and the model, of the replica that answers; live figures.

    While no retriever answers, figures of live counts stay as they were.
    """
    request.app.state.monitor.refresh_soon()
    with suppress(UnavailableError, TimeoutError):
        statistics = await asyncio.wait_for(service.live_counts(), LIVE_COUNTS_TIMEOUT_S)
        if statistics is not None:
            request.app.state.metrics.live.counts(statistics, event_log.now_us())
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Redirects to the documentation."""
    return RedirectResponse("docs")
