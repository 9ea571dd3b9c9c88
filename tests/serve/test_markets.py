"""Prices and stock by store over HTTP: put live, filtered by, sorted by and answered."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serve.shared_state import replica
from txrec.recommender.recommender import Recommender

VIENNA: dict[str, Any] = {"context": {"store": "vienna"}}


@pytest.fixture
def client(recommender: Recommender, state: str) -> Iterator[TestClient]:
    with replica(recommender, state) as client:
        yield client


def items(client: TestClient, path: str = "/v1/search", **body: Any) -> dict[str, float | None]:
    reply = client.post(path, json={"query": "lamp", "top_k": 20, **body} if path == "/v1/search" else body)
    assert reply.status_code == 200, reply.text
    return {item["item_id"]: item["price"] for item in reply.json()["items"]}


def put(client: TestClient, **fields: Any) -> None:
    reply = client.put("/v1/items", json={"item_id": "sku-013", **fields})
    assert reply.status_code == 200, reply.text


def test_a_price_and_a_stock_of_a_store_hold_in_the_next_slates_of_that_store(client: TestClient) -> None:
    put(client, prices={"vienna": 3.5}, stock={"vienna": 2, "graz": False})
    assert items(client, **VIENNA)["sku-013"] == 3.5
    assert items(client)["sku-013"] not in (None, 3.5)
    assert "sku-013" not in items(client, context={"store": "graz"})
    cheap: dict[str, Any] = {"filters": {"price": {"max": 3.6}}}
    assert list(items(client, **cheap, **VIENNA)) == ["sku-013"]
    assert not items(client, **cheap)
    assert next(iter(items(client, sort="price", **VIENNA))) == "sku-013"
    put(client, stock={"vienna": 0})
    assert "sku-013" not in items(client, **VIENNA)
    assert "sku-013" not in items(client, "/v1/similar", item_id="sku-014", top_k=60, **VIENNA)
    assert "sku-013" not in items(client, "/v1/popular", top_k=60, **VIENNA)
    assert "sku-013" in items(client, "/v1/popular", top_k=60)
    product = client.get("/v1/items/sku-013").json()
    assert (product["prices"], product["stock"], product["on_sale"]) == ({"vienna": 3.5}, {"vienna": 0.0}, True)


def test_a_pinned_product_is_not_shown_where_it_is_out_of_stock(client: TestClient) -> None:
    rule = {"rule_id": "pin", "when": {}, "effect": {"type": "pin", "items": ["sku-013"]}}
    assert client.put("/v1/rules", json=rule).status_code == 200
    put(client, stock={"vienna": 0, "graz": 1})
    assert next(iter(items(client, context={"store": "graz"}))) == "sku-013"
    assert "sku-013" not in items(client, **VIENNA)


def test_a_product_is_not_shown_outside_its_period_of_sale(client: TestClient) -> None:
    put(client, sale_start="2099-01-01T00:00:00Z")
    assert "sku-013" not in items(client)
    assert client.get("/v1/items/sku-013").json()["on_sale"] is False
    put(client, sale_start="2020-01-01", sale_end="2099-01-01T00:00:00+01:00")
    assert "sku-013" in items(client)
    assert client.get("/v1/items/sku-013").json()["sale_start"] == "2020-01-01T00:00:00Z"
    put(client, sale_end="2021-01-01T00:00:00Z")
    assert "sku-013" not in items(client)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prices": {"vienna": -1}}, "prices.vienna"),
        ({"stock": {"": 1}}, "stock"),
        ({"sale_start": "soon"}, "sale_start"),
        ({"sale_start": "2026-02-01T00:00:00Z", "sale_end": "2026-01-01T00:00:00Z"}, "sale_end"),
        ({"sale_end": "9999-12-31T23:59:59-14:00"}, "after the year 9999"),
        ({"sale_start": "0001-01-01T00:00:00+14:00"}, "before the year 1"),
    ],
)
def test_bad_values_are_refused_with_their_field(client: TestClient, fields: dict[str, Any], field: str) -> None:
    reply = client.put("/v1/items", json={"item_id": "sku-013", **fields})
    assert reply.status_code == 422
    assert field in f"{reply.json()['error']['field']} {reply.json()['error']['message']}"
