"""Retention: events and impressions older than the configured days are removed, others stay."""

from serve.history.retention import Retention
from txrec.config import ServeConfig
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.schema import DAY_US

NOW_DAYS = 1_000


def store() -> SqliteHistory:
    store = SqliteHistory()
    for age in (1, 40, 400):
        ts = (NOW_DAYS - age) * DAY_US
        store.append([LoggedEvent(f"e{age}", "anna", Event("click", f"p{age}", None, ts))])
        store.log_impressions([Impression(f"r{age}", ts, "production", "v1", (), ())])
    return store


def remaining(config: ServeConfig) -> tuple[int, list[str], list[str]]:
    kept = store()
    removed = Retention(kept, config, lambda: NOW_DAYS * 86_400.0).run_once()
    return removed, kept.export()["item_id"].to_pylist(), kept.impressions()["request_id"].to_pylist()


def test_events_and_impressions_older_than_their_days_are_removed() -> None:
    assert remaining(ServeConfig(event_days=90, impression_days=30)) == (1, ["p40", "p1"], ["r1"])


def test_zero_days_keep_events_for_good() -> None:
    assert remaining(ServeConfig(event_days=0, impression_days=500)) == (
        0,
        ["p400", "p40", "p1"],
        ["r400", "r40", "r1"],
    )
