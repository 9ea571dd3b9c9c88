"""Redis is stopped and started again under a running application: slates go on, events are refused and none is lost."""

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
import redis as redis_client
from fastapi.testclient import TestClient

from serve.history.event_log import STORE_COOLDOWN_S
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests import services
from tests.serve.fake import FakeRecommender, open_fake
from tests.serve.shared_state import replica
from txrec.online.redis_history import RedisHistory


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def click(item_id: str) -> dict[str, object]:
    return {"user_id": "visitor", "event": "click", "item_id": item_id, "event_id": f"click-{item_id}"}


@pytest.mark.server
def test_without_redis_slates_go_on_and_events_wait_with_the_caller(tmp_path: Path) -> None:
    clock = Clock()
    with services.redis(tmp_path) as url:
        parts = Components(store=RedisHistory(url), clock=clock)
        client = TestClient(create_app(LocalService(*open_fake()), components=parts))
        assert client.post("/v1/events", json=click("p1")).status_code == 202
        assert client.post("/v1/recommend", json={"user_id": "visitor"}).json()["notes"] == ["1 events"]
    for _ in range(3):
        slate = client.post("/v1/recommend", json={"user_id": "visitor"})
        assert slate.status_code == 200
        assert slate.json()["fallback"] == "history_unavailable"
        assert slate.json()["items"]
        refused = client.post("/v1/events", json=click("p2"))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    with services.redis(tmp_path, int(url.split(":")[2].split("/")[0])):
        clock.now_s += STORE_COOLDOWN_S
        assert client.post("/v1/events", json=click("p2")).json()["stored"] == 1
        assert client.post("/v1/events", json=click("p1")).json()["repeated"] == 1
        slate = client.post("/v1/recommend", json={"user_id": "visitor"})
        assert slate.json()["fallback"] is None
        assert slate.json()["notes"] == ["2 events"]


SLATES: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/recommend", {"user_id": "visitor", "placement": "home"}),
    ("/v1/search", {"query": "lamp", "user_id": "visitor", "seen_places": 3}),
    ("/v1/similar", {"item_id": "p1"}),
    ("/v1/rank", {"items": ["p1", "p2"], "user_id": "visitor"}),
    ("/v1/popular", {}),
)
CHANGES: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("POST", "/v1/events", click("p3")),
    ("PUT", "/v1/items", {"item_id": "p1", "price": 5}),
    ("PUT", "/v1/rules", {"rule_id": "r", "effect": {"type": "pin", "items": ["p7"]}}),
    ("PUT", "/v1/placements/home", {"top_k": 2}),
    ("PUT", "/v1/users/visitor", {"segments": ["club"]}),
    ("PUT", "/v1/suggest/blocked", {"words": ["tent"]}),
)


def _slates_go_on_and_changes_are_refused(client: TestClient, reason: str) -> None:
    for path, body in SLATES:
        slate = client.post(path, json=body)
        assert slate.status_code == 200, (path, slate.text)
        assert slate.json()["items"]
    for method, path, change in CHANGES:
        refused = client.request(method, path, json=change)
        assert refused.status_code == 503, (path, refused.text)
        assert int(refused.headers["retry-after"]) >= 1
        assert reason in refused.json()["error"]["message"], refused.text
        assert "p3" not in refused.text
        assert "EVALSHA" not in refused.text


def _changes_are_taken(client: TestClient) -> None:
    for method, path, change in CHANGES:
        assert client.request(method, path, json=change).status_code in (200, 202), path


@pytest.mark.server
def test_a_server_without_redis_answers_by_what_it_has_and_recovers_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.local_service.STORE_COOLDOWN_S", 0.0)
    with services.redis(tmp_path) as url:
        client = replica(FakeRecommender(), url)
        _changes_are_taken(client)
        pinned = client.post("/v1/popular", json={}).json()["items"][0]["item_id"]
    _slates_go_on_and_changes_are_refused(client, "cannot be used now")
    assert client.post("/v1/popular", json={}).json()["items"][0]["item_id"] == pinned
    with services.redis(tmp_path, int(url.split(":")[2].split("/")[0])):
        _changes_are_taken(client)


@pytest.mark.server
def test_a_full_redis_goes_on_reading_frees_what_is_deleted_and_says_what_to_do(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.local_service.STORE_COOLDOWN_S", 0.0)
    client, server = replica(FakeRecommender(), redis_url), redis_client.Redis.from_url(redis_url)
    _changes_are_taken(client)
    server.config_set("maxmemory", 1)
    server.config_set("maxmemory-policy", "noeviction")
    try:
        _slates_go_on_and_changes_are_refused(client, "its memory is full; raise its `maxmemory`")
        assert client.get("/v1/users/visitor").json()["segments"] == ["club"]
        assert [rule["rule_id"] for rule in client.get("/v1/rules").json()["rules"]] == ["r"]
        assert client.delete("/v1/rules/r").status_code == 200
        assert client.get("/v1/rules").json()["rules"] == []
    finally:
        server.config_set("maxmemory", 0)
    _changes_are_taken(client)


@pytest.mark.server
def test_a_redis_that_asks_for_a_password_is_named_as_the_reason(tmp_path: Path) -> None:
    with services.redis(tmp_path) as url:
        client, server = replica(FakeRecommender(), url), redis_client.Redis.from_url(url)
        server.config_set("requirepass", "secret")
        server.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        _slates_go_on_and_changes_are_refused(client, "set TXREC_REDIS_PASSWORD")
        server.config_set("requirepass", "")


@pytest.mark.server
def test_a_redis_that_hangs_delays_no_slate_after_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.local_service.STORE_COOLDOWN_S", 60.0)
    with services.redis(tmp_path) as url:
        client = replica(FakeRecommender(), url)
        _changes_are_taken(client)
        server = psutil.Process(redis_client.Redis.from_url(url).info("server")["process_id"])
        server.suspend()
        try:
            client.post("/v1/popular", json={})
            took_ms = [client.post("/v1/popular", json={}).json()["took_ms"] for _ in range(3)]
            assert max(took_ms) < 400, "a call of the store is given up after half a second"
        finally:
            server.resume()
