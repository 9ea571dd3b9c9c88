"""Audiences over HTTP: keys, bounds, forgotten users, live events, figures."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.serve.fake import open_fake
from txrec.client import AsyncClient
from txrec.online.live_window import LiveWindow
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.recommender import Recommender


@pytest.fixture
def client(tiny_bundle: Path) -> Iterator[TestClient]:
    store = SqliteHistory()
    service = LocalService(Recommender.open(tiny_bundle), Model("v3"), live=LiveWindow(store, 28.0))
    with TestClient(create_app(service, components=Components(store=store))) as client:
        yield client


def users(client: TestClient, **body: object) -> list[str]:
    reply = client.post("/v1/audience", json={"category": "tent", **body})
    assert reply.status_code == 200, reply.text
    return [user["user_id"] for user in reply.json()["users"]]


def test_the_users_of_a_category_are_answered_without_those_who_are_forgotten(client: TestClient) -> None:
    first, second, *_ = users(client, top_n=10)
    assert client.delete(f"/v1/users/{first}").status_code == 200
    left = users(client, top_n=10)
    assert left[0] == second
    assert first not in left
    assert len(left) == 10


def test_live_events_count_and_the_reply_tells_how_many_users_there_were(client: TestClient) -> None:
    events = [{"user_id": "newcomer", "event": "click", "item_id": f"sku-{n:03d}"} for n in [*range(31, 41)] * 3]
    assert client.post("/v1/events", json=events).status_code == 202
    reply = client.post("/v1/audience", json={"category": "tent", "top_n": 3}).json()
    assert reply["users"][0]["user_id"] == "newcomer"
    assert reply["users"][0]["events"] == 30
    assert (reply["model_version"], reply["num_users"], reply["num_items"]) == ("v3", 241, 10)
    assert 'txrec_audiences_total{replica="' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "body"),
        ({"items": ["p1"], "query": "lamp"}, 422, "body"),
        ({"items": ["p1"], "top_n": 1_001}, 422, "top_n"),
        ({"items": ["nothing"]}, 404, "items"),
    ],
)
def test_bad_targets_are_refused(body: dict[str, object], status: int, field: str) -> None:
    with TestClient(create_app(LocalService(*open_fake()))) as client:
        reply = client.post("/v1/audience", json=body)
        assert reply.status_code == status
        assert (reply.json()["error"]["field"] or "body") in (field, "")


def test_the_client_asks_for_an_audience() -> None:
    client = AsyncClient("http://shop", transport=httpx.ASGITransport(create_app(LocalService(*open_fake()))))

    async def ask() -> dict[str, Any]:
        return await client.audience(items=["p1"], top_n=2)

    reply = asyncio.run(ask())
    assert [user["user_id"] for user in reply["users"]] == ["u1", "u2"]
