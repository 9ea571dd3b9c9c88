"""`/v1/monitor`: live figures that late events correct, and their gauges."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local import LocalService
from tests.serve.fake import open_fake
from txrec.config import MonitorConfig, ServeConfig
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event

NOW = 1_700_000_000
HOUR_US = 3_600_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Iterator[SqliteHistory]:
    history = SqliteHistory()
    yield history
    history.close()


def slate(number: int, hours_ago: float, variant: str = "production") -> Impression:
    ts = int(NOW * 1e6 - hours_ago * HOUR_US)
    return Impression(f"r{number}", ts, variant, "v1", ("p1", "p2"), (0.5, 0.4), f"u{number}", "lamp", took_ms=8.0)


def click(number: int, hours_ago: float) -> LoggedEvent:
    event = Event("click", "p2", "lamp", int(NOW * 1e6 - hours_ago * HOUR_US) + 1_000_000)
    return LoggedEvent(f"e{number}", f"u{number}", event, None, f"r{number}")


def test_a_late_event_corrects_the_live_figures_at_the_next_refresh(store: SqliteHistory) -> None:
    clock = Clock()
    config = ServeConfig(monitor=MonitorConfig(live_h=24, refresh_s=60))
    store.log_impressions([slate(0, 30), slate(1, 2), slate(2, 1), slate(3, 1, "canary")])
    store.append([click(2, 1)])
    with TestClient(create_app(LocalService(*open_fake()), config, Components(store=store, clock=clock))) as client:
        first = client.get("/v1/monitor").json()["figures"]
        assert first["all"]["all"]["click_rate"]["count"] == 3  # the first slate is too old
        assert first["all"]["all"]["click_rate"]["value"] == pytest.approx(1 / 3)
        assert first["all"]["all"]["latency_ms"]["value"] == 8.0
        store.append([click(1, 2)])
        assert client.get("/v1/monitor").json()["figures"] == first
        clock.now += 60
        second = client.get("/v1/monitor").json()["figures"]
        assert second["all"]["all"]["click_rate"]["value"] == pytest.approx(2 / 3)
        assert second["variant"]["canary"]["click_rate"]["value"] == 0
        gauges = client.get("/metrics").text
    (line,) = [one for one in gauges.splitlines() if 'figure="click_rate"' in one and 'variant="production"' in one]
    assert float(line.split()[-1]) == 1.0


def test_a_server_without_traffic_has_no_figures(store: SqliteHistory) -> None:
    with TestClient(create_app(LocalService(*open_fake()), components=Components(store=store))) as client:
        reply = client.get("/v1/monitor")
    assert reply.status_code == 200
    assert reply.json()["figures"] == {}
