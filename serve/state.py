"""What endpoints take from the state of their application, as FastAPI dependencies."""

from typing import Annotated, Any

from fastapi import Depends, Request

from serve.service import Service
from txrec.config import ServeConfig


def of_app(name: str) -> Any:
    """A dependency that is an attribute of the application's state, which `serve.ingress.create_app` sets."""

    async def found(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(found)


Answering = Annotated[Service, of_app("service")]
Limits = Annotated[ServeConfig, of_app("config")]
