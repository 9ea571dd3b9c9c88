"""FastAPI dependencies: attributes of the application's state, which `serve.ingress.create_app` sets."""

from typing import Annotated, Any

from fastapi import Depends, Request

from serve.documents.placements import Placements
from serve.history.event_log import EventLog
from serve.types import Service
from txrec.config import ServeConfig


def of_app(name: str) -> Any:
    """A dependency that is an attribute of the application's state."""

    async def attribute(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(attribute)


ServiceDep = Annotated[Service, of_app("service")]
ConfigDep = Annotated[ServeConfig, of_app("config")]
EventLogDep = Annotated[EventLog, of_app("event_log")]
PlacementsDep = Annotated[Placements, of_app("placements")]
