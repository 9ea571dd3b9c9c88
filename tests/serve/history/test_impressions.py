"""What was shown is logged, beside the answer and without it waiting."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

from fastapi.testclient import TestClient

from serve.history.impressions import Impressions
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.models.shadow import overlap
from tests.serve.fake import open_fake
from txrec.config import ServeConfig
from txrec.errors import UnavailableError
from txrec.online.history import Impression
from txrec.online.sqlite_history import SqliteHistory

SHOWN = Impression("r1", 5, "production", "v1", ("p1",), (0.5,))


def test_every_slate_is_logged_with_its_variant_and_joins_by_request() -> None:
    store = SqliteHistory()
    app = create_app(LocalService(*open_fake()), components=Components(store=store, clock=lambda: 1_700_000_000.0))
    with TestClient(app) as client:
        search = client.post("/v1/search", json={"query": "lamp", "user_id": "u1", "top_k": 2}).json()
        client.post("/v1/similar", json={"item_id": "p1", "top_k": 1})
        client.post("/v1/rank", json={"items": ["p2"], "user_id": "u2"})
        client.portal.call(app.state.impressions.flush)
    rows = {row["request_id"]: row for row in store.impressions().to_pylist()}
    assert len(rows) == 3
    row = rows[search["request_id"]]
    assert row["item_ids"] == [item["item_id"] for item in search["items"]]
    assert (row["user_id"], row["query"], row["variant"], row["model_version"]) == ("u1", "lamp", "production", "v1")
    assert {row["user_id"] for row in rows.values()} == {"u1", None, "u2"}


class Away(SqliteHistory):
    """A store that is unavailable until it is told to be back."""

    back = False

    def log_impressions(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        if not self.back:
            raise UnavailableError("", "away")
        super().log_impressions(impressions, keep_since_us)


def test_impressions_wait_while_the_store_is_away_and_the_oldest_are_dropped_and_counted() -> None:
    async def scenario() -> tuple[list[str], list[int]]:
        store, lost = Away(), list[int]()
        log = Impressions(store, 30, lambda: 0.0, max_waiting=3, count_dropped=lost.append)
        for number in range(5):
            log.add(replace(SHOWN, request_id=f"r{number}", ts=number))
            await log.flush()
        store.back = True
        await log.flush()
        return store.impressions()["request_id"].to_pylist(), lost

    assert asyncio.run(scenario()) == (["r2", "r3", "r4"], [1, 1])


def test_impressions_that_wait_when_the_server_ends_are_counted_as_lost() -> None:
    app = create_app(LocalService(*open_fake()), components=Components(store=Away()))
    with TestClient(app) as client:
        client.post("/v1/search", json={"query": "lamp"})
    assert app.state.impressions.num_dropped == 1
    with TestClient(app) as client:
        assert "txrec_impressions_lost_total" in client.get("/metrics").text


def test_an_impression_that_comes_while_a_batch_is_written_is_stored_without_another() -> None:
    class Slow(SqliteHistory):
        def log_impressions(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
            writing.set()
            assert go_on.wait(10)
            super().log_impressions(impressions, keep_since_us)

    writing, go_on = threading.Event(), threading.Event()

    async def scenario() -> list[str]:
        store = Slow()
        log = Impressions(store, 30, lambda: 0.0)
        log.add(SHOWN)
        assert await asyncio.to_thread(writing.wait, 10)
        log.add(replace(SHOWN, request_id="r2"))
        go_on.set()
        async with asyncio.timeout(10):
            while len(stored := store.impressions()["request_id"].to_pylist()) < 2:
                await asyncio.sleep(0.05)
        return stored

    assert asyncio.run(scenario()) == ["r1", "r2"]


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    async def scenario() -> tuple[int, list[str]]:
        store = SqliteHistory()
        log = Impressions(store, 30, lambda: 0.0, max_waiting=2)
        for number in range(5):
            log.add(Impression(f"r{number}", number, "production", "v1", (), ()))
        await log.flush()
        return log.num_dropped, store.impressions()["request_id"].to_pylist()

    assert asyncio.run(scenario()) == (3, ["r3", "r4"])


def test_zero_days_log_nothing() -> None:
    store = SqliteHistory()
    app = create_app(LocalService(*open_fake()), ServeConfig(impression_days=0), Components(store))
    with TestClient(app) as client:
        client.post("/v1/search", json={"query": "lamp"})
        client.portal.call(app.state.impressions.flush)
    assert store.impressions().num_rows == 0


def test_overlap_is_the_share_of_the_longer_slate() -> None:
    assert overlap(["a", "b"], ["b", "a"]) == 1.0
    assert overlap(["a", "b", "c", "d"], ["a"]) == 0.25
    assert overlap([], []) == 1.0
    assert overlap([], ["a"]) == 0.0
