"""Reads of the event store run beside the event loop: a slow store delays its own request only."""

import asyncio
import threading

import pytest

from serve.history.event_log import STORE_COOLDOWN_S, EventLog
from serve.observability.metrics import Metrics
from txrec.errors import UnavailableError
from txrec.online.history import MAX_EVENTS, LiveHistory
from txrec.online.sqlite_history import SqliteHistory


class SlowStore(SqliteHistory):
    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        assert self.gate.wait(timeout=20), "the event loop was blocked by the read"
        return super().recent(user_id, limit)


def test_a_slow_store_does_not_block_the_event_loop() -> None:
    async def scenario() -> LiveHistory:
        store = SlowStore()
        log = EventLog(store, lambda: 0.0, Metrics())
        reading = asyncio.create_task(log.recent("anna"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not reading.done()
        assert await log.recent(None) == LiveHistory(), "the loop goes on while the read waits"
        store.gate.set()
        return await reading

    assert asyncio.run(scenario()) == LiveHistory()


def test_an_unavailable_store_is_tried_again_after_the_cooldown() -> None:
    now_s = 50.0

    class Unavailable(SqliteHistory):
        calls = 0

        def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
            self.calls += 1
            raise UnavailableError("", "away")

    async def scenario() -> int:
        nonlocal now_s
        store = Unavailable()
        log = EventLog(store, lambda: now_s, Metrics())
        for pause_s in (0.0, 0.0, STORE_COOLDOWN_S):
            now_s += pause_s
            with pytest.raises(UnavailableError):
                await log.recent("anna")
        return store.calls

    assert asyncio.run(scenario()) == 2
