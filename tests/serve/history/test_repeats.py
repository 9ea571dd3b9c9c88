"""Repeated slates over HTTP: reported impressions let products sink or leave, on every replica."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.stores import open_history
from txrec.recommender.recommender import Recommender


def test_impressions_that_one_replica_took_let_products_sink_or_leave_on_the_other(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    config = ServeConfig(placements_file=str(tmp_path / "placements.toml"))
    (tmp_path / "placements.toml").write_text("[home]\nmax_showings = 2\n")
    service = LocalService(Recommender.open(tiny_bundle), Model("v1"))
    one, other = (
        TestClient(create_app(service, config, Components(store=SqliteHistory(tmp_path / "state.sqlite"))))
        for _ in range(2)
    )

    def order(**fields: object) -> list[str]:
        body = {"query": "lamp", "user_id": "somebody new", "top_k": 500, **fields}
        reply = other.post("/v1/search", json=body)
        assert reply.status_code == 200, reply.text
        return [item["item_id"] for item in reply.json()["items"]]

    first = order()[0]
    shown = {"user_id": "somebody new", "event": "impression", "item_id": first, "query": "lamp"}
    assert one.post("/v1/events", json=[shown, shown]).status_code == 202
    assert order(max_showings=3).index(first) == order().index(first)
    assert order(max_showings=2)[-1] == order(placement="home")[-1] == first
    assert first not in order(exclude_seen=True)
    assert one.post("/v1/events", json={**shown, "event": "click"}).status_code == 202
    assert order(max_showings=2) == order()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_slates_that_the_server_answered_count_as_seen_and_wear_out_on_every_replica(
    tiny_bundle: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    state = request.getfixturevalue("redis_url") if kind == "redis" else str(tmp_path / "state.sqlite")
    recommender = Recommender.open(tiny_bundle)
    recommender.bundle.__dict__["fatigue"] = (1.0, 0.5, 1e-6)
    service = LocalService(recommender, Model("v1"))

    def slate(user: str, **fields: object) -> dict[str, float]:
        """The answer of a replica that knows the other ones by their store alone; it has logged it afterwards."""
        app = create_app(service, ServeConfig(), Components(store=open_history(state)))
        with TestClient(app) as client:
            reply = client.post("/v1/search", json={"query": "lamp", "user_id": user, "top_k": 5, **fields})
        assert reply.status_code == 200, reply.text
        return {item["item_id"]: item["score"] for item in reply.json()["items"]}

    first = slate("reader")
    assert slate("reader") == first, "nothing is left out unless asked for"
    seen = set(list(first)[:2])
    assert not seen & set(slate("reader", exclude_seen=True, seen_places=2))
    assert seen <= set(slate("reader", exclude_seen=True))
    assert seen <= set(slate("somebody else", exclude_seen=True, seen_places=2))
    best = next(iter(first))
    worn = slate("reader", fatigue=True, seen_places=1, top_k=60)
    assert list(worn).index(best) > 0
    assert worn[best] < 0.02 * first[best]
    assert list(slate("reader", max_showings=2, seen_places=1, top_k=500)).index(best) > 5
