"""The caller's own list over HTTP: its store, placement, rules and the user's impressions decide, with both stores."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serve.shared_state import replica
from txrec.online.stores import open_history
from txrec.recommender.recommender import Recommender

LAMPS = [f"sku-{number:03}" for number in range(11, 17)]
TENT = "sku-031"
VIENNA = {"store": "vienna"}


@pytest.fixture
def replicas(recommender: Recommender, state: str) -> list[TestClient]:
    """Two replicas that know each other by their store alone."""
    return [replica(recommender, state), replica(recommender, state)]


def rank(client: TestClient, **fields: Any) -> dict[str, Any]:
    reply = client.post("/v1/rank", json={"items": LAMPS, "query": "lamp", **fields})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def ids(client: TestClient, **fields: Any) -> list[str]:
    return [item["item_id"] for item in rank(client, **fields)["items"]]


def put(client: TestClient, path: str, body: Any) -> None:
    reply = client.put(path, json=body)
    assert reply.status_code == 200, reply.text


def test_the_store_of_a_request_decides_prices_and_puts_what_cannot_be_bought_there_last(
    replicas: list[TestClient],
) -> None:
    one, other = replicas
    first, second = ids(other)[:2]
    put(one, "/v1/items", {"item_id": first, "stock": {"vienna": 0, "graz": 3}})
    put(one, "/v1/items", {"item_id": second, "prices": {"vienna": 4.5}, "stock": {"vienna": 2}})
    reply = rank(other, context=VIENNA)
    assert [item["item_id"] for item in reply["items"]][-1] == first
    assert {item["item_id"] for item in reply["items"]} == set(LAMPS), "nothing of the list is lost"
    assert {item["item_id"]: item["price"] for item in reply["items"]}[second] == 4.5
    assert f"items: {first} cannot be bought now, last" in reply["notes"]
    assert ids(other, context={"store": "graz"})[-1] == second, "it has pieces in Vienna alone"
    cheap = rank(other, context=VIENNA, filters={"price": {"max": 5}})
    assert [item["item_id"] for item in cheap["items"]] == [second]
    assert len([note for note in cheap["notes"] if "does not fulfil the filters" in note]) == len(LAMPS) - 1


def test_rules_move_and_block_products_of_the_list_and_add_none(replicas: list[TestClient]) -> None:
    one, other = replicas
    before = ids(other)
    blocked, kept = before[0], ids(other, items=[lamp for lamp in LAMPS if lamp != before[0]])  # ranked without it
    rules = [
        {"rule_id": "last first", "effect": {"type": "pin", "items": [kept[-1], TENT]}},
        {"rule_id": "no", "effect": {"type": "block", "products": {"items": [blocked]}}},
        {
            "rule_id": "few",
            "when": {"placement": ["shelf"]},
            "effect": {"type": "limit", "products": {"items": kept[:2]}, "share": 0.01},
        },
    ]
    put(one, "/v1/rules", rules)
    reply = rank(other, explain=True)
    assert [item["item_id"] for item in reply["items"]] == [kept[-1], *kept[:-1]]
    assert {rule["rule_id"] for rule in reply["rules"]} == {"last first", "no"}
    assert "rule 'last first': pinned to position 1" in reply["items"][0]["reasons"]
    assert ids(other, rules=False) == before
    assert ids(other, placement="shelf") == [kept[-1], *kept[2:-1], *kept[:2]], "a limit moves to the end"


def test_a_rule_whose_only_product_is_not_in_the_list_does_not_act(replicas: list[TestClient]) -> None:
    one, other = replicas
    before = ids(other)
    put(one, "/v1/rules", {"rule_id": "tent", "effect": {"type": "pin", "items": [TENT]}})
    reply = rank(other, explain=True)
    assert ([item["item_id"] for item in reply["items"]], reply["rules"]) == (before, [])


def test_a_placement_gives_defaults_and_is_recorded_with_the_rules_that_acted(
    replicas: list[TestClient], state: str
) -> None:
    one, other = replicas
    before = ids(other)
    put(one, "/v1/rules", {"rule_id": "up", "effect": {"type": "pin", "items": before[-1:]}})
    put(one, "/v1/placements/shelf", {"rules": False, "filters": {"brand": ["acme"]}, "fallback_items": [TENT]})
    with other:
        plain, shelf = rank(other), rank(other, placement="shelf")
    assert plain["items"][0]["item_id"] == before[-1]
    own = [item["item_id"] for item in shelf["items"]]
    assert own == [item_id for item_id in before if item_id in own]
    assert 0 < len(own) < len(before)
    logged = {row["request_id"]: row for row in open_history(state).impressions().to_pylist()}
    assert (logged[shelf["request_id"]]["placement"], list(logged[shelf["request_id"]]["rules"])) == ("shelf", [])
    assert list(logged[plain["request_id"]]["rules"]) == ["up"]


def test_what_a_user_was_shown_in_vain_sinks(replicas: list[TestClient]) -> None:
    one, other = replicas
    user: dict[str, Any] = {"user_id": "reader"}
    with other:  # its slates are logged when it ends
        order, _ = ids(other, **user), ids(other, **user)
    with one:
        assert ids(one, **user) == order
        assert ids(one, **user, max_showings=2, seen_places=1) == [*order[1:], order[0]]
        assert ids(one, **user, max_showings=9, seen_places=1) == order


def test_an_unknown_field_of_the_filters_is_refused_by_name(recommender: Recommender, tmp_path: Path) -> None:
    client = replica(recommender, str(tmp_path / "state.sqlite"))
    reply = client.post("/v1/rank", json={"items": LAMPS, "filters": {"where": "colr = red"}})
    assert (reply.status_code, reply.json()["error"]["field"].startswith("filters")) == (422, True)
