"""Products and models changed over HTTP, over a fake recommender: what is stored, what is refused and how."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.online.sqlite_journal import SqliteJournal


@pytest.fixture
def client() -> Iterator[TestClient]:
    journal = SqliteJournal()
    app = create_app(LocalService(*open_fake(), journal), components=Components(journal=journal))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def found(client: TestClient, query: str) -> list[str]:
    reply = client.post("/v1/search", json={"query": query})
    return [item["item_id"] for item in reply.json()["items"]]


def problem(reply: Any, status: int) -> tuple[str | None, str]:
    assert reply.status_code == status, reply.text
    return reply.json()["error"]["field"], reply.json()["error"]["message"]


def test_a_new_product_is_in_the_next_slate_and_a_retired_one_is_not(client: TestClient) -> None:
    reply = client.put("/v1/items", json={"item_id": "new", "title": "green lamp", "price": 3})
    assert reply.status_code == 200
    assert reply.json() == {"stored": 1, "change": 1}
    assert found(client, "green") == ["new"]
    assert client.delete("/v1/items/new").json() == {"stored": 1, "change": 2}
    assert found(client, "green") == []
    assert client.get("/v1/items/new").json()["on_sale"] is False


def test_an_unavailable_product_comes_back_when_it_is_available(client: TestClient) -> None:
    client.put("/v1/items", json=[{"item_id": "p3", "available": False}, {"item_id": "p6", "available": None}])
    assert found(client, "lamp") == ["p9", "p6"]
    client.put("/v1/items", json={"item_id": "p3", "available": True})
    assert found(client, "lamp") == ["p9", "p6", "p3"]


def test_a_product_is_told_and_its_id_may_hold_a_slash(client: TestClient) -> None:
    client.put("/v1/items", json={"item_id": "a/b c", "title": "green tent"})
    body = client.get("/v1/items/a%2Fb%20c").json()
    assert (body["item_id"], body["title"], body["on_sale"]) == ("a/b c", "green tent", True)
    assert problem(client.get("/v1/items/nothing"), 404)[0] == "item_id"
    assert problem(client.delete("/v1/items/nothing"), 404)[0] == "item_id"
    assert client.delete("/v1/items/a%2Fb%20c").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "no id"}, "item_id"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": "p1", "price": -1}, "price"),
        ({"item_id": "p1", "price": "NaN"}, "price"),
        ({"item_id": "p1", "price": 1e300}, "price"),
        ({"item_id": "p1", "colour": "red"}, "colour"),
        ({"item_id": "p1", "category": "lamps"}, "category"),
        ({"item_id": "p1", "category": [1]}, "category.0"),
        ({"item_id": "p1", "attributes": {"size": 3}}, "attributes.size"),
        ({"item_id": "p1", "title": "x" * 2001}, "title"),
        ([{"item_id": "p1"}, {"item_id": "p2", "available": "maybe"}], "1.available"),
        ([], "body"),
        ([{"item_id": "p1"}] * 1001, "body"),
        ("p1", "body"),
    ],
)
def test_a_bad_field_of_a_product_is_named_and_nothing_is_stored(client: TestClient, body: Any, field: str) -> None:
    assert problem(client.put("/v1/items", json=body), 422)[0] == field
    assert client.put("/v1/items", json={"item_id": "p1"}).json()["change"] == 1


def test_a_server_with_one_bundle_lists_it_and_serves_no_other(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["version"], model["variant"], model["share"], model["overlap"]) == ("v1", "production", 1.0, None)
    for path in ("v2:activate", "v1:deactivate"):
        assert "one bundle" in problem(client.post(f"/v1/models/{path}"), 409)[1]
    assert "one bundle" in problem(client.post("/v1/models:rollback"), 409)[1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "canary"}, "share"),
        ({"role": "shadow", "share": 0.1}, "share"),
        ({"role": "canary", "share": 0}, "share"),
        ({"role": "canary", "share": 1.5}, "share"),
        ({"role": "boss"}, "role"),
        ({"roles": "canary"}, "roles"),
    ],
)
def test_a_bad_role_is_named(client: TestClient, body: Any, field: str) -> None:
    assert problem(client.post("/v1/models/v2:activate", json=body), 422)[0] == field
