"""Endpoints of models: list them, activate, deactivate, roll back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter

from serve.api.models import ActivateRequest, ModelReply, ModelsReply, OverlapReply
from serve.http.authorization import requires
from serve.http.dependencies import of_app
from serve.http.openapi_errors import ERRORS, UNKNOWN_VERSION, VERSION_REFUSED
from serve.models.switch import Listed, Switch
from serve.types import Model, Service
from txrec.errors import RequestError
from txrec.online.history import HistoryStore, Overlap

router = APIRouter(prefix="/v1", tags=["models"], responses=ERRORS)


class ServedVersions:
    """The served models as requests see and change them."""

    def __init__(self, switch: Switch, service: Service, store: HistoryStore) -> None:
        self._switch = switch
        self._service = service
        self._store = store

    async def listed(self) -> ModelsReply:
        """All of them."""
        production = await self._service.model()
        return await asyncio.to_thread(self._reply, production)

    async def activate(self, version: str, body: ActivateRequest) -> ModelsReply:
        """Gives a version a role."""
        if body.role == "canary" and body.share is None:
            raise RequestError("share", "is missing; a canary needs the share of users that it answers")
        if body.role != "canary" and body.share is not None:
            raise RequestError("share", f"is of a canary only; a {body.role} has none")
        await self._switch.activate(version, body.role, body.share or 0.0)
        return await self.listed()

    async def deactivate(self, version: str) -> ModelsReply:
        """Ends a trial."""
        await self._switch.deactivate(version)
        return await self.listed()

    async def rollback(self) -> ModelsReply:
        """Goes back to the version before."""
        await self._switch.rollback()
        return await self.listed()

    def _reply(self, production: Model) -> ModelsReply:
        return ModelsReply(models=[self._model(listed) for listed in self._switch.listed(production)])

    def _model(self, listed: Listed) -> ModelReply:
        model = listed.model
        overlap = self._store.overlap(model.version) if "shadow" in listed.roles else None
        return ModelReply(
            version=model.version,
            variant=next(iter(listed.roles), None),
            share=listed.share,
            overlap=_overlap(overlap) if overlap else None,
            created=model.created,
            num_items=model.num_items,
            metrics=dict(model.metrics),
        )


def _overlap(overlap: Overlap) -> OverlapReply:
    return OverlapReply(num_requests=overlap.num_requests, mean=overlap.mean)


ServedVersionsDep = Annotated[ServedVersions, of_app("versions")]


@router.get("/models", summary="Models, served or registered", dependencies=[requires("read")])
async def models(versions: ServedVersionsDep) -> ModelsReply:
    """Versions, their roles, and their metrics at publication."""
    return await versions.listed()


@router.post(
    "/models/{version}:activate",
    summary="Serve a version",
    responses={**UNKNOWN_VERSION, **VERSION_REFUSED},
    dependencies=[requires("admin")],
)
async def activate(version: str, versions: ServedVersionsDep, body: ActivateRequest | None = None) -> ModelsReply:
    """Every replica opens, verifies and tries the version first; a bad one is refused and the old one serves on.

    Requests that are under way finish with the model that they began with.
    """
    return await versions.activate(version, body or ActivateRequest())


@router.post(
    "/models/{version}:deactivate",
    summary="End a canary or a shadow",
    responses={**UNKNOWN_VERSION, **VERSION_REFUSED},
    dependencies=[requires("admin")],
)
async def deactivate(version: str, versions: ServedVersionsDep) -> ModelsReply:
    """Its users get production's answers again."""
    return await versions.deactivate(version)


@router.post(
    "/models:rollback",
    summary="Go back to the version before",
    responses=VERSION_REFUSED,
    dependencies=[requires("admin")],
)
async def rollback(versions: ServedVersionsDep) -> ModelsReply:
    """Puts the version into production that was there before the present one."""
    return await versions.rollback()
