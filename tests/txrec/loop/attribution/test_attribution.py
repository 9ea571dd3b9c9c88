"""Attribution and live figures, against a join by hand."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from txrec import schema
from txrec.errors import DataError
from txrec.loop.attribution.attribution import HOUR_US, Windows, credit, events_of, slates_of
from txrec.loop.attribution.live_attribution import LiveAttribution, table_of
from txrec.loop.attribution.slate_figures import SUMS, rates
from txrec.online.history import IMPRESSIONS

WINDOWS = Windows({"click": 0.5, "view": 0.5, "cart": 2.0, "purchase": 5.0}, reformulation_s=600.0)
SHARED = Windows(WINDOWS.hours, "shared", 600.0)
Row = dict[str, Any]


def log(seed: int, users: int = 12, slates: int = 150, events: int = 400) -> tuple[list[Row], list[Row]]:
    """A day of few users and products, so that everything collides: shadows, anonymous slates, wrong requests."""
    rng = np.random.default_rng(seed)
    impressions: list[dict[str, Any]] = []
    happened: list[dict[str, Any]] = []
    for number in range(slates):
        user = None if rng.random() < 0.2 else f"u{rng.integers(users)}"
        items = rng.permutation(8)[: rng.integers(0, 5)]
        row: dict[str, Any] = {
            "request_id": f"r{number}",
            "variant": str(rng.choice(["production", "canary"])),
            "ts": int(rng.integers(24 * HOUR_US // 600_000_000) * 600_000_000),  # ties
            "user_id": user,
            "model_version": f"v{rng.integers(2)}",
            "query": str(rng.choice(["lamp", "chair"])) if rng.random() < 0.5 else None,
            "fallback": "ranker_unavailable" if rng.random() < 0.1 else None,
            "item_ids": [f"p{item}" for item in items],
            "scores": [0.5] * len(items),
            "overlap": None,
        }
        impressions.append(row)
        if rng.random() < 0.2:
            impressions.append({**row, "variant": "shadow", "item_ids": ["p7"], "scores": [0.1], "overlap": 0.0})
    for _ in range(events):
        request = None if rng.random() < 0.5 else f"r{rng.integers(slates + 5)}"
        happened.append(
            {
                "user_id": f"u{rng.integers(users)}",
                "ts": int(rng.integers(26 * HOUR_US // 60_000_000) * 60_000_000),
                "event": str(rng.choice(["click", "view", "cart", "purchase", "search", "rate"])),
                "item_id": f"p{rng.integers(8)}",
                "query": None,
                "session_id": None,
                "request_id": request,
                "value": float(rng.integers(1, 9)),
            }
        )
        if happened[-1]["event"] == "search":
            happened[-1]["item_id"] = None
    for slate in impressions[::3]:  # events that really follow
        if slate["user_id"] and slate["item_ids"]:
            item = str(rng.choice(slate["item_ids"]))
            event = {"event": "click", "ts": slate["ts"] + 1, "item_id": item, "request_id": slate["request_id"]}
            happened.append({**happened[0], **event, "user_id": slate["user_id"]})
    return impressions, happened


SLATE, EVENT = (rows[0] for rows in log(0))


def frames(impressions: list[Row], events: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame]:
    tables = (pa.Table.from_pylist(impressions, IMPRESSIONS), pa.Table.from_pylist(events, schema.EVENTS))
    first, second = (pl.DataFrame(pl.from_arrow(table)) for table in tables)
    return first, second


def by_hand(impressions: list[Row], events: list[Row], windows: Windows) -> list[tuple[Any, ...]]:
    """(request, place, event, time, weight, value) of every credited event, one event after another."""
    answered = [row for row in impressions if row["variant"] != "shadow"]
    found = []
    for event in events:
        if event["event"] not in windows.hours or event["item_id"] is None:
            continue
        candidates = []
        for slate in answered:
            wait = event["ts"] - slate["ts"]
            if event["item_id"] not in slate["item_ids"] or not 0 <= wait <= windows.hours[event["event"]] * HOUR_US:
                continue
            if event["request_id"] is not None:
                fits = slate["request_id"] == event["request_id"] and slate["user_id"] in (None, event["user_id"])
            else:
                fits = slate["user_id"] == event["user_id"]
            if fits:
                candidates.append(slate)
        if event["request_id"] is None and windows.model == "last_touch" and candidates:
            candidates = [max(candidates, key=lambda slate: (slate["ts"], slate["request_id"]))]
        for slate in candidates:
            weight = 1 / len(candidates)
            place = slate["item_ids"].index(event["item_id"])
            found.append((slate["request_id"], place, event["event"], event["ts"], weight, weight * event["value"]))
    return sorted(found)


@pytest.mark.parametrize("windows", [WINDOWS, SHARED], ids=["last touch", "shared"])
@pytest.mark.parametrize("seed", range(4))
def test_credits_are_those_of_a_join_by_hand(seed: int, windows: Windows) -> None:
    impressions, events = log(seed)
    expected = by_hand(impressions, events, windows)
    shown, happened = frames(impressions, events)
    found = credit(slates_of(shown), events_of(happened), windows)
    rows = sorted(found.select("request_id", "place", "event", "ts", "weight", "value").rows())
    assert len(expected) > 40
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row[:4] == other[:4]
        assert row[4:] == pytest.approx(other[4:])


def figures_by_hand(impressions: list[Row], credits_: list[tuple[Any, ...]]) -> dict[str, float]:
    slates = [row for row in impressions if row["variant"] != "shadow"]
    clicks = {(one[0], one[1]) for one in credits_ if one[2] in ("click", "view")}
    ndcg, mrr, clicked = 0.0, 0.0, 0
    for slate in slates:
        places = sorted(place for request, place in clicks if request == slate["request_id"])
        if places:
            clicked += 1
            mrr += 1 / (places[0] + 1)
            ideal = sum(1 / np.log2(rank + 2) for rank in range(len(places)))
            ndcg += sum(1 / np.log2(place + 2) for place in places) / ideal
    searches = [row for row in slates if row["query"]]
    users = len({row["user_id"] or f"anonymous {row['request_id']}" for row in slates})
    return {
        "click_rate": clicked / len(slates),
        "clicks_per_slate": len(clicks) / len(slates),
        "revenue_per_slate": sum(one[5] for one in credits_ if one[2] == "purchase") / len(slates),
        "clicks_per_user": len(clicks) / users,
        "revenue_per_user": sum(one[5] for one in credits_ if one[2] == "purchase") / users,
        "conversion": len({one[0] for one in credits_ if one[2] == "purchase"}) / len(slates),
        "ndcg": ndcg / clicked,
        "mrr": mrr / clicked,
        "no_result_rate": sum(not row["item_ids"] for row in searches) / len(searches),
        "fallback_rate": sum(row["fallback"] is not None for row in slates) / len(slates),
    }


@pytest.mark.parametrize("windows", [WINDOWS, SHARED], ids=["last touch", "shared"])
def test_figures_are_those_of_a_join_by_hand(windows: Windows) -> None:
    impressions, events = log(7)
    found = rates(table_of(*frames(impressions, events), windows))
    for part, rows in (
        ("all", impressions),
        ("canary", [row for row in impressions if row["variant"] in ("canary", "shadow")]),
    ):
        requests = {row["request_id"] for row in rows if row["variant"] != "shadow"}
        credits_ = [one for one in by_hand(impressions, events, windows) if one[0] in requests]
        expected = figures_by_hand([row for row in rows if row["request_id"] in requests], credits_)
        mine = found["all" if part == "all" else "variant"][part]
        assert {name: mine[name].value for name in expected} == pytest.approx(expected)
    hours = found["hour"].values()
    assert sum(hour["click_rate"].count for hour in hours) == found["all"]["all"]["click_rate"].count
    assert sum(place["click_rate"].count for place in found["place"].values()) == sum(
        len(row["item_ids"]) for row in impressions if row["variant"] != "shadow"
    )


def test_a_search_that_is_typed_again_otherwise_is_a_reformulation() -> None:
    def search(number: int, minute: int, query: str | None) -> Row:
        return {**SLATE, "request_id": f"r{number}", "user_id": "u1", "variant": "production",
                "ts": minute * 60_000_000, "query": query, "item_ids": ["p1"], "scores": [0.5]}  # fmt: skip

    slates = [
        search(1, 0, "lmap"),
        search(2, 1, "lamp"),
        search(3, 2, " Lamp"),
        search(4, 30, "chair"),
        search(5, 31, None),
    ]
    click = {**EVENT, "user_id": "u1", "event": "click", "item_id": "p1", "request_id": "r3", "ts": 150_000_000}
    found = rates(table_of(*frames(slates, [click]), WINDOWS))["all"]["all"]
    assert found["reformulation_rate"].value == pytest.approx(1 / 4)  # r1; r2 was typed again the same
    assert found["no_click_rate"].value == pytest.approx(3 / 4)


def sorted_rows(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    return table.select("slice", "part", "figure", *SUMS).sort("slice", "part", "figure").rows()


def test_late_events_correct_their_hours_until_nothing_differs_from_one_join() -> None:
    impressions, events = log(3)
    rng = np.random.default_rng(0)
    live = LiveAttribution(WINDOWS, keep_us=100 * HOUR_US)
    order = rng.permutation(len(events))
    by_time = sorted(impressions, key=lambda row: row["ts"])
    for part in range(5):
        shown, happened = frames(by_time[part::5], [events[row] for row in order[part::5]])
        live.update(shown, happened, 30 * HOUR_US)
        live.update(shown, happened.clear(), 30 * HOUR_US)  # the same slates again change nothing
    whole = table_of(*frames(impressions, events), WINDOWS)
    found = live.table()
    assert [row[:3] for row in sorted_rows(found)] == [row[:3] for row in sorted_rows(whole)]
    assert np.array([row[3:] for row in sorted_rows(found)]) == pytest.approx(
        np.array([row[3:] for row in sorted_rows(whole)])
    )


def test_a_late_event_changes_the_hour_of_its_slate_alone() -> None:
    slate = {**SLATE, "user_id": "u1", "variant": "production", "item_ids": ["p1"], "scores": [0.5]}
    slates = [{**slate, "request_id": f"r{hour}", "ts": hour * HOUR_US} for hour in range(5)]
    live = LiveAttribution(WINDOWS, keep_us=100 * HOUR_US)
    shown, nothing = frames(slates, [])
    live.update(shown, nothing, 6 * HOUR_US)
    before = live.figures()["hour"]
    late = {
        **EVENT,
        "user_id": "u1",
        "event": "click",
        "item_id": "p1",
        "request_id": None,
        "ts": 2 * HOUR_US + 5,
    }
    _, happened = frames([], [late])
    assert "1970-01-01T02" in live.update(shown.clear(), happened, 6 * HOUR_US)
    after = live.figures()["hour"]
    assert [hour for hour in after if after[hour] != before[hour]] == ["1970-01-01T02"]
    assert after["1970-01-01T02"]["click_rate"].value == 1.0


def test_old_slates_leave_the_figures() -> None:
    slate = {**SLATE, "user_id": "u1", "variant": "production"}
    shown, happened = frames([{**slate, "request_id": f"r{hour}", "ts": hour * HOUR_US} for hour in range(5)], [])
    live = LiveAttribution(WINDOWS, keep_us=2 * HOUR_US)
    live.update(shown, happened, 4 * HOUR_US)
    assert sorted(live.figures()["hour"]) == ["1970-01-01T02", "1970-01-01T03", "1970-01-01T04"]
    live.update(shown.clear(), happened, 6 * HOUR_US)
    assert sorted(live.figures()["hour"]) == ["1970-01-01T04"]


@pytest.mark.slow
def test_intervals_take_users_as_clusters() -> None:
    rng = np.random.default_rng(0)
    slate = {**SLATE, "variant": "production", "item_ids": ["p1"], "scores": [0.5]}
    covered = 0
    for _ in range(60):
        taste = rng.beta(1, 3, 60)
        slates, clicks = [], []
        for user in range(60):
            for number in range(rng.integers(1, 12)):
                request = f"r{user}-{number}"
                slates.append({**slate, "request_id": request, "user_id": f"u{user}", "ts": number * HOUR_US})
                if rng.random() < taste[user]:
                    clicks.append({**EVENT, "user_id": f"u{user}", "event": "click", "item_id": "p1",
                                   "request_id": request, "ts": number * HOUR_US + 1})  # fmt: skip
        found = rates(table_of(*frames(slates, clicks), WINDOWS))["all"]["all"]["click_rate"]
        covered += found.low <= 0.25 <= found.high
    assert covered >= 52


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(DataError, match="column 'request_id' is missing"):
        slates_of(pl.DataFrame({"a": [1]}))
