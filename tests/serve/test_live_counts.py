"""Live counts over HTTP: clicks that one replica logs teach the searches of every replica, with both stores."""

import re
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.models.replica_models import Models, StaticSource
from serve.types import Model
from txrec.online.history import HistoryStore, LoggedEvent
from txrec.online.live_window import LiveWindow
from txrec.online.redis_history import RedisHistory
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Event

MINUTES_US = 60_000_000


@pytest.fixture(params=["sqlite", "redis"])
def replicas(tmp_path: Path, request: pytest.FixtureRequest, recommender: Recommender) -> list[TestClient]:
    def store() -> HistoryStore:
        if request.param == "redis":
            return RedisHistory(request.getfixturevalue("redis_url"), request.node.name.partition("[")[0], 30)
        return SqliteHistory(tmp_path / "state.sqlite")

    return [
        TestClient(
            create_app(
                LocalService(recommender, Model("v1"), live=LiveWindow(store(), 28.0)), None, Components(store=store())
            )
        )
        for _ in range(3)
    ]


def test_a_new_query_is_answered_on_every_replica_by_what_people_clicked_for_it_ten_minutes_ago(
    replicas: list[TestClient],
) -> None:
    ago = time.time_ns() // 1_000 - 10 * MINUTES_US
    for visitor in range(4):
        event = {"user_id": f"v{visitor}", "event": "click", "item_id": "sku-031", "query": "zorgblatt", "ts": ago}
        assert replicas[visitor % 3].post("/v1/events", json=event).status_code == 202
    answers = [client.post("/v1/search", json={"query": "zorgblatt", "top_k": 5}).json() for client in replicas]
    slates = [[(item["item_id"], item["score"]) for item in answer["items"]] for answer in answers]
    assert slates[0] == slates[1] == slates[2], "the counts are the same on every replica"
    (learned,) = [item for item in answers[0]["items"] if item["item_id"] == "sku-031"]
    assert "query_clicks" in learned["sources"]
    figures = dict(
        re.findall(r'txrec_live_counts{figure="(\w+)",replica="[^"]+"} (\S+)', replicas[2].get("/metrics").text)
    )
    assert (float(figures["events"]), float(figures["items"]), float(figures["queries"])) == (4, 1, 1)
    assert float(figures["newest_age_s"]) >= 600
    assert 100 < float(figures["bytes"]) < 10_000
    replicas[0].delete("/v1/users/v0")
    replicas[1].delete("/v1/users/v1")


def test_the_models_of_a_replica_count_live_events_and_serve_on_while_the_store_is_down(
    recommender: Recommender, tmp_path: Path
) -> None:
    store = SqliteHistory(tmp_path / "state.sqlite")
    window = LiveWindow(SqliteHistory(tmp_path / "state.sqlite"), 28.0)
    source = StaticSource(lambda: (recommender, Model("v1")))
    models = Models(source, SqliteJournal(), "retriever", live=window)
    assert models.production.recommender is recommender
    now = time.time_ns() // 1_000
    store.append([LoggedEvent("e1", "v", Event("click", "sku-031", "zorgblatt", now))])
    models.reconcile()
    counted = models.production.recommender
    assert isinstance(counted, Recommender)
    assert counted.retriever.sources["query_clicks"].clicked_items("zorgblatt").scores.tolist() == [1.0]
    models.reconcile()
    assert models.production.recommender is counted, "nothing is counted again without new events"
    window._store.close()
    models.reconcile()
    assert models.production.recommender is counted
