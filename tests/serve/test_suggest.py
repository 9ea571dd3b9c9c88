"""Suggestions over HTTP: completions, the user's own searches, blocked words, live products, with two replicas."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve import suggester
from serve.ingress import Components, create_app
from serve.local import LocalService
from tests.serve.fake import open_fake
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal


@pytest.fixture
def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TestClient]:
    monkeypatch.setattr(suggester, "REFRESH_S", 0.0)
    clients = []
    for _ in range(2):
        state = tmp_path / "state.sqlite"
        journal = SqliteJournal(state)
        parts = Components(
            store=SqliteHistory(state), journal=journal, suggestions=SqliteDocuments(state, suggester.KIND)
        )
        clients.append(TestClient(create_app(LocalService(*open_fake(), journal), components=parts)))
    return clients


def texts(client: TestClient, q: str, **more: Any) -> list[str]:
    with client:  # one event loop for both calls: the first starts the refresh that the second sees
        client.get("/v1/suggest", params={"q": q})
        client.get("/v1/suggest", params={"q": q})
        reply = client.get("/v1/suggest", params={"q": q, **more})
    assert reply.status_code == 200, reply.text
    return [one["text"] for one in reply.json()["suggestions"]]


def test_queries_categories_and_products_complete_by_weight(replicas: list[TestClient]) -> None:
    assert texts(replicas[0], "red", limit=2) == ["red lamp", "red tent 2"]
    assert texts(replicas[0], "ket", limit=1) == ["kettles"]
    (product,) = replicas[0].get("/v1/suggest", params={"q": "blue tent 5"}).json()["suggestions"]
    assert product == {"text": "blue tent 5", "kind": "product", "item_id": "p5"}


def test_own_searches_come_first_and_go_with_a_forgotten_user(replicas: list[TestClient]) -> None:
    one, other = replicas
    one.post("/v1/events", json={"user_id": "anna", "event": "search", "query": "Reddish rug"})
    assert texts(other, "red", user_id="anna")[0] == "Reddish rug"
    assert "Reddish rug" not in texts(other, "red")
    one.delete("/v1/users/anna")
    assert "Reddish rug" not in texts(other, "red", user_id="anna")


def test_searches_of_the_training_log_complete_for_their_user_too(replicas: list[TestClient]) -> None:
    assert texts(replicas[0], "la", user_id="u1")[0] == "lamp"  # u1 clicked p1 for it
    assert "lamp" not in texts(replicas[0], "la")


def test_blocked_words_are_in_no_suggestion_of_any_replica(replicas: list[TestClient]) -> None:
    one, other = replicas
    assert "red lamp" in texts(other, "red")
    assert one.put("/v1/suggest/blocked", json={"words": ["LAMP"]}).json() == {"words": ["LAMP"]}
    assert not any("lamp" in text for text in texts(other, "red", limit=50))
    assert other.get("/v1/suggest/blocked").json() == {"words": ["LAMP"]}


def test_a_new_product_completes_on_every_replica(replicas: list[TestClient]) -> None:
    one, other = replicas
    assert texts(other, "zyxophone") == []
    one.put("/v1/items", json={"item_id": "new", "title": "Zyxophone, small"})
    assert texts(other, "zyxo") == ["Zyxophone, small"]


@pytest.mark.parametrize(
    ("params", "field"), [({"limit": 0}, "limit"), ({"q": "x" * 300}, "q"), ({"user_id": ""}, "user_id")]
)
def test_a_bad_parameter_is_refused_by_name(replicas: list[TestClient], params: dict[str, Any], field: str) -> None:
    reply = replicas[0].get("/v1/suggest", params=params)
    assert (reply.status_code, reply.json()["error"]["field"]) == (422, field)
