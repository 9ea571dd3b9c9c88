"""A preparation that differs from the last one stops, says what differs, and goes on once somebody accepts it."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.txrec.data.workbench import HEADER, configured, prepared, write
from tests.txrec.data.workbench import events_of as all_events
from txrec.config import Config
from txrec.errors import DataError
from txrec.loop.drift import preparation_check
from txrec.loop.drift.data_checks import CheckDecision
from txrec.loop.drift.preparation_check import events_of

DAYS = 20


def rows(days: int, without: str = "") -> str:
    """Sixty users; everybody views and most click each day."""
    rng = np.random.default_rng(0)
    lines = []
    for day in range(days):
        for user in rng.permutation(60)[: 45 + rng.integers(6)]:
            for kind in ("view", "click", "purchase"):
                second = int(rng.integers(80_000))
                item = rng.integers(12)
                if rng.random() < 0.7 and kind != without:
                    time = f"2024-03-{day + 1:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
                    lines.append(f"u{user},p{item},{time},{kind},lamp")
    return HEADER + "\n".join(lines) + "\n"


def check(folder: Path, accept: str = "", **settings: object) -> CheckDecision:
    _, data = prepared(folder)
    return preparation_check.run(configured(folder).model_copy(update=settings), data, accept)


def test_the_same_shop_a_day_later_passes(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(DAYS - 1))
    assert check(tmp_path).days == 0  # nothing to compare with
    write(tmp_path, "events.csv", rows(DAYS))
    found = check(tmp_path)
    assert (found.outcome, found.days) == ("pass", 1)


def test_lost_events_stop_the_pipeline_until_somebody_accepts_them(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(DAYS - 1))
    check(tmp_path)
    write(tmp_path, "events.csv", rows(DAYS, without="purchase"))
    with pytest.raises(DataError, match=r"volume of purchase on known days 0, .*--accept"):
        check(tmp_path)
    with pytest.raises(DataError):  # again: the break does not become the new standard
        check(tmp_path)
    assert check(tmp_path, accept="tills are logged elsewhere now").accepted.endswith(
        ": tills are logged elsewhere now"
    )
    recorded = json.loads((configured(tmp_path).reports_dir / "checks.json").read_text())
    assert recorded["outcome"] == "break"
    assert recorded["accepted"].endswith("tills are logged elsewhere now")
    assert check(tmp_path).outcome == "pass"


def test_a_log_that_ends_too_long_ago_is_a_break_from_the_first_preparation_on(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(DAYS))
    _, data = prepared(tmp_path)
    config = configured(tmp_path)
    fresh = config.model_copy(update={"checks": config.checks.model_copy(update={"max_age_h": 24.0})})
    end_s = data.meta.end_ts / 1e6
    assert preparation_check.run(fresh, data, clock=lambda: end_s + 23 * 3_600).outcome == "pass"
    with pytest.raises(DataError, match=r"age of the last event 25\.0 h > 24 h \(checks.max_age_h\).*--accept"):
        preparation_check.run(fresh, data, clock=lambda: end_s + 25 * 3_600)
    accepted = preparation_check.run(fresh, data, "the shop was closed", clock=lambda: end_s + 25 * 3_600)
    assert accepted.accepted.endswith("the shop was closed")
    assert preparation_check.run(config, data, clock=lambda: end_s + 9e6).outcome == "pass"


def test_other_settings_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(DAYS - 1))
    check(tmp_path)
    write(tmp_path, "events.csv", rows(DAYS, without="purchase"))
    other = configured(tmp_path, prepare={"session_gap_s": 60.0})
    _, data = prepared(tmp_path)
    assert preparation_check.run(other, data).outcome == "pass"


def test_events_are_those_that_were_prepared(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(3))
    _, data = prepared(tmp_path)
    mine, expected = events_of(data), all_events(data)
    pairs = [
        sorted(zip(*(frame[name].to_list() for name in ("user_id", "ts", item)), strict=True))
        for frame, item in ((mine, "item_id"), (expected, "item"))
    ]
    assert pairs[0] == pairs[1]
    assert mine["query"].unique().to_list() == ["lamp"]
    assert set(mine["event"]) == {"view", "click", "purchase"}
    part = events_of(data, share=0.5)
    users = set(part["user_id"])
    assert 0.2 < len(users) / 60 < 0.8
    assert part.height == sum(user in users for user in mine["user_id"])


def test_a_large_log_is_judged_by_a_part_of_its_users(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", rows(DAYS))
    tree = configured(tmp_path).model_dump(mode="python")
    tree["checks"]["max_events"] = 500
    _, data = prepared(tmp_path)
    preparation_check.run(Config.model_validate(tree), data)
    kept = json.loads((configured(tmp_path).reports_dir / "checks.json").read_text())["profile"]
    assert sum(volumes[1] for volumes in kept["days"].values()) < 500
