"""Live window: every reader of a store counts the same events, bounded, without those of forgotten users."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import services
from txrec.online import live_window
from txrec.online.history import HistoryStore, LoggedEvent
from txrec.online.live_window import LiveWindow
from txrec.online.redis_history import RedisHistory
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.schema import DAY_US

NOW_US = 1_800_000_000_000_000


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], HistoryStore]:
    """Opens the same store again and again, as replicas do."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda: RedisHistory(url, request.node.name.partition("[")[0], timeout_s=30)
    return lambda: SqliteHistory(tmp_path / "events.sqlite")


def click(number: int, user: str = "u1", age_us: int = 0, event: str = "click") -> LoggedEvent:
    return LoggedEvent(f"e{number}", user, Event(event, f"p{number}", " Red LAMP ", NOW_US - age_us + number))


def items(window: LiveWindow) -> list[str]:
    window.refresh()
    return [event.item_id for event in window.events()]


def test_all_readers_see_the_same_events_whenever_they_start(
    opened: Callable[[], HistoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_window, "PAGE", 2)
    writer, early = opened(), LiveWindow(opened(), 28.0)
    for number in range(7):
        writer.append([click(number, f"u{number}")])
        assert items(early) == [f"p{one}" for one in range(number + 1)]
    late = LiveWindow(opened(), 28.0)
    assert items(late) == items(early)
    assert late.events() == early.events()
    assert late.events()[0].query == "red lamp"


def test_a_window_changes_its_version_only_with_its_events(opened: Callable[[], HistoryStore]) -> None:
    store, window = opened(), LiveWindow(opened(), 28.0)
    window.refresh()
    assert window.version == 0
    store.append([click(1), click(2, event="impression"), LoggedEvent("s", "u", Event("search", None, "x", NOW_US))])
    assert items(window) == ["p1"]
    version = window.version
    window.refresh()
    assert window.version == version != 0


def test_events_of_a_forgotten_user_leave_every_window_and_later_ones_are_seen(
    opened: Callable[[], HistoryStore],
) -> None:
    store, window = opened(), LiveWindow(opened(), 28.0)
    store.append([click(1, "u1"), click(2, "u2"), click(3, "u1")])
    assert items(window) == ["p1", "p2", "p3"]
    store.forget("u1")
    assert items(window) == ["p2"]
    store.append([click(4, "u3")])
    assert items(window) == ["p2", "p4"] == items(LiveWindow(opened(), 28.0))


def test_old_events_and_those_beyond_the_bound_are_left_out(opened: Callable[[], HistoryStore]) -> None:
    store = opened()
    store.append([click(1, age_us=3 * DAY_US), *(click(number) for number in range(2, 9))])
    bounded = LiveWindow(store, 2.0, max_events=4)
    assert items(bounded) == ["p5", "p6", "p7", "p8"]
    assert items(LiveWindow(store, 2.0)) == [f"p{number}" for number in range(2, 9)]
    store.append([click(9)])
    assert items(bounded) == ["p6", "p7", "p8", "p9"]
    fresh = LiveWindow(store, 2.0, max_events=4)
    fresh.refresh()
    assert fresh.statistics == bounded.statistics, "what left the window leaves no trace"
    figures = bounded.statistics
    assert (figures.num_events, figures.num_items, figures.num_queries, figures.newest_us) == (4, 4, 1, NOW_US + 9)
    assert 400 < figures.num_bytes < 4_000


@pytest.mark.parametrize("num_later", [1, 3, 5], ids=["fewer", "as many", "more"])
def test_a_server_that_came_back_without_its_data_is_read_from_the_start(redis_url: str, num_later: int) -> None:
    store = RedisHistory(redis_url, f"emptied-{num_later}")
    window = LiveWindow(store, 28.0)
    clicks = [LoggedEvent(f"e{n}", "u1", Event("click", f"p{n}", None, 10**15 + n)) for n in range(3 + num_later)]
    store.append(clicks[:3])
    window.refresh()
    assert len(window.events()) == 3
    store._redis.flushall()
    store.append(clicks[3:])
    later = [f"p{n}" for n in range(3, 3 + num_later)]
    assert items(window) == later, "the reader's last number is 3, and the new numbers begin at 1"
    assert items(window) == later
    store.close()
