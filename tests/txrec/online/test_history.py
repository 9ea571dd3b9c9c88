"""The contract of the history store."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import services
from txrec import schema
from txrec.errors import UnavailableError
from txrec.online.history import IMPRESSIONS, HistoryStore, Impression, LoggedEvent, Overlap
from txrec.online.redis_history import RedisHistory
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.stores import open_history
from txrec.recommender.types import Event


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """A Redis Cluster of one node: it refuses a script or transaction whose keys lie in several slots."""
    with services.redis(cluster=True) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HistoryStore]:
    store: HistoryStore
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
        store = RedisHistory(url, request.node.name.partition("[")[0], timeout_s=30)
    else:
        store = SqliteHistory(tmp_path / "state" / "history.sqlite")
    yield store
    store.close()


def click(number: int, user: str = "u1", ts: int | None = None) -> LoggedEvent:
    return LoggedEvent(f"{user}-{number}", user, Event("click", f"p{number}", None, ts or number), "s1", "r1")


def test_an_event_is_seen_by_the_next_read(store: HistoryStore) -> None:
    assert store.append([click(1)]) == [1]
    assert store.recent("u1").events == (Event("click", "p1", None, 1, None),)
    assert store.recent("u2").events == ()


def test_the_same_id_again_changes_nothing(store: HistoryStore) -> None:
    assert store.append([click(1), click(2), click(1)]) == [2]
    assert store.append([click(2), click(3)], [click(3)]) == [1, 0]
    assert [event.item_id for event in store.recent("u1").events] == ["p1", "p2", "p3"]


def test_events_come_in_time_order_and_the_latest_ones_are_kept(store: HistoryStore) -> None:
    store.append([click(3), click(1), click(2, ts=3)])
    assert [event.item_id for event in store.recent("u1").events] == ["p1", "p3", "p2"]  # equal times: as they arrived
    assert [event.item_id for event in store.recent("u1", limit=2).events] == ["p3", "p2"]


def test_a_forgotten_user_leaves_nothing_and_stays_forgotten(store: HistoryStore) -> None:
    store.append([click(1), click(1, user="u2")])
    assert not store.recent("u1").forgotten
    assert store.forget("u1") == 1
    assert store.recent("u1").events == ()
    assert store.recent("u1").forgotten
    assert store.export().num_rows == 1
    assert store.forget("nobody") == 0
    store.append([click(5)])
    assert [event.item_id for event in store.recent("u1").events] == ["p5"]
    assert store.recent("u1").forgotten


def test_the_export_is_a_log_in_time_order(store: HistoryStore) -> None:
    store.append([click(2), click(1, user="u2"), LoggedEvent("x", "u3", Event("search", None, "lamp", 9, 1.5))])
    table = store.export()
    assert table.schema == schema.EVENTS
    assert table["user_id"].to_pylist() == ["u2", "u1", "u3"]
    assert table["query"].to_pylist() == [None, None, "lamp"]
    assert table["request_id"].to_pylist() == ["r1", "r1", None]
    assert store.export(since_us=2).num_rows == 2


def test_two_openers_of_a_file_see_each_others_events(tmp_path: Path) -> None:
    first, second = (SqliteHistory(tmp_path / "history.sqlite") for _ in range(2))
    first.append([click(1)])
    assert len(second.recent("u1").events) == 1
    assert second.append([click(1), click(2)]) == [1]
    assert len(first.recent("u1").events) == 2


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    stores = [SqliteHistory(tmp_path / "history.sqlite") for _ in range(4)]

    def write(place: int) -> None:
        for number in range(25):
            stores[place].append([click(number, user=f"u{place}")])

    threads = [threading.Thread(target=write, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].export().num_rows == 100


WRITER = """
import sys
from pathlib import Path
from txrec.online.history import LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
store = SqliteHistory(Path(sys.argv[1]))
for number in range(1_000_000):
    store.append([LoggedEvent(str(number), "u1", Event("click", f"p{number}", None, number + 1))])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_has_lost_no_acknowledged_event(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged.extend(int(line) for line in writer.stdout.read().splitlines() if line)
    writer.wait()
    writer.stdout.close()
    stored = set(SqliteHistory(file).export()["item_id"].to_pylist())
    assert len(acknowledged) >= 50
    assert [number for number in acknowledged if f"p{number}" not in stored] == []


def test_a_file_that_is_no_store_is_unavailable_and_named(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    file.write_bytes(b"not a database, but long enough to be read as one" * 10)
    with pytest.raises(UnavailableError, match=r"history\.sqlite"):
        SqliteHistory(file)


def test_a_redis_that_is_gone_is_unavailable_and_says_so() -> None:
    store = open_history("redis://127.0.0.1:1/0")
    assert isinstance(store, RedisHistory)
    for call in (lambda: store.recent("u1"), lambda: store.append([click(1)]), lambda: store.forget("u1")):
        with pytest.raises(UnavailableError, match="Redis cannot be used now"):
            call()


def shown(number: int, user: str | None = "u1", variant: str = "production", **more: Any) -> Impression:
    return Impression(f"r{number}", number, variant, "v1", ("p1", "p2"), (0.5, 0.25), user, "lamp", **more)


def test_impressions_are_kept_once_and_exported_in_time_order(store: HistoryStore) -> None:
    store.log_impressions([shown(2), shown(1, user=None, fallback="unknown_user")])
    store.log_impressions([shown(2)])
    table = store.impressions()
    assert table.schema == IMPRESSIONS
    assert table["request_id"].to_pylist() == ["r1", "r2"]
    assert table["item_ids"].to_pylist()[0] == ["p1", "p2"]
    assert table["fallback"].to_pylist() == ["unknown_user", None]
    assert store.impressions(since_us=2).num_rows == 1


def test_impressions_of_a_forgotten_user_go_and_do_not_come_back(store: HistoryStore) -> None:
    store.log_impressions([shown(1), shown(2, user="u2")])
    store.forget("u1")
    store.log_impressions([shown(3), shown(4, user="u2")])
    assert store.impressions()["request_id"].to_pylist() == ["r2", "r4"]


def test_old_impressions_are_dropped(store: HistoryStore) -> None:
    day = 86_400_000_000
    store.log_impressions([shown(1), shown(3 * day)])
    store.log_impressions([], keep_since_us=2 * day)
    assert store.impressions()["request_id"].to_pylist() == [f"r{3 * day}"]


def test_events_from_before_a_time_are_pruned_and_their_ids_with_them(store: HistoryStore) -> None:
    store.append([click(1), click(5), click(2, user="u2")])
    assert store.prune(keep_since_us=5) == 2
    assert store.export()["item_id"].to_pylist() == ["p5"]
    assert store.recent("u2").events == ()
    assert store.append([click(1)]) == [1]
    assert store.prune(keep_since_us=0) == 0


def test_the_overlap_of_a_shadow_is_the_mean_of_its_slates(store: HistoryStore) -> None:
    assert store.overlap("v1") == Overlap(0, None)
    store.log_impressions([shown(1), *(shown(number, variant="shadow", overlap=number / 4) for number in (1, 2, 3))])
    assert store.overlap("v1") == Overlap(3, 0.5)
    assert store.overlap("v2") == Overlap(0, None)


def test_slates_of_a_user_are_kept_no_longer_than_the_impressions(store: HistoryStore) -> None:
    day = schema.DAY_US
    for number in range(6):
        shown = Impression(f"r{number}", number * day, "production", "v1", (f"p{number}",), (0.5,), "u1")
        store.log_impressions([shown], keep_since_us=max(number - 2, 0) * day)
    assert [slate.item_ids for slate in store.slates_of("u1")] == [("p3",), ("p4",), ("p5",)]
    if isinstance(store, RedisHistory):
        key, _ = store._slate_keys("u1")
        assert store._redis.zcard(key) == 3, "the memory of a user who keeps coming is bounded"
    store.forget("u1")
    assert store.impressions().num_rows == 0


def test_slates_that_an_earlier_version_kept_in_redis_are_read_and_forgotten(redis_url: str) -> None:
    store = RedisHistory(redis_url, "earlier")
    store.log_impressions([Impression("r1", 5, "production", "v1", ("p1",), (0.5,), "u1")])
    store._redis.delete("{earlier}:slates-of:u1")
    store._redis.sadd("{earlier}:shown-to:u1", "0 r1 production")
    assert [slate.item_ids for slate in store.slates_of("u1")] == [("p1",)]
    store.forget("u1")
    assert store._redis.keys("{earlier}:shown*") == []
    store.close()
