"""The HTTP application over a fake recommender: what it asks, what it answers, what it refuses and how."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.http.middleware import MAX_BODY_BYTES
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model, ServingRequest
from tests.serve.fake import TITLES, FakeRecommender, open_fake
from txrec.config import ServeConfig
from txrec.errors import UnavailableError
from txrec.online.sqlite_history import SqliteHistory


@pytest.fixture
def client() -> Iterator[TestClient]:
    service = LocalService(FakeRecommender(), Model("v1", "2026-01-01T00:00:00Z", 10, {"ndcg@10": 0.5}))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


def ids(reply: Any) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [item["item_id"] for item in reply.json()["items"]]


def problem(reply: Any, status: int) -> tuple[str | None, str]:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert body["request_id"] == reply.headers["x-request-id"]
    return body["error"]["field"], body["error"]["message"]


def test_a_search_answers_ranked_items_with_the_model_and_the_request_id(client: TestClient) -> None:
    reply = client.post("/v1/search", json={"query": "lamp"})
    assert ids(reply) == ["p9", "p6", "p3"]
    body = reply.json()
    assert body["model_version"] == "v1"
    assert body["variant"] == "production"
    assert body["fallback"] is None
    assert body["took_ms"] > 0
    assert body["request_id"] == reply.headers["x-request-id"]
    first = body["items"][0]
    assert first["title"] == TITLES["p9"]
    assert first["source"] == "lexical"
    assert first["reasons"] == []


def test_explain_fills_reasons_and_stage_times(client: TestClient) -> None:
    body = client.post("/v1/search", json={"query": "lamp", "explain": True}).json()
    assert body["items"][0]["reasons"] == ["because"]
    assert set(body["timings_ms"]) == {"retrieve", "rank"}


def test_candidates_come_in_retrieval_order_and_only_as_many_as_asked_for(client: TestClient) -> None:
    assert client.post("/v1/search", json={"query": "lamp"}).json()["candidates"] == []
    body = client.post("/v1/search", json={"query": "lamp", "candidates": 2}).json()
    assert [item["item_id"] for item in body["candidates"]] == ["p3", "p6"]


def test_an_unknown_user_gets_popular_items_and_is_told_so(client: TestClient) -> None:
    reply = client.post("/v1/recommend", json={"user_id": "nobody", "top_k": 3})
    assert len(ids(reply)) == 3
    assert reply.json()["fallback"] == "unknown_user"


def test_an_empty_body_is_an_anonymous_request(client: TestClient) -> None:
    assert client.post("/v1/recommend", json={}).json()["fallback"] == "unknown_user"


def test_a_known_user_needs_no_session(client: TestClient) -> None:
    assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["fallback"] is None


def test_the_session_joins_the_stored_history(client: TestClient) -> None:
    session = [{"event": "click", "item_id": "p2", "ts": 5}, {"event": "click", "item_id": "p3", "ts": 2_000_000}]
    known = client.post("/v1/recommend", json={"user_id": "u1", "session": session}).json()
    assert known["notes"] == ["3 events"]  # one stored, two new
    anonymous = client.post("/v1/recommend", json={"session": session}).json()
    assert anonymous["notes"] == ["2 events"]
    assert anonymous["fallback"] is None


def test_an_event_is_durable_and_seen_by_the_next_answer(client: TestClient) -> None:
    reply = client.post("/v1/events", json={"user_id": "new", "event": "click", "item_id": "p4"})
    assert reply.status_code == 202
    assert reply.json()["stored"] == 1
    assert client.post("/v1/recommend", json={"user_id": "new"}).json()["notes"] == ["1 events"]
    (event,) = client.get("/v1/users/new").json()["events"]
    assert (event["item_id"], event["title"]) == ("p4", TITLES["p4"])
    assert event["ts"] > 1_700_000_000_000_000


def test_events_join_the_bundles_history_in_time_order_and_count_once(client: TestClient) -> None:
    trained = {"user_id": "u1", "event": "click", "item_id": "p1", "ts": 1_000_000}  # in the bundle already
    older = {"user_id": "u1", "event": "search", "query": "tent", "ts": 5}
    assert client.post("/v1/events", json=[trained, older]).status_code == 202
    events = client.get("/v1/users/u1").json()["events"]
    assert [event["event"] for event in events] == ["search", "click"]


def test_an_event_id_counts_once(client: TestClient) -> None:
    event = {"user_id": "new", "event": "click", "item_id": "p4", "event_id": "e1"}
    assert client.post("/v1/events", json=[event, event]).json() == {
        "stored": 1,
        "repeated": 1,
        "event_ids": ["e1", "e1"],
    }
    assert client.post("/v1/events", json=event).json()["repeated"] == 1


def test_a_forgotten_user_is_unknown_though_the_bundle_knows_him(client: TestClient) -> None:
    client.post("/v1/events", json={"user_id": "u1", "event": "click", "item_id": "p4"})
    assert client.delete("/v1/users/u1").json() == {"user_id": "u1", "num_events": 1}
    assert client.get("/v1/users/u1").status_code == 404
    assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["fallback"] == "unknown_user"


def test_without_the_event_store_answers_go_on_and_events_are_refused_for_later() -> None:
    store = SqliteHistory()
    client = TestClient(create_app(LocalService(*open_fake()), components=Components(store=store)))
    store.close()
    answer = client.post("/v1/recommend", json={"user_id": "u1"})
    assert ids(answer)
    assert answer.json()["fallback"] == "history_unavailable"
    refused = client.post("/v1/events", json={"user_id": "u1", "event": "click", "item_id": "p4"})
    assert problem(refused, 503)[0] is None
    assert "retry-after" in refused.headers


def test_the_cart_and_excluded_items_are_never_shown(client: TestClient) -> None:
    reply = client.post("/v1/search", json={"query": "lamp", "items": ["p9"], "exclude": ["p6"]})
    assert ids(reply) == ["p3"]


def test_similar_items_leave_out_the_item_itself(client: TestClient) -> None:
    assert ids(client.post("/v1/similar", json={"item_id": "p1", "top_k": 2})) == ["p2", "p3"]


def test_ranking_returns_exactly_the_callers_items(client: TestClient) -> None:
    assert ids(client.post("/v1/rank", json={"items": ["p3", "p2"], "query": "lamp"})) == ["p2", "p3"]


def test_a_users_history_is_told_with_titles(client: TestClient) -> None:
    body = client.get("/v1/users/u1").json()
    assert body["user_id"] == "u1"
    assert body["events"] == [
        {"event": "click", "item_id": "p1", "title": TITLES["p1"], "query": "lamp", "ts": 1_000_000, "value": None}
    ]


def test_models_and_health_name_the_version(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["version"], model["num_items"], model["metrics"]) == ("v1", 10, {"ndcg@10": 0.5})
    assert client.get("/health/live").json()["status"] == "live"
    assert client.get("/health/ready").json() == {"status": "ready", "model_version": "v1"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/recommend", {"top_k": 0}, "top_k"),
        ("/v1/recommend", {"top_k": 10_000}, "top_k"),
        ("/v1/recommend", {"top_k": "many"}, "top_k"),
        ("/v1/recommend", {"user_id": ""}, "user_id"),
        ("/v1/recommend", {"user_id": 7}, "user_id"),
        ("/v1/recommend", {"diversity": 1.5}, "diversity"),
        ("/v1/recommend", {"filter": {}}, "filter"),
        ("/v1/recommend", {"filters": {"price": {"min": 5, "max": 1}}}, "filters.price"),
        ("/v1/recommend", {"filters": {"price": {"min": -1}}}, "filters.price.min"),
        ("/v1/recommend", {"session": [{"event": "dance"}]}, "session.0.event"),
        ("/v1/recommend", {"session": [{"event": "click"}]}, "session.0.item_id"),
        ("/v1/recommend", {"session": [{"event": "search", "query": " "}]}, "session.0.query"),
        ("/v1/recommend", {"session": [{"event": "click", "item_id": "p1"}] * 501}, "session"),
        ("/v1/recommend", [], "body"),
        ("/v1/search", {}, "query"),
        ("/v1/search", {"query": ""}, "query"),
        ("/v1/search", {"query": "  "}, "query"),
        ("/v1/search", {"query": "x" * 513}, "query"),
        ("/v1/search", {"query": None}, "query"),
        ("/v1/similar", {}, "item_id"),
        ("/v1/events", {"event": "click", "item_id": "p1"}, "user_id"),
        ("/v1/events", {"user_id": "u", "event": "click"}, "item_id"),
        (
            "/v1/events",
            [{"user_id": "u", "event": "click", "item_id": "p"}, {"user_id": "u", "event": "click"}],
            "1.item_id",
        ),
        ("/v1/events", [{"user_id": "u", "event": "dance"}], "0.event"),
        ("/v1/events", [], "body"),
        ("/v1/events", "text", "body"),
        ("/v1/events", {"user_id": "u", "event": "click", "item_id": "p1", "ts": 2**53}, "ts"),
        ("/v1/rank", {"items": []}, "items"),
        ("/v1/rank", {"items": ["p1"] * 1_001}, "items"),
    ],
)
def test_a_bad_field_is_refused_by_name(client: TestClient, path: str, body: Any, field: str) -> None:
    named, message = problem(client.post(path, json=body), 422)
    assert named == field
    assert message


def test_the_limit_is_stated_with_what_was_found(client: TestClient) -> None:
    _, message = problem(client.post("/v1/search", json={"query": "lamp", "top_k": 10_000}), 422)
    assert message == "10000 is more than the 1000 items that a slate may have"


def test_an_unknown_item_is_not_found_and_named(client: TestClient) -> None:
    field, message = problem(client.post("/v1/similar", json={"item_id": "p99"}), 404)
    assert field == "item_id"
    assert "p99" in message


def test_unknown_items_of_the_callers_list_are_left_out_and_noted(client: TestClient) -> None:
    reply = client.post("/v1/rank", json={"items": ["p99", "p3"]})
    assert ids(reply) == ["p3"]
    assert "p99" in reply.json()["notes"][0]


def test_an_unknown_user_has_no_history(client: TestClient) -> None:
    assert problem(client.get("/v1/users/nobody"), 404)[0] == "user_id"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"{'a': 1}", b'{"query": "a"} x', b"[" * 100_000])
def test_what_is_no_json_is_a_client_error_about_the_body(client: TestClient, body: bytes) -> None:
    reply = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert problem(reply, 400)[0] == "body"


@pytest.mark.parametrize("content", [b"", b"NaN", b'"text"', b"null"])
def test_json_that_is_no_object_is_a_client_error(client: TestClient, content: bytes) -> None:
    reply = client.post("/v1/search", content=content, headers={"content-type": "application/json"})
    assert problem(reply, 422)[0] == "body"


def test_another_content_type_is_a_client_error(client: TestClient) -> None:
    reply = client.post("/v1/search", content=b"query=lamp", headers={"content-type": "text/plain"})
    assert problem(reply, 422)[0] == "body"


def test_a_body_over_the_limit_is_refused_declared_or_not(client: TestClient) -> None:
    big = b'{"query": "' + b"x" * MAX_BODY_BYTES + b'"}'
    json_type = {"content-type": "application/json"}
    assert problem(client.post("/v1/search", content=big, headers=json_type), 413)[0] == "body"
    chunks = (big[start : start + 65_536] for start in range(0, len(big), 65_536))
    assert problem(client.post("/v1/search", content=chunks, headers=json_type), 413)[0] == "body"


def test_odd_characters_are_answered(client: TestClient) -> None:
    for query in ("\x00", "\U0001f600", "灯", "a" * 512, "'; drop table", "\u202e"):
        assert client.post("/v1/search", json={"query": query}).status_code == 200
    raw = client.post("/v1/search", content=rb'{"query": "\ud800"}', headers={"content-type": "application/json"})
    assert problem(raw, 422)[0] == "query"


def test_wrong_paths_and_methods_have_the_same_shape(client: TestClient) -> None:
    problem(client.get("/v2/recommend"), 404)
    problem(client.get("/v1/recommend"), 405)


class Overloaded(LocalService):
    async def recommend(self, request: ServingRequest) -> Any:
        raise UnavailableError("", "too many requests")


class Defective(LocalService):
    async def recommend(self, request: ServingRequest) -> Any:
        raise ZeroDivisionError("a secret")


def test_overload_says_when_to_come_back() -> None:
    client = TestClient(create_app(Overloaded(FakeRecommender(), Model("v1"))))
    reply = client.post("/v1/recommend", json={})
    assert problem(reply, 503) == (None, "too many requests")
    assert int(reply.headers["retry-after"]) >= 1


def test_a_defect_is_a_500_in_the_same_shape_without_inner_details() -> None:
    client = TestClient(create_app(Defective(FakeRecommender(), Model("v1"))), raise_server_exceptions=False)
    reply = client.post("/v1/recommend", json={})
    assert reply.status_code == 500
    assert reply.json()["error"]["field"] is None
    assert "secret" not in reply.text


def test_the_limits_are_the_operators() -> None:
    config = ServeConfig(max_top_k=5, max_query_chars=3)
    client = TestClient(create_app(LocalService(FakeRecommender(), Model("v1")), config))
    assert problem(client.post("/v1/search", json={"query": "lamp"}), 422)[0] == "query"
    assert problem(client.post("/v1/recommend", json={"top_k": 6}), 422)[0] == "top_k"


def test_metrics_count_requests_stages_fallbacks_and_events(client: TestClient) -> None:
    client.post("/v1/recommend", json={})
    client.post("/v1/recommend", json={"top_k": 0})
    client.get("/v1/users/some-one")
    client.get("/random/path")
    client.post("/v1/events", json={"user_id": "u", "event": "click", "item_id": "p1"})
    text = client.get("/metrics").text
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    def counted(name: str, *labels: str) -> float:
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(name) and all(label in line for label in labels)
        )

    assert counted("txrec_requests_total{", 'route="/v1/recommend"', 'status="200"') == 1
    assert counted("txrec_requests_total{", 'route="/v1/recommend"', 'status="422"') == 1
    assert counted("txrec_requests_total{", 'route="/v1/users/{user_id}"', 'status="404"') == 1
    assert counted("txrec_requests_total{", 'route="other"', 'status="404"') == 1
    assert counted("txrec_request_seconds_count{", 'route="/v1/recommend"') == 2
    assert counted("txrec_stage_seconds_count{", 'stage="rank"') == 1
    assert counted("txrec_fallbacks_total{", 'reason="unknown_user"') == 1
    assert counted("txrec_events_total{", 'outcome="stored"') == 1
    assert counted("txrec_model_info{", 'version="v1"') == 1


def test_the_documentation_lists_every_endpoint_and_its_answers(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/recommend", "/v1/search", "/v1/similar", "/v1/rank", "/v1/users/{user_id}"} <= set(paths)
    for path, methods in paths.items():
        for operation in methods.values():
            if path.startswith("/v1/") and "requestBody" in operation:
                assert {"400", "413", "422", "503"} <= set(operation["responses"])


@pytest.mark.parametrize(("ts", "unit"), [(1_732_752_000, "seconds"), (1_732_752_000_000, "milliseconds")])
def test_a_live_event_in_seconds_or_milliseconds_is_refused(client: TestClient, ts: int, unit: str) -> None:
    reply = client.post("/v1/events", json={"user_id": "u", "event": "click", "item_id": "p1", "ts": ts})
    assert reply.status_code == 422
    assert unit in reply.text
    assert "ts" in reply.text
