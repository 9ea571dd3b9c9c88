"""Each cleaning rule on hand-made histories."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.txrec.data.workbench import HEADER, events_of, prepared, rejected, write
from txrec.config import PrepareConfig
from txrec.data.preparation import clean
from txrec.data.sources.canonical import EVENT_COLUMNS
from txrec.schema import EventKind, Reason

S = 1_000_000


def _events(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """(user, seconds, item) and then what else is known by name."""
    records = []
    for origin, (user, seconds, item, *more) in enumerate(rows):
        extra = more[0] if more else {}
        record = dict.fromkeys(EVENT_COLUMNS) | {
            "user_id": user, "ts": int(seconds * S), "event": int(EventKind.CLICK), "item_id": item, "origin": origin
        }  # fmt: skip
        records.append(record | extra)
    return clean.in_order(pl.DataFrame(records, schema=EVENT_COLUMNS))


def test_users_are_numbered_by_their_first_row_whatever_codes_their_ids_have() -> None:
    assert clean._by_first_row(np.array([7, 2, 7, 0, 2], np.uint32)).tolist() == [0, 1, 0, 2, 1]
    assert clean._by_first_row(np.array([], np.uint32)).tolist() == []


def test_events_of_equal_time_keep_the_order_of_the_input() -> None:
    events = _events(("b", 5, "1"), ("a", 5, "2"), ("b", 5, "3"), ("a", 1, "4"), ("b", 5, "5"))
    assert events.filter(pl.col("user_id") == "b")["item_id"].to_list() == ["1", "3", "5"]
    assert events.filter(pl.col("user_id") == "a")["item_id"].to_list() == ["4", "2"]


def test_only_the_same_instant_is_a_duplicate_without_a_window() -> None:
    events = _events(("a", 1, "x"), ("a", 1, "y"), ("a", 1, "x"), ("a", 1.5, "x"))
    assert clean.duplicates(events, 0).tolist() == [False, False, True, False]


def test_a_stutter_within_the_window_leaves_its_first_event() -> None:
    events = _events(("a", 0, "x"), ("a", 4, "x"), ("a", 5, "y"), ("a", 8, "x"), ("a", 14, "x"), ("b", 8, "x"))
    assert clean.duplicates(events, 5).tolist() == [False, True, False, True, False, False]


@pytest.mark.parametrize("change", [{"event": 6}, {"query": "tea"}, {"item_id": "z"}, {"user_id": "b"}])
def test_another_kind_query_item_or_user_is_no_duplicate(change: dict[str, Any]) -> None:
    assert not clean.duplicates(_events(("a", 0, "x"), ("a", 0, "x", change)), 60).any()


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.sampled_from("xyz")), max_size=30),
    st.integers(0, 6),
)
def test_duplicates_agree_with_comparing_all_pairs(rows: list[tuple[str, int, str]], window: int) -> None:
    events = _events(*rows)
    last: dict[tuple[str, str], int] = {}
    expected = []
    for user, ts, item in events.select("user_id", "ts", "item_id").iter_rows():
        expected.append((user, item) in last and ts - last[user, item] <= window * S)
        last[user, item] = ts
    assert clean.duplicates(events, window).tolist() == expected


def test_a_robot_is_known_by_its_fastest_minute() -> None:
    fast = [("robot", 10 * n, str(n)) for n in range(6)]  # six events within 50 seconds
    slow = [("human", 100 * n, str(n)) for n in range(20)]
    events = _events(*fast, ("robot", 9_000, "later"), *slow)
    robots = events.filter(clean.bot_users_by_rate(events, 5))
    assert robots["user_id"].unique().to_list() == ["robot"]
    assert robots.height == 7
    assert not clean.bot_users_by_rate(events, 6).any()


def test_a_flood_on_one_item_takes_the_whole_user() -> None:
    events = _events(
        *[("robot", n, "x") for n in range(4)], ("robot", 9, "y"), *[("human", n, str(n)) for n in range(9)]
    )
    assert events.filter(clean.bot_users_by_item(events, 3))["user_id"].to_list() == ["robot"] * 5
    assert not clean.bot_users_by_item(events, 4).any()


def test_a_session_ends_with_a_pause_or_with_the_logs_own_id() -> None:
    one, two = {"session_id": "s1"}, {"session_id": "s2"}
    events = _events(
        ("a", 0, "x"), ("a", 10, "x"), ("a", 21, "x"), ("b", 0, "x", one), ("b", 1, "x", one), ("b", 2, "x", two)
    )
    assert clean.sessions(events, 10).tolist() == [0, 0, 1, 0, 0, 1]


def test_a_click_gets_the_query_of_the_search_with_its_request_id() -> None:
    search = {"event": int(EventKind.SEARCH), "query": "tea pot", "request_id": "r1"}
    events = _events(
        ("a", 0, None, search),
        ("a", 1, "x", {"request_id": "r1"}),
        ("a", 2, "y", {"request_id": "r2"}),
        ("a", 3, "z", {"request_id": "r1", "query": "own"}),
        ("b", 4, "x", {"request_id": "r1"}),
        ("a", 5, "w"),
    )
    filled = clean.fill_queries(events)
    assert filled["query"].to_list() == ["tea pot", "tea pot", None, "own", None, None]


def test_cleaning_nothing_is_fine() -> None:
    empty = clean.in_order(pl.DataFrame(schema=EVENT_COLUMNS))
    cfg = PrepareConfig(robot_events_per_minute=5, robot_item_flood=5)
    kept, dropped = clean.clean(empty, cfg, has_time=True)
    assert (kept.height, dropped) == (0, [])


def test_robots_are_quarantined_and_reported(tmp_path: Path) -> None:
    rows = [f"robot,i{n},2024-01-01 10:00:{n:02d},click,\n" for n in range(10)]
    rows += [f"u,i{n},2024-01-01 1{n}:00:00,click,\n" for n in range(5)]
    write(tmp_path, "events.csv", HEADER + "".join(rows))
    report, data = prepared(tmp_path, prepare={"robot_events_per_minute": 9})
    assert dict(report.total.rejected) == {Reason.ROBOT_RATE: 10}
    assert {row["reason"] for row in rejected(data)} == {"robot_rate"}
    assert data.sequences.user_id.tolist() == ["u"]


@pytest.mark.parametrize("partitions", [1, 3])
def test_k_core_repeats_until_nothing_is_rare(tmp_path: Path, partitions: int) -> None:
    pairs = ["a1", "a2", "b1", "b2", "c1", "c2", "d3", "d1", "e3", "e4"]  # 4 falls, so e, so 3, so d
    rows = [f"{user},{item},2024-01-0{n + 1},click,\n" for n, (user, item) in enumerate(map(tuple, pairs[:9]))]
    rows.append("e,4,2024-01-10,click,\n")
    write(tmp_path, "events.csv", HEADER + "".join(rows))
    report, data = prepared(
        tmp_path, prepare={"min_user_events": 2, "min_item_events": 2, "num_partitions": partitions}
    )
    events = events_of(data)
    assert sorted(zip(events["user_id"], events["item"], strict=True)) == [(p[0], p[1]) for p in pairs[:6]]
    assert report.total.kept + sum(report.total.rejected.values()) == 10
    assert {row["reason"] for row in rejected(data)} == {"rare_user", "rare_item"}
    assert np.array_equal(np.sort(data.sequences.user_id), ["a", "b", "c"])
