"""Users over HTTP: any id can be read and forgotten, and no other user's events are touched."""

import asyncio

import httpx
import pytest

from serve.ingress import create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.client import ApiError, AsyncClient

IDS = (
    "google-oauth2/117812",
    "auth0|66f0/ab",
    "a b",
    "müller",
    "100%",
    "x?y=1#z",
    "..",
    ".",
    "user/",
    "/root",
    "a//b",
    "mail+tag@example.org",
    "%2F",
    "用户1",
    "line\nend",
)


def client() -> AsyncClient:
    """A client of the application that, like a server, decodes a path once (Starlette's test client does it twice)."""
    return AsyncClient("http://shop", transport=httpx.ASGITransport(create_app(LocalService(*open_fake()))))


@pytest.mark.parametrize("user_id", IDS)
def test_any_user_id_can_be_read_and_forgotten(user_id: str) -> None:
    async def scenario() -> None:
        async with client() as shop:
            await shop.log(*({"user_id": name, "event": "click", "item_id": "p1"} for name in ("user", user_id)))
            assert (await shop.user(user_id))["user_id"] == user_id
            assert await shop.forget(user_id) == {"user_id": user_id, "num_events": 1}
            with pytest.raises(ApiError) as caught:
                await shop.user(user_id)
            assert caught.value.status == 404
            assert (await shop.recommend(user_id=user_id))["fallback"] == "unknown_user"
            assert len((await shop.user("user"))["events"]) == 1, "the neighbour keeps their events"

    asyncio.run(scenario())


@pytest.mark.parametrize("item_id", IDS)
def test_any_item_id_can_be_put_and_retired(item_id: str) -> None:
    async def scenario() -> None:
        async with client() as shop:
            await shop.put_items({"item_id": item_id, "title": "Lamp"})
            assert (await shop.retire(item_id))["stored"] == 1

    asyncio.run(scenario())
