"""Order of effects of a request for a slate, as `docs/guides/requests.md` states it."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.recommender.recommender import Recommender

PINNED = "sku-031"  # a tent of acme, which no search for lamps finds
PIN = {"rule_id": "pin", "effect": {"type": "pin", "items": [PINNED], "position": 2}}


@pytest.fixture
def shop(recommender: Recommender) -> Iterator[TestClient]:
    rules = SqliteDocuments(kind="rules")
    service = LocalService(recommender, Model("v1"), documents=rules)
    with TestClient(create_app(service, None, Components(rules=rules))) as one:
        assert one.put("/v1/rules", json=PIN).json() == {"stored": 1, "warnings": []}
        yield one


def lamps(shop: TestClient, **fields: Any) -> dict[str, Any]:
    reply = shop.post("/v1/search", json={"query": "lamp", "top_k": 5, **fields})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_a_pin_yields_to_exclusions_filters_and_the_cart_but_not_to_what_the_user_has_seen(shop: TestClient) -> None:
    shop.post("/v1/events", json={"user_id": "u", "event": "impression", "item_id": PINNED})
    assert ids(lamps(shop, user_id="u", exclude_seen=True))[1] == PINNED
    for fields in ({"exclude": [PINNED]}, {"items": [PINNED]}, {"filters": {"brand": ["zenit"]}}):
        assert PINNED not in ids(lamps(shop, **fields))


def test_a_pin_in_excess_of_a_quota_moves_to_a_later_page(shop: TestClient) -> None:
    fields = {"quotas": [{"field": "brand", "max": 1}]}
    first = lamps(shop, **fields)
    assert PINNED not in ids(first)
    seen, token = ids(first), first["page"]["next_page_token"]
    while token is not None:
        following = lamps(shop, **fields, page_token=token)
        seen, token = [*seen, *ids(following)], following["page"]["next_page_token"]
    assert seen.count(PINNED) == 1


def test_pins_count_from_the_first_page_and_act_in_the_order_by_relevance_alone(shop: TestClient) -> None:
    whole = ids(lamps(shop, facets=[]))
    assert whole[1] == PINNED
    assert ids(lamps(shop, offset=1))[:4] == whole[1:]
    assert PINNED not in ids(lamps(shop, sort="price", top_k=50))


def test_blocks_and_exclusions_hold_in_every_order(shop: TestClient) -> None:
    cheapest, second = ids(lamps(shop, sort="price"))[:2]
    block = {"rule_id": "b", "effect": {"type": "block", "products": {"items": [cheapest]}}}
    assert shop.put("/v1/rules", json=block).status_code == 200
    assert ids(lamps(shop, sort="price", exclude=[second]))[0] not in (cheapest, second)


def test_a_field_that_is_sent_counts_before_the_placement_also_with_its_default(shop: TestClient) -> None:
    shop.put("/v1/placements/home", json={"top_k": 3, "filters": {"brand": ["acme"]}})
    assert len(ids(lamps(shop, placement="home"))) == 5, "the request says 5"
    popular = {"placement": "home", "rules": False}
    assert len(shop.post("/v1/popular", json=popular).json()["items"]) == 3
    default = shop.post("/v1/popular", json={**popular, "top_k": 25}).json()
    assert len(default["items"]) == 25
    both = shop.post("/v1/popular", json={**popular, "filters": {"brand": ["zenit"]}}).json()
    assert both["items"] == [], "filters of both hold"


def test_fallback_products_obey_the_filters_and_fill_slates_but_no_pages(shop: TestClient) -> None:
    home = {"filters": {"category": ["tent"]}, "fallback_items": ["sku-001", "sku-033"]}
    assert shop.put("/v1/placements/home", json=home).status_code == 200
    short = {"placement": "home", "rules": False, "sources": ["lexical"], "top_k": 10}
    filled = shop.post("/v1/recommend", json=short).json()
    assert [(item["item_id"], item["source"]) for item in filled["items"]] == [("sku-033", "fallback")]
    assert shop.post("/v1/recommend", json={**short, "sort": "price"}).json()["items"][-1]["source"] != "fallback"
