"""Rules over HTTP: put on one replica, they act on every one, with both stores; bad ones are refused by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.documents import rules
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests import services
from tests.serve.fake import open_fake
from tests.serve.shared_state import replica
from txrec.online.documents import DocumentStore
from txrec.online.redis_documents import RedisDocuments
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.recommender.recommender import Recommender

PIN = {"rule_id": "pin a/b", "when": {"query": {"contains": "lamp"}}, "effect": {"type": "pin", "items": ["p1"]}}
BLOCK = {"rule_id": "no kettles", "effect": {"type": "block", "products": {"items": ["p9"]}}}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def replicas(tmp_path: Path, request: pytest.FixtureRequest) -> list[TestClient]:
    """Two applications, each with its own opener of the shared documents."""

    def store() -> DocumentStore:
        if request.param == "redis":
            return RedisDocuments(request.getfixturevalue("redis_url"), rules.KIND, request.node.name.partition("[")[0])
        return SqliteDocuments(tmp_path / "state.sqlite", rules.KIND)

    return [
        TestClient(create_app(LocalService(*open_fake(), documents=store()), components=Components(rules=store())))
        for _ in range(2)
    ]


def found(client: TestClient, **fields: Any) -> list[str]:
    reply = client.post("/v1/search", json={"query": "lamp", "top_k": 3, **fields})
    assert reply.status_code == 200, reply.text
    return [item["item_id"] for item in reply.json()["items"]]


def refused(client: TestClient, body: Any) -> tuple[int, str, str]:
    reply = client.put("/v1/rules", json=body)
    return reply.status_code, reply.json()["error"]["field"], reply.json()["error"]["message"]


def test_a_rule_acts_on_every_replica_and_ends_when_it_is_deleted(replicas: list[TestClient]) -> None:
    one, other = replicas
    assert found(other) == ["p9", "p6", "p3"]
    assert one.put("/v1/rules", json=[PIN, BLOCK]).json() == {"stored": 2, "warnings": []}
    for client in replicas:
        assert found(client) == ["p1", "p6", "p3"]
        assert found(client, rules=False) == ["p9", "p6", "p3"]
    assert [rule["rule_id"] for rule in other.get("/v1/rules").json()["rules"]] == ["no kettles", "pin a/b"]
    assert other.delete("/v1/rules/pin%20a%2Fb").json() == {"rule_id": "pin a/b"}
    assert found(one) == ["p6", "p3"]
    assert one.delete("/v1/rules/pin%20a%2Fb").status_code == 404
    assert one.get("/v1/rules/no%20kettles").json()["effect"]["products"]["items"] == ["p9"]


def test_explain_names_each_rule_that_acted_on_an_item(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.put("/v1/rules", json=PIN)
    body = other.post("/v1/search", json={"query": "lamp", "explain": True}).json()
    assert body["rules"] == [{"rule_id": "pin a/b", "effect": "pin"}]
    assert "rule 'pin a/b': pinned to position 1" in body["items"][0]["reasons"]
    assert other.post("/v1/search", json={"query": "lamp"}).json()["rules"] == []
    assert 'txrec_rule_effects_total{effect="pin"' in other.get("/metrics").text


def test_placements_and_segments_of_the_request_decide(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.put("/v1/rules", json={**PIN, "when": {"placement": ["cart"], "segment": ["vip"]}})
    assert found(other) == ["p9", "p6", "p3"]
    assert found(other, placement="cart", segments=["vip"]) == ["p1", "p9", "p6"]
    assert found(other, placement="cart", segments=["new"]) == ["p9", "p6", "p3"]


def test_rules_act_on_similar_products_too(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.put("/v1/rules", json=BLOCK)
    slate = other.post("/v1/similar", json={"item_id": "p8", "top_k": 9}).json()
    assert "p9" not in {item["item_id"] for item in slate["items"]}


def test_a_redirect_is_in_the_answer(replicas: list[TestClient]) -> None:
    one, other = replicas
    when = {"query": {"exact": "lamp"}}
    one.put("/v1/rules", json={"rule_id": "page", "when": when, "effect": {"type": "redirect", "url": "/lamps"}})
    assert other.post("/v1/search", json={"query": "Lamp"}).json()["redirect"] == "/lamps"
    assert other.post("/v1/search", json={"query": "tent"}).json()["redirect"] is None


@pytest.mark.parametrize(
    ("change", "status", "field", "message"),
    [
        ({"effect": {"type": "pin", "items": ["p99"]}}, 404, "effect", "'p99' is not in the catalogue"),
        ({"when": {"query": {"pattern": "(a"}}}, 422, "when.query.pattern", "not a regular expression"),
        ({"when": {"colour": "red"}}, 422, "when.colour", "is no field here; expected one of query, category"),
        ({"when": {"period": {"end": "2001-01-01"}}}, 422, "when.period.end", "can never act"),
        (
            {"effect": {"type": "pin", "items": ["p2"]}, "rule_id": "other"},
            409,
            "rule_id",
            "'other' contradicts 'pin a/b'",
        ),
    ],
)
def test_a_bad_rule_is_refused_by_name(
    replicas: list[TestClient], change: dict[str, Any], status: int, field: str, message: str
) -> None:
    one, _ = replicas
    one.put("/v1/rules", json=PIN)
    found_status, found_field, found_message = refused(one, {**PIN, **change})
    assert (found_status, found_field) == (status, field)
    assert message in found_message


def test_the_same_name_twice_in_one_call_is_refused(replicas: list[TestClient]) -> None:
    assert refused(replicas[0], [BLOCK, BLOCK])[0] == 422


def test_a_rule_that_this_version_cannot_read_is_left_out_and_the_others_act(tmp_path: Path) -> None:
    store = SqliteDocuments(tmp_path / "state.sqlite", rules.KIND)
    store.put({"odd": {"rule_id": "odd", "effect": {"type": "of tomorrow"}}, "no kettles": BLOCK})
    app = create_app(LocalService(*open_fake(), documents=store))
    assert found(TestClient(app)) == ["p6", "p3"]


def test_a_rule_whose_products_another_one_blocks_by_filters_is_reported_with_both_names(
    state: str, recommender: Recommender
) -> None:
    one = replica(recommender, state)
    block = {"rule_id": "no acme", "effect": {"type": "block", "products": {"filters": {"brand": ["acme"]}}}}
    blocked = {"rule_id": "first", "effect": {"type": "pin", "items": ["sku-001"]}}
    boost = {"type": "boost", "factor": 2, "products": {"filters": {"where": "brand = acme AND price < 50"}}}
    assert one.put("/v1/rules", json=block).json()["warnings"] == []
    for rule in (blocked, {"rule_id": "more", "effect": boost}):
        (warning,) = one.put("/v1/rules", json=rule).json()["warnings"]
        assert f"{rule['rule_id']!r} never acts now: 'no acme' blocks all of its products" in warning
    other = {"rule_id": "second", "effect": {"type": "pin", "items": ["sku-002"], "position": 2}}
    assert one.put("/v1/rules", json=other).json()["warnings"] == []
    assert len(one.put("/v1/rules", json=block).json()["warnings"]) == 2, "the block came last"


def test_similar_products_are_as_many_as_asked_for_while_others_are_blocked(
    state: str, recommender: Recommender
) -> None:
    one = replica(recommender, state)
    before = [item["item_id"] for item in one.post("/v1/similar", json={"item_id": "sku-018"}).json()["items"]]
    block = {"rule_id": "b", "effect": {"type": "block", "products": {"items": before[:4]}}}
    assert one.put("/v1/rules", json=block).status_code == 200
    after = one.post("/v1/similar", json={"item_id": "sku-018", "top_k": 4}).json()["items"]
    assert len(after) == 4
    assert not {item["item_id"] for item in after} & set(before[:4])


def test_many_patterns_that_need_much_are_refused_and_the_others_go_on_acting(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.put("/v1/rules", json=PIN)
    heavy = {"query": {"pattern": "[a-z]{1,300}x(y+y+)+z[a-z]{1,300}\\pL{200}"}}
    status, field, _ = refused(one, {**PIN, "rule_id": "heavy", "when": heavy})
    assert (status, field) == (422, "when.query.pattern")
    assert found(other)[0] == "p1"
