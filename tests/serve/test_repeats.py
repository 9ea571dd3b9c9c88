"""Repeated slates over HTTP: reported impressions let products sink or leave, on every replica."""

from pathlib import Path

from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local import LocalService
from serve.types import Model
from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory
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
