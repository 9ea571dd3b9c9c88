"""Times as shops write them: zones, units, two columns; a unit that cannot be meant is refused."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.txrec.data.workbench import events_of, prepared, rejected, write
from txrec.config import TimeConfig
from txrec.data.formats.times import times

SECONDS = 1_714_557_909  # 2024-05-01 10:05:09 UTC


def read(texts: list[Any], clock: list[Any] | None = None, **settings: Any) -> list[str | None]:
    made = times(pl.Series(texts), TimeConfig(**settings), None if clock is None else pl.Series(clock))
    return made.cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d %H:%M:%S%.f").to_list()


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:05:09Z", "2024-05-01 10:05:09 UTC", "2024-05-01 12:05:09+02:00", "2024-05-01 12:05:09 +0200",
        "2024-05-01T12:05:09 CEST", "2024-05-01 06:05:09 EDT", "2024-05-01 19:05:09 JST", "2024-05-01 10:05:09 GMT",
        "2024-05-01 03:05:09 PDT", "2024-05-01T10:05:09.000000000Z", "2024-05-01 10:05:09,000", "2024-05-01t10:05:09z",
        "20240501T100509Z", "2024-05-01T12:05:09+02:00[Europe/Berlin]",
    ],
)  # fmt: skip
def test_times_that_name_their_zone_are_one_instant(text: str) -> None:
    assert read([text, "2024-05-01 00:00:00"])[0] == "2024-05-01 10:05:09"


@pytest.mark.parametrize("zone", ["CST", "IST", "BST"])
def test_an_abbreviation_of_several_zones_is_refused(zone: str) -> None:
    assert read([f"2024-05-01 10:05:09 {zone}", "2024-05-01"]) == [None, "2024-05-01 00:00:00"]


def test_times_of_browsers_are_read_with_their_offset() -> None:
    text = "Wed May 01 2024 12:05:09 GMT+0200 (Central European Summer Time)"
    assert read([text], format="%a %b %d %Y %H:%M:%S GMT%z") == ["2024-05-01 10:05:09"]


def test_blanks_around_numbers_are_no_part_of_them() -> None:
    assert read([f" {SECONDS} "], format="s") == ["2024-05-01 10:05:09"]


def test_nanoseconds_are_cut_to_microseconds() -> None:
    assert read(["2024-05-01T10:05:09.123456789Z"]) == ["2024-05-01 10:05:09.123456"]
    assert read([SECONDS * 10**9 + 999], format="ns") == ["2024-05-01 10:05:09"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_since_1970_are_read_in_their_unit_and_refused_in_a_coarser_one(unit: str, factor: int) -> None:
    assert read([SECONDS * factor], format=unit) == ["2024-05-01 10:05:09"]
    assert read([str(SECONDS * factor)], format=unit) == ["2024-05-01 10:05:09"]
    coarser = [SECONDS * 10**n for n in (0, 3, 6, 9) if 10**n < factor]
    assert read(coarser or [None], format=unit) == [None] * max(1, len(coarser))


def test_a_day_and_a_time_of_day_are_one_time_in_the_shops_zone() -> None:
    berlin = {"zone": "Europe/Berlin", "format": "%d.%m.%Y"}
    assert read(["01.05.2024", "31.03.2024"], ["12:05:09", "12:00"], **berlin) == [
        "2024-05-01 10:05:09", "2024-03-31 10:00:00",
    ]  # fmt: skip
    assert read(["2024-05-01"] * 3, ["1:05 PM", "12:05 am", "25:99"]) == [
        "2024-05-01 13:05:00",
        "2024-05-01 00:05:00",
        None,
    ]
    assert read(["2024-05-01"], ["36309000"], clock_unit="ms") == ["2024-05-01 10:05:09"]
    assert read(["20240501"], [36309], format="%Y%m%d") == ["2024-05-01 10:05:09"]


def test_a_pattern_may_name_the_zone() -> None:
    rfc = "%a, %d %b %Y %H:%M:%S %z"
    assert read(["Wed, 01 May 2024 12:05:09 +0200"], format=rfc, zone="Europe/Berlin") == ["2024-05-01 10:05:09"]
    assert read(["05/01/2024 06:05:09 EDT"], format="%m/%d/%Y %H:%M:%S %Z") == ["2024-05-01 10:05:09"]


def test_a_log_with_its_time_in_two_columns_is_prepared(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user,item,day,at\nu,a,2024-05-01,10:05\nu,b,2024-05-01,10:04\nu,c,2024-05-01,late\n")
    source = {"path": "events.csv", "columns": {"user_id": "user", "item_id": "item", "ts": "day"},
              "time": {"clock": "at"}, "constants": {"event": "view"}}  # fmt: skip
    _, data = prepared(tmp_path, {"events": [source]})
    assert events_of(data)["item"].to_list() == ["b", "a"]
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(3, "unparsable_time")]


def test_seconds_declared_as_milliseconds_lie_in_no_january_of_1970(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", f"user,item,at\nu,a,{SECONDS}\nu,b,{SECONDS * 1000}\n")
    source = {"path": "events.csv", "columns": {"user_id": "user", "item_id": "item", "ts": "at"},
              "time": {"format": "ms"}, "constants": {"event": "view"}}  # fmt: skip
    _, data = prepared(tmp_path, {"events": [source]})
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(1, "unparsable_time")]
