"""What a shop changes while it is open: its products and the models that answer (`/v1/items`, `/v1/models`).

Reading and changing are apart, because keys that may read need not be allowed to change anything.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter

from serve import api
from serve.batching import Batcher
from serve.service import Model, Service
from serve.state import Answering, of_app
from serve.switch import Listed, Switch
from txrec.errors import RequestError, UnknownItemError
from txrec.online.history import HistoryStore, Overlap
from txrec.online.journal import ItemJournal

reading = APIRouter()
changing = APIRouter()

_NO_ITEM: dict[int | str, dict[str, Any]] = {404: {"model": api.ErrorReply, "description": "No such product"}}
_NO_VERSION: dict[int | str, dict[str, Any]] = {404: {"model": api.ErrorReply, "description": "No such version"}}
_REFUSED: dict[int | str, dict[str, Any]] = {
    409: {"model": api.ErrorReply, "description": "The version may not be served so; the one before serves on"}
}


class Products:
    """Live products as requests change them: changes that arrive together are written together."""

    def __init__(self, journal: ItemJournal, service: Service) -> None:
        self._journal = journal
        self._service = service
        self._write: Batcher[list[dict[str, Any]], int] = Batcher(self._put, max_size=16)

    async def put(self, items: Sequence[api.LiveItem]) -> api.ItemsReply:
        """Stores products; they are on disk when this returns."""
        change = await self._write([item.model_dump(mode="json", exclude_unset=True) for item in items])
        return api.ItemsReply(stored=len(items), change=change)

    async def retire(self, item_id: str) -> api.ItemsReply:
        """Takes a product out of sale."""
        if await asyncio.to_thread(self._journal.get, item_id) is None and await self._service.item(item_id) is None:
            raise UnknownItemError("item_id", f"{item_id} is not in the catalogue; nothing to take out")
        return api.ItemsReply(stored=1, change=await asyncio.to_thread(self._journal.retire, item_id))

    async def _put(self, batches: list[list[dict[str, Any]]]) -> list[int | BaseException]:
        last = await asyncio.to_thread(self._journal.put, [row for batch in batches for row in batch])
        return [last] * len(batches)


class Versions:
    """The served models as requests see and change them."""

    def __init__(self, switch: Switch, service: Service, store: HistoryStore) -> None:
        self._switch = switch
        self._service = service
        self._store = store

    async def listed(self) -> api.ModelsReply:
        """All of them."""
        production = await self._service.model()
        return await asyncio.to_thread(self._reply, production)

    async def activate(self, version: str, wanted: api.ActivateRequest) -> api.ModelsReply:
        """Gives a version a role."""
        if wanted.role == "canary" and wanted.share is None:
            raise RequestError("share", "is missing; a canary needs the share of users that it answers")
        if wanted.role != "canary" and wanted.share is not None:
            raise RequestError("share", f"is of a canary only; a {wanted.role} has none")
        await self._switch.activate(version, wanted.role, wanted.share or 0.0)
        return await self.listed()

    async def deactivate(self, version: str) -> api.ModelsReply:
        """Ends a trial."""
        await self._switch.deactivate(version)
        return await self.listed()

    async def rollback(self) -> api.ModelsReply:
        """Goes back to the version before."""
        await self._switch.rollback()
        return await self.listed()

    def _reply(self, production: Model) -> api.ModelsReply:
        return api.ModelsReply(models=[self._model(listed) for listed in self._switch.listed(production)])

    def _model(self, listed: Listed) -> api.ModelReply:
        model = listed.model
        found = self._store.overlap(model.version) if "shadow" in listed.roles else None
        return api.ModelReply(
            version=model.version,
            variant=next(iter(listed.roles), None),
            share=listed.share,
            overlap=_overlap(found) if found else None,
            created=model.created,
            num_items=model.num_items,
            metrics=dict(model.metrics),
        )


def _overlap(found: Overlap) -> api.OverlapReply:
    return api.OverlapReply(num_requests=found.num_requests, mean=found.mean)


Catalogue = Annotated[Products, of_app("products")]
Served = Annotated[Versions, of_app("versions")]


@changing.put("/v1/items", summary="Add or change products", tags=["items"])
async def put_items(body: api.ItemsRequest, products: Catalogue) -> api.ItemsReply:
    """Durable before the answer, in slates within two seconds, encoded by the model that is served; no retraining.

    The changes hold for every model that is served later, until the shop changes them again.
    """
    return await products.put(body.root)


@changing.delete("/v1/items/{item_id:path}", summary="Take a product out of sale", tags=["items"], responses=_NO_ITEM)
async def retire_item(item_id: str, products: Catalogue) -> api.ItemsReply:
    """It is in no slate any more; histories may still name it. Putting it again brings it back."""
    return await products.retire(item_id)


@reading.get("/v1/items/{item_id:path}", summary="A product", tags=["items"], responses=_NO_ITEM)
async def item(item_id: str, service: Answering) -> api.ProductReply:
    """As the model in production knows it, live changes included."""
    found = await service.item(item_id)
    if found is None:
        raise UnknownItemError("item_id", f"{item_id} is not in the catalogue")
    return api.ProductReply.model_validate({**found.fields, "on_sale": found.on_sale})


@reading.get("/v1/models", summary="Models, served or registered", tags=["models"])
async def models(versions: Served) -> api.ModelsReply:
    """Versions, what they are served as, and what they scored before they were published."""
    return await versions.listed()


@changing.post(
    "/v1/models/{version}:activate",
    summary="Serve a version",
    tags=["models"],
    responses={**_NO_VERSION, **_REFUSED},
)
async def activate(version: str, versions: Served, body: api.ActivateRequest | None = None) -> api.ModelsReply:
    """Every replica opens, verifies and tries the version first; a bad one is refused and the old one serves on.

    Requests that are under way finish with the model that they began with.
    """
    return await versions.activate(version, body or api.ActivateRequest())


@changing.post(
    "/v1/models/{version}:deactivate",
    summary="End a canary or a shadow",
    tags=["models"],
    responses={**_NO_VERSION, **_REFUSED},
)
async def deactivate(version: str, versions: Served) -> api.ModelsReply:
    """Its users get production's answers again."""
    return await versions.deactivate(version)


@changing.post("/v1/models:rollback", summary="Go back to the version before", tags=["models"], responses=_REFUSED)
async def rollback(versions: Served) -> api.ModelsReply:
    """Puts the version into production that was there before the present one."""
    return await versions.rollback()
