"""Objectives over HTTP: of the bundle, of a placement and of a request; told with items and counted."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from txrec.config import ObjectiveConfig, ServeConfig
from txrec.model.outcome_heads import OutcomeHeads
from txrec.online.stores import open_documents, open_history
from txrec.recommender.recommender import Recommender

GOAL = {"purchase": 1.0, "revenue": 0.02}


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    """The tiny bundle with close click probabilities, and a probability of a purchase that follows the price."""
    recommender = Recommender.open(tiny_bundle)
    ranker = recommender.ranker
    assert ranker is not None
    heads = OutcomeHeads(("purchase",), ranker.outcome_width)
    with torch.no_grad():
        ranker.calibration[0] = 0.05  # the ranker is sure of everything in so small a shop
        heads.given_click.weight[0, recommender.ranking_features.names.index("price")] = 3.0
    ranker.outcomes = heads.eval()
    return recommender


def client(recommender: Recommender, state: str) -> TestClient:
    kinds = ("placements", "experiments")
    stores: Any = {kind: open_documents(state, kind) for kind in kinds}
    parts = Components(store=open_history(state), **stores)
    return TestClient(create_app(LocalService(recommender, Model("v1")), ServeConfig(), parts))


def slate(shop: TestClient, **fields: Any) -> dict[str, Any]:
    reply = shop.post("/v1/recommend", json={"user_id": "user-003", "top_k": 10, **fields})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def ids(reply: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in reply["items"]]


def test_an_objective_of_a_placement_holds_on_every_replica_and_a_request_can_say_another_or_none(
    recommender: Recommender, state: str
) -> None:
    one, other = client(recommender, state), client(recommender, state)
    plain, by_worth = slate(one), slate(one, objective=GOAL)
    assert ids(plain) != ids(by_worth)
    assert not plain["items"][0]["estimates"]
    scores = [item["score"] for item in by_worth["items"]]
    assert scores == sorted(scores, reverse=True)
    for item in by_worth["items"]:
        own = item["estimates"]
        assert item["score"] == pytest.approx(own["purchase"] + 0.02 * own["revenue"], rel=1e-4)
    assert one.put("/v1/placements/cart", json={"objective": GOAL}).status_code == 200
    assert ids(slate(other, placement="cart")) == ids(by_worth)
    assert ids(slate(other, placement="cart", objective={})) == ids(plain)
    assert one.delete("/v1/placements/cart").status_code == 200


def test_metrics_count_slates_that_an_objective_ordered_and_those_on_which_it_has_no_effect(
    recommender: Recommender, tmp_path: Path
) -> None:
    with client(recommender, str(tmp_path / "state.sqlite")) as shop:
        slate(shop, objective=GOAL)
        reply = slate(shop, objective={"cart": 1.0})
        assert reply["notes"] == ["objective: cart has no effect, the model does not estimate it"]
        text = shop.get("/metrics").text
    for effect in ("ordered", "no_effect"):
        assert re.search(rf'txrec_objective_slates_total{{effect="{effect}",replica="[^"]+"}} 1\.0', text)


def test_the_objective_of_the_bundle_holds_where_nothing_else_is_said(recommender: Recommender, tmp_path: Path) -> None:
    shop = client(recommender, str(tmp_path / "state.sqlite"))
    by_worth = slate(shop, objective=GOAL)
    before = recommender.config
    recommender.config = before.model_copy(update={"objective": ObjectiveConfig(**GOAL)})
    try:
        assert ids(slate(shop)) == ids(by_worth)
    finally:
        recommender.config = before


def test_the_callers_own_list_is_ordered_by_an_objective_too(recommender: Recommender, tmp_path: Path) -> None:
    shop = client(recommender, str(tmp_path / "state.sqlite"))
    items = ids(slate(shop))
    body = {"items": items, "user_id": "user-003"}
    plain, by_worth = (shop.post("/v1/rank", json={**body, **more}).json() for more in ({}, {"objective": GOAL}))
    assert set(ids(plain)) == set(ids(by_worth))
    assert by_worth["items"][0]["score"] == max(item["score"] for item in by_worth["items"])
    assert by_worth["items"][0]["estimates"]


def test_a_negative_worth_is_refused_by_name(recommender: Recommender, tmp_path: Path) -> None:
    shop = client(recommender, str(tmp_path / "state.sqlite"))
    reply = shop.post("/v1/recommend", json={"user_id": "user-003", "objective": {"revenue": -1}})
    assert reply.status_code == 422
    assert "revenue" in reply.text
