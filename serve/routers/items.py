"""Endpoints of products: read, add or change, take out of sale. Item ids may hold any character, `/` included."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter

from serve.api.items import ItemsReply, ItemsRequest, LiveItem, ProductReply
from serve.concurrency.batching import Batcher
from serve.http.authorization import requires
from serve.http.dependencies import ServiceDep, of_app
from serve.http.openapi_errors import ERRORS, UNKNOWN_ITEM
from serve.types import Service
from txrec.errors import UnknownItemError
from txrec.online.journal import ItemJournal

router = APIRouter(prefix="/v1", tags=["items"], responses=ERRORS)

MAX_WRITES_PER_BATCH = 16


class LiveProducts:
    """Live products as requests change them: changes that arrive together are written together."""

    def __init__(self, journal: ItemJournal, service: Service) -> None:
        self._journal = journal
        self._service = service
        self._write: Batcher[list[dict[str, Any]], int] = Batcher(self._put, max_size=MAX_WRITES_PER_BATCH)

    async def put(self, items: Sequence[LiveItem]) -> ItemsReply:
        """Stores products; they are on disk when this returns."""
        change = await self._write([item.model_dump(mode="json", exclude_unset=True) for item in items])
        return ItemsReply(stored=len(items), change=change)

    async def retire(self, item_id: str) -> ItemsReply:
        """Takes a product out of sale."""
        if await asyncio.to_thread(self._journal.get, item_id) is None and await self._service.item(item_id) is None:
            raise UnknownItemError.of("item_id", item_id)
        return ItemsReply(stored=1, change=await asyncio.to_thread(self._journal.retire, item_id))

    async def _put(self, batches: list[list[dict[str, Any]]]) -> list[int | BaseException]:
        last = await asyncio.to_thread(self._journal.put, [row for batch in batches for row in batch])
        return [last] * len(batches)


LiveProductsDep = Annotated[LiveProducts, of_app("products")]


@router.put("/items", summary="Add or change products", dependencies=[requires("admin")])
async def put_items(body: ItemsRequest, products: LiveProductsDep) -> ItemsReply:
    """Durable before the answer, in slates within two seconds, encoded by the model that is served; no retraining.

    The changes hold for every model that is served later, until the shop changes them again.
    """
    return await products.put(body.root)


@router.delete(
    "/items/{item_id:id}",
    summary="Take a product out of sale",
    responses=UNKNOWN_ITEM,
    dependencies=[requires("admin")],
)
async def retire_item(item_id: str, products: LiveProductsDep) -> ItemsReply:
    """It is in no slate any more; histories may still name it. Putting it again brings it back."""
    return await products.retire(item_id)


@router.get("/items/{item_id:id}", summary="A product", responses=UNKNOWN_ITEM, dependencies=[requires("read")])
async def item(item_id: str, service: ServiceDep) -> ProductReply:
    """As the model in production knows it, live changes included."""
    product = await service.item(item_id)
    if product is None:
        raise UnknownItemError.of("item_id", item_id)
    return ProductReply.model_validate({**product.fields, "on_sale": product.on_sale})
