"""Errors of invalid bodies speak of JSON and name the fields that there are."""

import pytest
from fastapi.testclient import TestClient

from serve.ingress import create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(LocalService(*open_fake())))


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/v1/search", {"query": "lamp", "topk": 3}, "topk", "is no field here; did you mean 'top_k'?"),
        ("/v1/search", {"query": "lamp", "filter": {}}, "filter", "did you mean 'filters'?"),
        ("/v1/search", {"query": "lamp", "filters": {"colour": "red"}}, "filters.colour", "expected one of category"),
        ("/v1/search", {"query": "lamp", "facets": "brand"}, "facets", "should be a list"),
        ("/v1/search", {"query": "lamp", "context": []}, "context", "should be an object"),
        (
            "/v1/search",
            {"query": "lamp", "exclude": ["p1"] * 10_001},
            "exclude",
            "list should have at most 10000 items",
        ),
        (
            "/v1/search",
            {"query": "lamp", "quotas": [{"field": "brand", "max": 2, "most": 2}]},
            "quotas.0.most",
            "expected one of field, max",
        ),
        (
            "/v1/search",
            {"query": "lamp", "filters": {"where": {"and": [{"field": "brand", "eq": "acme"}]}}},
            "filters.where.and.0.eq",
            "equals",
        ),
        ("/v1/events", {"user_id": "u", "event": "click", "item": "p1"}, "item", "did you mean 'item_id'?"),
        ("/v1/events", [{"user_id": "u", "event": "click", "item_id": "p1", "time": 5}], "0.time", "expected one of"),
        ("/v1/similar", {"item_id": "p1", "user": "u"}, "user", "is no field here"),
    ],
)
def test_a_field_that_is_not_right_is_named_with_what_is_expected(
    client: TestClient, path: str, body: object, field: str, message: str
) -> None:
    reply = client.post(path, json=body)
    assert reply.status_code == 422, reply.text
    error = reply.json()["error"]
    assert error["field"] == field
    assert message in error["message"], error["message"]
    for word in ("tuple", "dictionary", "pydantic"):
        assert word not in error["message"]


FAR = 4_000_000_000_000_000


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "message"),
    [
        (
            "PUT",
            "/v1/items",
            {"item_id": "p1", "sale_start": "2027-01-01", "sale_end": "2026-01-01"},
            "sale_end",
            "not",
        ),
        (
            "PUT",
            "/v1/items",
            [{"item_id": "p1"}, {"item_id": "p2", "attributes": {"": "x"}}],
            "1.attributes",
            "least 1",
        ),
        (
            "PUT",
            "/v1/rules",
            [{"rule_id": "a", "effect": {"type": "redirect", "url": "/a"}}] * 2,
            "0.when.query",
            "is missing; the effect redirect needs a condition",
        ),
        ("PUT", "/v1/suggest/blocked", {}, "words", "required"),
        ("PUT", "/v1/suggest/blocked", {"words": ["adult", " "]}, "words", "number 1 is blank"),
        ("POST", "/v1/judging/grades", {"judge": "anna", "query": " ", "grades": {"p1": 1}}, "query", "is blank"),
        ("POST", "/v1/judging/grades", {"judge": "anna", "query": "red", "grades": {}}, "grades", "object should have"),
        (
            "POST",
            "/v1/recommend",
            {"session": [{"event": "click", "item_id": "p1", "ts": FAR}]},
            "session.0.ts",
            "more than a day in the future",
        ),
        (
            "POST",
            "/v1/buy-again",
            {"user_id": "u", "session": [{"event": "click", "item_id": "p1", "ts": FAR}]},
            "session.0.ts",
            "more than a day in the future",
        ),
    ],
)
def test_a_check_of_several_fields_names_the_one_to_change(
    client: TestClient, method: str, path: str, body: object, field: str, message: str
) -> None:
    reply = client.request(method, path, json=body)
    assert reply.status_code == 422, reply.text
    assert reply.json()["error"]["field"] == field
    assert message in reply.json()["error"]["message"]
