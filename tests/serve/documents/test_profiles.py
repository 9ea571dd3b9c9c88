"""Profiles of users: live on every replica, part of rules, forgotten with their user; over SQLite and Redis."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.documents import profiles, rules
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests import services
from tests.serve.fake import open_fake
from txrec.errors import UnavailableError
from txrec.online.documents import Document, DocumentStore
from txrec.online.redis_documents import RedisDocuments
from txrec.online.sqlite_documents import SqliteDocuments

GOLD = {"properties": {"tier": "gold", "age": 40, "b2b": True}, "segments": ["newsletter"]}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def replicas(tmp_path: Path, request: pytest.FixtureRequest) -> list[TestClient]:
    """Two replicas over the same stores."""

    def store(kind: str) -> DocumentStore:
        if request.param == "redis":
            url, prefix = request.getfixturevalue("redis_url"), request.node.name.partition("[")[0]
            return RedisDocuments(url, kind, prefix)
        return SqliteDocuments(tmp_path / "state.sqlite", kind)

    def replica() -> TestClient:
        parts = Components(rules=store(rules.KIND), profiles=store(profiles.KIND))
        return TestClient(create_app(LocalService(*open_fake(), documents=store(rules.KIND)), components=parts))

    return [replica(), replica()]


def first(client: TestClient, **fields: object) -> str:
    reply = client.post("/v1/search", json={"query": "lamp", **fields})
    assert reply.status_code == 200, reply.text
    item_id: str = reply.json()["items"][0]["item_id"]
    return item_id


def pin(client: TestClient, segment: str) -> None:
    """A rule for users of a segment."""
    rule = {"rule_id": segment, "when": {"segment": [segment]}, "effect": {"type": "pin", "items": ["p3"]}}
    assert client.put("/v1/rules", json=rule).status_code == 200


@pytest.mark.parametrize("segment", ["newsletter", "tier=gold", "age=40", "b2b=true"])
def test_a_profile_that_one_replica_stored_decides_the_rules_of_the_next_request_on_the_other(
    replicas: list[TestClient], segment: str
) -> None:
    one, other = replicas
    pin(one, segment)
    assert first(other, user_id="u1") == "p9"
    assert one.put("/v1/users/u1", json=GOLD).json() == {"user_id": "u1"}
    assert first(other, user_id="u1") == "p3"
    assert first(other, user_id="u2") == "p9"
    assert one.put("/v1/users/u1", json={}).status_code == 200  # replaced as a whole
    assert first(other, user_id="u1") == "p9"


def test_the_users_table_of_the_bundle_decides_rules_until_a_profile_is_put_or_the_user_is_forgotten(
    replicas: list[TestClient],
) -> None:
    one, other = replicas
    for segment in ("club", "tier=silver"):
        pin(one, segment)
    assert first(one, user_id="u1") == "p3"
    assert first(one, user_id="u2") == "p9"  # not in the table
    known = other.get("/v1/users/u1").json()
    assert (known["properties"], known["segments"]) == ({"tier": "silver"}, ["club"])
    one.put("/v1/users/u1", json={"properties": {"tier": "gold"}})
    assert first(other, user_id="u1") == "p9"
    assert other.get("/v1/users/u1").json()["segments"] == []
    one.put("/v1/users/u1", json={"segments": ["club"]})
    assert first(other, user_id="u1") == "p3"


def test_a_forgotten_user_is_not_looked_up_in_the_users_table(replicas: list[TestClient]) -> None:
    one, other = replicas
    pin(one, "club")
    assert first(one, user_id="u1") == "p3"
    assert one.delete("/v1/users/u1").status_code == 200
    assert first(one, user_id="u1") == "p9"
    assert one.get("/v1/users/u1").status_code == 404
    one.put("/v1/users/u1", json={"segments": ["club"]})  # what the shop puts afterwards counts again
    assert first(other, user_id="u1") == "p3"


def test_the_context_of_a_request_decides_rules(replicas: list[TestClient]) -> None:
    pin(replicas[0], "device=mobile")
    assert first(replicas[1], context={"device": "mobile", "country": "AT"}) == "p3"
    assert first(replicas[1], context={"device": "desktop"}) == "p9"


def test_a_profile_is_read_with_the_history_and_forgotten_with_it(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.put("/v1/users/new/user", json=GOLD)
    known = other.get("/v1/users/new/user").json()
    assert known == {"user_id": "new/user", "events": [], **GOLD}
    assert other.delete("/v1/users/new/user").json()["num_events"] == 0
    assert one.get("/v1/users/new/user").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"segments": [""]}, "segments.0"),
        ({"properties": {"tier": [1]}}, "properties.tier"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_profile_is_refused_with_its_field(body: object, field: str) -> None:
    with TestClient(create_app(LocalService(*open_fake()))) as client:
        reply = client.put("/v1/users/u1", json=body)
        assert reply.status_code == 422
        assert reply.json()["error"]["field"].startswith(field)
        assert client.put("/v1/users/" + "u" * 257, json={}).json()["error"]["field"] == "user_id"


class Broken(SqliteDocuments):
    """A store that is out of reach."""

    def get(self, name: str) -> Document | None:
        raise UnavailableError("", f"no connection; {name} cannot be read")


def test_while_the_store_is_out_of_reach_slates_go_on_without_segments_and_are_counted() -> None:
    parts = Components(profiles=Broken(), clock=time.time)
    with TestClient(create_app(LocalService(*open_fake()), components=parts)) as client:
        assert first(client, user_id="u1") == "p9"
        assert first(client, user_id="u1") == "p9"
        figures = client.get("/metrics").text
        assert 'outcome="unavailable"' in figures
        assert client.get("/v1/users/u1").status_code == 503
