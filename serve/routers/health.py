"""Endpoints for operators: liveness, readiness, metrics, and the front page."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from serve.access import requires
from serve.api.health import HealthReply
from serve.dependencies import ServiceDep
from serve.metrics import CONTENT_TYPE
from serve.responses import KEYS, NOT_READY

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
async def metrics(request: Request) -> Response:
    """Requests, latencies by stage, fallbacks, events and the model, of the replica that answers; live figures."""
    request.app.state.monitor.refresh_soon()
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Redirects to the documentation."""
    return RedirectResponse("docs")
