"""Lists over HTTP: each with filters, rules and reasons, live on every replica, with both stores."""

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore
from txrec.online.live_window import LiveWindow
from txrec.online.redis_documents import RedisDocuments
from txrec.online.redis_history import RedisHistory
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.recommender import Recommender
from txrec.recommender.retrieval.alternatives import MIN_TEXT_COSINE

DAY_US = 86_400_000_000


@pytest.fixture(params=["sqlite", "redis"])
def replicas(tmp_path: Path, request: pytest.FixtureRequest, recommender: Recommender) -> list[TestClient]:
    def app() -> TestClient:
        store: HistoryStore
        rules: DocumentStore
        if request.param == "redis":
            url, prefix = request.getfixturevalue("redis_url"), request.node.name.partition("[")[0]
            store, rules = RedisHistory(url, prefix, 30), RedisDocuments(url, "rules", prefix, 30)
        else:
            store, rules = SqliteHistory(tmp_path / "s"), SqliteDocuments(tmp_path / "s", "rules")
        service = LocalService(recommender, Model("v1"), documents=rules, live=LiveWindow(store, 28.0))
        return TestClient(create_app(service, None, Components(store=store, rules=rules)))

    return [app(), app()]


def ask(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    reply = client.post(f"/v1/{path}", json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def ids(client: TestClient, path: str, **body: Any) -> list[str]:
    return [item["item_id"] for item in ask(client, path, **body)["items"]]


def log(client: TestClient, *events: dict[str, Any]) -> None:
    assert client.post("/v1/events", json=list(events)).status_code == 202


def test_a_product_that_many_look_at_now_trends_on_every_replica_at_once(replicas: list[TestClient]) -> None:
    assert ids(replicas[1], "trending") == []
    now = time.time_ns() // 1_000
    for visitor in range(12):
        log(replicas[0], {"user_id": f"v{visitor}", "event": "view", "item_id": "sku-063", "ts": now - visitor})
    slate = ask(replicas[1], "trending", explain=True)
    assert slate["items"][0]["item_id"] == "sku-063"
    assert "12 users in the last hours" in slate["items"][0]["reasons"][0]
    assert ids(replicas[1], "trending", filters={"category": ["kettle"]}) == []
    assert ids(replicas[0], "popular", top_k=63)[0] != "sku-063"


def test_popular_and_new_products_fulfil_filters_and_obey_rules(replicas: list[TestClient]) -> None:
    first = ids(replicas[0], "popular", top_k=5, filters={"category": ["lamp"]})
    assert len(first) == 5
    rule = {"rule_id": "none of it", "effect": {"type": "block", "products": {"items": [first[0]]}}}
    assert replicas[0].put("/v1/rules", json=rule).status_code == 200
    assert ids(replicas[1], "popular", top_k=4, filters={"category": ["lamp"]}) == first[1:]
    assert first[0] not in ids(replicas[1], "new", top_k=60)


def test_similar_products_are_alternatives_and_complements_are_what_is_bought_together(
    replicas: list[TestClient],
) -> None:
    """sku-001 to sku-010 and sku-061 are kettles, sku-011 a lamp: bought with a kettle, it is no alternative."""
    now = time.time_ns() // 1_000
    for visitor in range(5):
        for item in ("sku-001", "sku-011"):
            bought = {"user_id": f"b{visitor}", "event": "purchase", "item_id": item}
            log(replicas[0], {**bought, "ts": now - visitor * 86_400_000_000})
    alternatives = ask(replicas[1], "similar", item_id="sku-001", explain=True)["items"]
    kettles = {f"sku-{number:03d}" for number in (*range(2, 11), 61)}
    assert {item["item_id"] for item in alternatives} == kettles
    assert all("also in kettle" in item["reasons"] for item in alternatives)
    assert any("sku-001" in reason or "model 0" in reason for item in alternatives for reason in item["reasons"])
    complements = ask(replicas[1], "complements", items=["sku-001"], explain=True)["items"]
    assert complements[0]["item_id"] == "sku-011"
    assert "bought together with" in complements[0]["reasons"][0]


def test_a_product_without_a_category_has_alternatives_by_its_text_and_none_that_are_bought_with_it(
    recommender: Recommender,
) -> None:
    rows: list[dict[str, Any]] = [
        {"item_id": "bare", "title": "acme lamp model 3"},
        {"item_id": "odd", "title": "acme lamp model 3", "category": ["attic", "oddities"]},
        {"item_id": "other odd", "title": "zenit drill model 1", "category": ["attic", "oddities"]},
    ]
    grown = recommender.with_items(rows)
    slate = grown.similar("bare", 5, explain=True)
    texts, idx_of = grown.ranking_features.item_text, grown.catalogue.idx_of
    assert texts is not None
    assert slate.items
    for item in slate.items:
        assert texts[idx_of[item.item_id]] @ texts[idx_of["bare"]] >= MIN_TEXT_COSINE
        assert "similar description" in item.reasons
    assert [item.item_id for item in grown.similar("odd", 5).items] == ["other odd"]


def test_complements_come_from_baskets_live_ones_included_and_never_from_views(replicas: list[TestClient]) -> None:
    now = time.time_ns() // 1_000
    for visitor, items in enumerate(
        (("sku-001", "sku-011", "sku-021"), ("sku-001", "sku-011"), ("sku-001", "sku-031"))
    ):
        user = f"buyer {visitor}"
        log(replicas[0], *({"user_id": user, "event": "purchase", "item_id": item, "ts": now} for item in items))
        log(replicas[0], {"user_id": user, "event": "view", "item_id": "sku-041", "ts": now})
    slate = ask(replicas[1], "complements", items=["sku-001"], top_k=10, explain=True, strict=True)
    (item,) = slate["items"]
    assert item["item_id"] == "sku-011"
    assert item["reasons"] == ["bought together with acme kettle model 0 2 times"]
    relaxed = ids(replicas[0], "complements", items=["sku-001"], top_k=10)
    assert set(relaxed) == {"sku-011", "sku-021", "sku-031"}, "views do not count"
    assert set(ids(replicas[0], "complements", items=["sku-001"], top_k=10, user_id="user-002")) == set(relaxed)
    refused = replicas[0].post("/v1/complements", json={"items": ["nothing"]})
    assert (refused.status_code, refused.json()["error"]["field"]) == (404, "items")


def test_a_users_latest_products_come_first_and_again_when_they_are_due(replicas: list[TestClient]) -> None:
    now = time.time_ns() // 1_000
    bought = [(60, "sku-031"), (30, "sku-031"), (2, "sku-032"), (1, "sku-033")]
    events = [
        {"user_id": "new user", "event": "purchase", "item_id": item, "ts": now - days * DAY_US}
        for days, item in bought
    ]
    log(replicas[0], *events, {"user_id": "new user", "event": "view", "item_id": "sku-001", "ts": now})
    assert ids(replicas[1], "recently-viewed", user_id="new user") == ["sku-001", "sku-033", "sku-032", "sku-031"]
    slate = ask(replicas[1], "buy-again", user_id="new user", explain=True)
    assert slate["items"][0]["item_id"] == "sku-031"
    assert slate["items"][0]["reasons"] == ["bought 2 times, usually every 30 days, last 30 days ago"]
    assert ids(replicas[1], "buy-again", user_id="nobody") == []


def test_lists_are_counted_and_logged_with_their_placement(replicas: list[TestClient]) -> None:
    with replicas[0] as client:
        ask(client, "popular", placement="home", top_k=1)
        assert 'txrec_lists_total{kind="popular"' in client.get("/metrics").text
