"""Suggestions over HTTP: completions, own and live searches, blocked words, live products; replicas, both stores."""

from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.suggester import BlockedTexts
from tests.serve.fake import open_fake
from tests.serve.shared_state import replica
from txrec.recommender.recommender import Recommender


@pytest.fixture
def replicas(state: str) -> list[TestClient]:
    """Two replicas that know each other by their store alone."""
    return [replica(open_fake()[0], state) for _ in range(2)]


def texts(client: TestClient, q: str, **more: Any) -> list[str]:
    with client:
        assert client.portal is not None
        client.portal.call(cast(FastAPI, client.app).state.suggester.refresh)
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


def test_a_live_search_of_several_users_is_suggested_by_every_replica_and_goes_when_they_are_forgotten(
    recommender: Recommender, state: str
) -> None:
    one, other = replica(recommender, state), replica(recommender, state)

    def click(client: TestClient, user: str) -> None:
        event = {"user_id": user, "event": "click", "item_id": "sku-031", "query": "Zorgblatt tent"}
        assert client.post("/v1/events", json=event).status_code == 202

    click(one, "anna")
    assert texts(other, "zorg") == [], "what one user typed is their own"
    click(other, "bert")
    assert texts(one, "zorg") == texts(other, "zorg") == ["zorgblatt tent"]
    assert texts(other, "zrogblatt") == ["zorgblatt tent"]
    one.delete("/v1/users/bert")
    assert texts(one, "zorg") == texts(other, "zorg") == []


@pytest.mark.parametrize(
    ("params", "field"), [({"limit": 0}, "limit"), ({"q": "x" * 300}, "q"), ({"user_id": ""}, "user_id")]
)
def test_a_bad_parameter_is_refused_by_name(replicas: list[TestClient], params: dict[str, Any], field: str) -> None:
    reply = replicas[0].get("/v1/suggest", params=params)
    assert (reply.status_code, reply.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("blocked", "forbidden", "allowed"),
    [
        ("Café", "cafe latte", "cafeteria"),
        ("hot dog", "hot-dog maker", "hot plate"),
        ("酒", "啤酒杯", "杯"),
        ("adult", "adult, novel", "adulthood"),
        ("!!", "", "red lamp!!"),
    ],
)
def test_blocked_texts_forbid_whole_words_whole_phrases_and_parts_of_unspaced_scripts(
    blocked: str, forbidden: str, allowed: str
) -> None:
    texts_blocked = BlockedTexts.of([blocked])
    assert not forbidden or texts_blocked.forbids(forbidden)
    assert not texts_blocked.forbids(allowed)
