"""`/v1/monitor`: live figures that late events correct, and their gauges."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient

from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.observability.live_monitor import TrafficProfiles
from tests.serve.fake import open_fake
from tests.traffic import LAST_DAY, LAST_US, as_served, profile_of
from txrec.config import MonitorConfig, ServeConfig
from txrec.loop.drift.traffic import FILE
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.registry.registry import POINTER, Registry
from txrec.schema import DAY_US

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


def test_live_drift_stands_in_the_reply_and_in_the_gauges(store: SqliteHistory, tmp_path: Path) -> None:
    profile = profile_of(tmp_path)
    registry = Registry(tmp_path / "registry")
    version = registry.path / "v1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    (version / FILE).write_bytes(profile.to_bytes())
    (registry.path / POINTER).symlink_to("v1")
    clock = Clock()
    clock.now = (LAST_US + DAY_US) / 1e6
    slates, events = as_served(LAST_DAY.filter(pl.col("event") != "purchase"))
    store.log_impressions(slates)
    store.append(events)
    parts = Components(store=store, clock=clock, traffic=TrafficProfiles(registry.path))
    with TestClient(create_app(LocalService(*open_fake()), components=parts)) as client:
        drift = client.get("/v1/monitor").json()["drift"]
        gauges = client.get("/metrics").text
    assert (drift["outcome"], drift["version"], drift["events"]) == ("fault", "v1", len(events))
    unusual = [one["figure"] for one in drift["figures"] if one["unusual"]]
    assert "share of events that are a purchase" in unusual
    assert "share of events that are a purchase" in drift["decision"]
    (line,) = [one for one in gauges.splitlines() if one.startswith("txrec_live_drift{") and "are a purchase" in one]
    assert float(line.split()[-1]) > 1
    (alarm,) = [one for one in gauges.splitlines() if one.startswith("txrec_live_drift_outcome") and "fault" in one]
    assert float(alarm.split()[-1]) == 1


def test_a_server_of_one_bundle_judges_no_drift(store: SqliteHistory) -> None:
    with TestClient(create_app(LocalService(*open_fake()), components=Components(store=store))) as client:
        drift = client.get("/v1/monitor").json()["drift"]
    assert drift["outcome"] == "not judged"
    assert "no registry" in drift["reason"]
