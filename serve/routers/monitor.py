"""Endpoint of live figures: click rate, conversion, revenue ... of the last hours by slice."""

from fastapi import APIRouter, Request

from serve.api.monitor import MonitorReply
from serve.http.authorization import requires
from serve.http.openapi_errors import ERRORS

router = APIRouter(prefix="/v1", tags=["monitor"], responses=ERRORS, dependencies=[requires("admin")])


@router.get("/monitor", summary="Live figures of served slates")
async def monitor(request: Request) -> MonitorReply:
    """Slates of the last hours joined with the events that followed, by slice, with 95 % intervals."""
    live = request.app.state.monitor
    figures = await live.figures()
    plain = {
        slice_: {part: {name: rate.to_dict() for name, rate in row.items()} for part, row in parts.items()}
        for slice_, parts in figures.items()
    }
    return MonitorReply.model_validate(
        {
            "hours": request.app.state.config.monitor.live_h,
            "computed": live.computed,
            "figures": plain,
            "drift": live.drift.to_dict(),
        }
    )
