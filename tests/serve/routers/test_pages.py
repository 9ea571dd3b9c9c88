"""Search pages over HTTP: facets, orders, groups, and pages that any replica continues, with both stores."""

import copy
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from txrec.client import Client
from txrec.online.documents import DocumentStore
from txrec.online.journal import ItemJournal
from txrec.online.redis_documents import RedisDocuments
from txrec.online.redis_journal import RedisJournal
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender.recommender import Recommender


@pytest.fixture(params=["sqlite", "redis"])
def replicas(tmp_path: Path, request: pytest.FixtureRequest, recommender: Recommender) -> list[TestClient]:
    """Two applications that share the shop's changes and rules; the second one serves another model."""

    other_model = copy.copy(recommender)
    other_model.ranker = None

    def app(version: str, model: Recommender) -> TestClient:
        rules: DocumentStore
        journal: ItemJournal
        if request.param == "redis":
            url, prefix = request.getfixturevalue("redis_url"), request.node.name.partition("[")[0]
            rules, journal = RedisDocuments(url, "rules", prefix), RedisJournal(url, prefix)
        else:
            rules, journal = SqliteDocuments(tmp_path / "s", "rules"), SqliteJournal(tmp_path / "s")
        service = LocalService(model, Model(version), journal, rules)
        return TestClient(create_app(service, None, Components(journal=journal, rules=rules)))

    return [app("v1", recommender), app("v2", other_model)]


def search(client: TestClient, query: str = "lamp", **fields: Any) -> dict[str, Any]:
    reply = client.post("/v1/search", json={"query": query, **fields})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_a_page_answers_total_facets_and_marked_titles(replicas: list[TestClient]) -> None:
    reply = search(
        replicas[0], "acme lamp", top_k=2, facets=["brand", "price"], filters={"brand": ["acme"]}, highlight=True
    )
    assert (reply["page"]["total"], reply["page"]["match"], len(reply["items"])) == (5, "all", 2)
    brand, price = reply["page"]["facets"]
    assert brand["values"] == [{"value": "acme", "count": 5, "min": None, "max": None}]
    assert sum(value["count"] for value in price["values"]) == 5 - price["missing"]
    assert [part["text"] for part in reply["items"][0]["highlight"] if part["match"]] == ["acme", "lamp"]
    assert search(replicas[0])["page"] is None, "a plain slate stays one"


def test_pages_are_continued_by_any_replica_while_products_change(replicas: list[TestClient]) -> None:
    whole = [item["item_id"] for item in search(replicas[0], top_k=100, offset=0)["items"]]
    reply = search(replicas[0], top_k=3, offset=0)
    shown, versions = [item["item_id"] for item in reply["items"]], {reply["model_version"]}
    number = 0
    while token := reply["page"]["next_page_token"]:
        number += 1
        replicas[0].put("/v1/items", json={"item_id": f"more-{number}", "title": "acme lamp model", "price": 1})
        reply = search(replicas[number % 2], top_k=3, page_token=token)
        shown += [item["item_id"] for item in reply["items"]]
        versions.add(reply["model_version"])
    assert shown == whole
    assert versions == {"v1", "v2"}
    own = [item["item_id"] for item in search(replicas[1], top_k=100, offset=0)["items"] if item["item_id"] in whole]
    assert own != whole, "the other model would have ordered them otherwise"
    assert search(replicas[1], top_k=1, offset=0)["page"]["total"] == len(whole) + number


def test_rules_act_on_pages(replicas: list[TestClient]) -> None:
    shown = [item["item_id"] for item in search(replicas[0], top_k=5, offset=0)["items"]]
    rules = [
        {"rule_id": "first", "effect": {"type": "pin", "items": [shown[4]], "position": 1}},
        {"rule_id": "none of it", "effect": {"type": "block", "products": {"items": [shown[2]]}}},
    ]
    assert replicas[0].put("/v1/rules", json=rules).status_code == 200
    after = [item["item_id"] for item in search(replicas[1], top_k=100, offset=0)["items"]]
    assert after[0] == shown[4]
    assert shown[2] not in after
    assert shown[2] not in [item["item_id"] for item in search(replicas[1], top_k=100, sort="price")["items"]]
    assert shown[2] in [item["item_id"] for item in search(replicas[1], top_k=100, sort="price", rules=False)["items"]]


def test_a_category_is_browsed_without_a_query(replicas: list[TestClient]) -> None:
    body = {"filters": {"category": ["tent"]}, "sort": "-price", "group_by": "colour", "quotas": [], "top_k": 5}
    reply = replicas[0].post("/v1/recommend", json=body).json()
    assert reply["page"]["num_groups"] == len(reply["items"]) == 2
    assert {item["group"]["value"] for item in reply["items"]} == {"red", "blue"}
    assert sum(item["group"]["count"] for item in reply["items"]) == reply["page"]["total"]


def test_a_query_without_results_says_what_was_answered_and_metrics_count_it(replicas: list[TestClient]) -> None:
    with replicas[0] as client:
        reply = search(client, "gitar", top_k=2, offset=0)
        figures = client.get("/metrics").text
    assert (reply["fallback"], reply["page"]["did_you_mean"]) == ("corrected_query", "guitar")
    assert 'txrec_pages_total{match="corrected"' in figures
    assert 'txrec_fallbacks_total{reason="corrected_query"' in figures


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"facets": ["color"]}, 422, "facets.0"),
        ({"sort": "title"}, 422, "sort"),
        ({"page_token": "x"}, 422, "page_token"),
        ({"quotas": [{"field": "brand", "max": 0}]}, 422, "quotas.0.max"),
        ({"offset": -1}, 422, "offset"),
    ],
)
def test_a_bad_field_is_refused_by_name(
    replicas: list[TestClient], fields: dict[str, Any], status: int, field: str
) -> None:
    reply = replicas[0].post("/v1/search", json={"query": "lamp", **fields})
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field)


def test_the_client_walks_through_all_pages(replicas: list[TestClient]) -> None:
    def through(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json"}
        reply = replicas[0].request(request.method, request.url.path, content=request.content, headers=headers)
        return httpx.Response(reply.status_code, content=reply.content)

    with Client(transport=httpx.MockTransport(through)) as shop:
        pages = list(shop.pages("lamp", top_k=4, facets=["auto"]))
    shown = [item["item_id"] for page in pages for item in page["items"]]
    assert len(shown) == len(set(shown)) == pages[0]["page"]["total"]
