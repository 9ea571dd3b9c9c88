"""Records inside texts, lists of pairs, long tables of properties, and days as spreadsheets count them."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.txrec.data.workbench import configured, events_of, prepared, rejected, write
from txrec.config import SourceConfig, TimeConfig
from txrec.data.detection.declaration import declare
from txrec.data.formats.json_unfolding import object_of_pairs
from txrec.data.formats.times import times
from txrec.data.preparation.source_check import check
from txrec.errors import DataError

T0 = 1_714_521_600
"""2024-05-01, seconds."""


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


def message(n: int) -> dict[str, Any]:
    inner = {"user": f"u{n % 7}", "sku": f"p{n % 5}", "type": "view" if n % 3 else "purchase", "ts": T0 + 60 * n}
    return {"topic": "events", "offset": n, "key": f"k{n}", "value": json.dumps(inner)}


def test_a_record_inside_a_text_is_read_and_a_broken_one_costs_one_line(tmp_path: Path) -> None:
    broken = {"topic": "events", "offset": 99, "key": "k", "value": '{"user": "u1", "sku'}
    write(tmp_path, "log.jsonl", lines([*(message(n) for n in range(40)), broken]))
    source = {
        "path": "log.jsonl",
        "format": "jsonl",
        "embedded": ["value"],
        "columns": {"user_id": "value.user", "item_id": "value.sku", "event": "value.type", "ts": "value.ts"},
        "time": {"format": "s"},
    }
    _, data = prepared(tmp_path, {"events": [source]})
    assert events_of(data).height == 40
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(41, "missing_user")]
    assert '"sku' in rejected(data)[0]["raw"]
    assert set(events_of(data)["item"]) == {f"p{n}" for n in range(5)}


def test_records_inside_texts_are_declared_by_init(tmp_path: Path) -> None:
    write(tmp_path, "log.jsonl", lines([message(n) for n in range(40)]))
    made = declare([str(tmp_path / "log.jsonl")], "shop")
    (source,) = made.config.data.events
    assert source.embedded == ("value",)
    assert source.columns["user_id"] == "value.user"
    assert made.check is not None
    assert made.check.sources[0].events == {"view": 26, "purchase": 14}


def test_a_record_of_a_change_feed_is_read_by_its_state_after_the_change(tmp_path: Path) -> None:
    rows = []
    for n in range(60):
        after = {"id": n, "user_id": f"u{n % 7}", "product_id": f"p{n % 5}", "event_type": "view", "created_at": T0 + n}
        op = "u" if n % 10 == 9 else "c"
        before = {**after, "product_id": "old"} if op == "u" else None
        rows.append({"payload": {"before": before, "after": after, "op": op, "ts_ms": 1000 * (T0 + n) + 5}})
    rows.append({"payload": {"before": rows[0]["payload"]["after"], "after": None, "op": "d", "ts_ms": 1000 * T0}})
    write(tmp_path, "cdc.jsonl", lines(rows))
    made = declare([str(tmp_path / "cdc.jsonl")], "shop")
    (source,) = made.config.data.events
    assert source.columns["item_id"] == "payload.after.product_id"
    assert source.columns["user_id"] == "payload.after.user_id"
    assert made.check is not None
    assert made.check.sources[0].num_kept == 54
    assert made.check.sources[0].rejected == {"missing_user": 1, "excluded_by_rule": 6}


def ga4(n: int) -> dict[str, Any]:
    name = ("view_item", "view_search_results", "add_to_cart", "purchase", "page_view")[n % 5]
    params = [{"key": "ga_session_id", "value": {"string_value": None, "int_value": str(1000 + n // 5)}}]
    if name == "view_search_results":
        params.append({"key": "search_term", "value": {"string_value": f"lamp {n % 3}", "int_value": None}})
    items = [{"item_id": f"SKU{(n + k) % 6}", "item_name": f"Lamp {(n + k) % 6}", "price": 19.5} for k in range(2)]
    return {
        "event_date": "20240501",
        "event_timestamp": str((T0 + 60 * n) * 1_000_000),
        "event_name": name,
        "event_params": params,
        "user_id": None,
        "user_pseudo_id": f"{1000 + n // 10}.{2000 + n // 10}",
        "user_first_touch_timestamp": str(T0 * 1_000_000 - 5),
        "device": {"category": "mobile"},
        "items": items if name in ("view_item", "add_to_cart", "purchase") else [],
    }


def test_an_analytics_export_of_pairs_and_items_is_read_without_editing(tmp_path: Path) -> None:
    write(tmp_path, "events.json", lines([ga4(n) for n in range(100)]))
    made = declare([str(tmp_path / "events.json")], "shop")
    (source,) = made.config.data.events
    assert source.pairs == ("event_params",)
    assert source.rows == ("items",)
    assert source.columns["query"] == "event_params.search_term"
    assert source.columns["session_id"] == "event_params.ga_session_id"
    assert source.columns["user_id"] == "user_pseudo_id"
    assert (source.columns["ts"], source.time.format) == ("event_timestamp", "us")
    assert made.check is not None
    (one,) = made.check.sources
    assert one.events == {"view": 40, "search": 20, "cart": 40, "purchase": 40}
    assert one.span() == "2024-05-01 00:00 to 2024-05-01 01:38"


def test_of_a_pair_the_value_that_is_there_counts() -> None:
    pairs = [{"key": "a", "value": {"string_value": None, "int_value": 3}}, {"key": "b", "value": "x"}]
    assert object_of_pairs(pairs) == {"a": 3, "b": "x"}
    assert object_of_pairs([{"id": 1}]) == [{"id": 1}]


LONG = {
    "path": "properties_part*.csv",
    "columns": {"item_id": "itemid", "category": "categoryid"},
    "long": {"property": "property", "value": "value", "time": "timestamp"},
    "time": {"format": "ms"},
}


def long_shop(folder: Path) -> None:
    rows = ["timestamp,itemid,property,value"]
    rows += [f"{1000 * (T0 + 10 * day)},{i},categoryid,{100 + i + day}" for day in (0, 2) for i in range(5)]
    rows += [f"{1000 * T0},{i},available,1" for i in range(4)] + [f"{1000 * T0},7,888,n3"]
    write(folder, "properties_part1.csv", "\n".join(rows) + "\n")
    later = [f"{1000 * (T0 + 30)},2,available,0", f"{1000 * (T0 + 5)},0,categoryid,55", "soon,1,available,1"]
    write(folder, "properties_part2.csv", "\n".join([rows[0], *later]) + "\n")
    log = [f"{1000 * (T0 + n)},u{n % 4},{('view', 'cart')[n % 2]},{n % 5}" for n in range(40)]
    write(folder, "events.csv", "\n".join(["timestamp,visitorid,event,itemid", *log]) + "\n")


LOG = {
    "path": "events.csv",
    "columns": {"user_id": "visitorid", "item_id": "itemid", "ts": "timestamp"},
    "time": {"format": "ms"},
}


def catalogue(folder: Path, **long: str) -> dict[str, tuple[list[str], bool]]:
    source = {**LONG, "long": {**LONG["long"], **long}}  # type: ignore[dict-item]
    _, data = prepared(folder, {"events": [LOG], "items": [source]})
    items = pl.DataFrame(pl.from_arrow(data.items))
    return {row["item_id"]: (row["category"], row["available"]) for row in items.to_dicts()}


def test_rows_of_properties_become_products_with_their_latest_values(tmp_path: Path) -> None:
    long_shop(tmp_path)
    items = catalogue(tmp_path)
    assert items["0"] == (["102"], True)
    assert items["2"] == (["104"], False)
    assert items["4"][0] == ["106"]


def test_later_values_of_properties_are_passed_over(tmp_path: Path) -> None:
    long_shop(tmp_path)
    items = catalogue(tmp_path, until="2024-05-01T00:00:09")
    assert items["0"] == (["55"], True)
    assert items["2"] == (["102"], True)


def test_a_row_of_properties_without_a_time_is_rejected_with_its_reason(tmp_path: Path) -> None:
    long_shop(tmp_path)
    _, data = prepared(tmp_path, {"events": [LOG], "items": [LONG]})
    assert [(row["reason"], row["raw"]) for row in rejected(data)] == [("unparsable_time", "soon,1,available,1")]


def test_rows_of_properties_are_declared_by_init(tmp_path: Path) -> None:
    long_shop(tmp_path)
    made = declare([str(tmp_path / "events.csv"), str(tmp_path / "properties_part1.csv")], "shop")
    (source,) = made.config.data.items
    assert source.long is not None
    assert (source.long.property, source.long.value, source.long.time) == ("property", "value", "timestamp")
    assert source.columns == {"item_id": "itemid", "category": "categoryid"}
    assert made.check is not None
    assert {one.table: one.num_kept for one in made.check.sources} == {"events": 40, "items": 6}


def test_a_long_table_without_its_columns_is_an_error_that_names_them(tmp_path: Path) -> None:
    long_shop(tmp_path)
    wrong = {**LONG, "long": {"property": "attribut", "value": "value"}}
    with pytest.raises(DataError, match=r"no column 'attribut' \(needed for long\); columns found: timestamp, itemid"):
        check(configured(tmp_path, {"events": [LOG], "items": [wrong]}))


def test_pairs_need_a_format_that_can_hold_lists() -> None:
    with pytest.raises(ValueError, match="pairs = \\['params'\\] needs a file of format jsonl or parquet"):
        SourceConfig(path="a.csv", pairs=("params",))


def test_objects_as_texts_of_a_csv_column_are_read_and_declared_by_init(tmp_path: Path) -> None:
    rows = [["id", "anonymous_id", "event", "sent_at", "properties"]]
    for n in range(40):
        inner = json.dumps({"product_id": f"p{n % 7}", "price": 3, "cart": {"size": n}}).replace('"', '""')
        rows.append([f"m{n}", f"a{n % 9}", "product_viewed", str(T0 + 60 * n), f'"{inner}"'])
    write(tmp_path, "tracks.csv", "\n".join(map(",".join, rows)) + '\nm99,a1,product_viewed,1714521600,"{oops"\n')
    made = declare([str(tmp_path / "tracks.csv")], "shop")
    (source,) = made.config.data.events
    assert source.embedded == ("properties",)
    assert source.columns["item_id"] == "properties.product_id"
    _, data = prepared(tmp_path, {"events": [source.model_dump(exclude_defaults=True)]})
    assert set(events_of(data)["item"]) == {f"p{n}" for n in range(7)}
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(41, "missing_item")]


def test_pairs_of_a_parquet_file_are_read_and_declared_by_init(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ga4(n) for n in range(100)]), tmp_path / "events.parquet")
    made = declare([str(tmp_path / "events.parquet")], "shop")
    (source,) = made.config.data.events
    assert (source.pairs, source.rows) == (("event_params",), ("items",))
    assert source.columns["query"] == "event_params.search_term"
    assert made.check is not None
    assert made.check.sources[0].events == {"view": 40, "search": 20, "cart": 40, "purchase": 40}


def test_days_of_spreadsheets_are_times_of_their_zone() -> None:
    column = pl.Series(["45234.5", "45234,25", "60", "1699099200", "x"])
    read = times(column, TimeConfig(format="excel"))
    moments = [None if us is None else str(pl.Series([us]).cast(pl.Datetime("us"))[0]) for us in read]
    assert moments == ["2023-11-04 12:00:00", "2023-11-04 06:00:00", "1900-02-28 00:00:00", None, None]
    berlin = times(pl.Series([45234.5]), TimeConfig(format="excel", zone="Europe/Berlin"))
    assert str(berlin.cast(pl.Datetime("us"))[0]) == "2023-11-04 11:00:00"
    assert str(times(pl.Series([19723]), TimeConfig(format="d")).cast(pl.Datetime("us"))[0]) == "2024-01-01 00:00:00"


@pytest.mark.parametrize(("first", "unit"), [(45234.5, "excel"), (19723, "d")])
def test_days_that_are_numbers_are_told_apart_and_asked_about(tmp_path: Path, first: float, unit: str) -> None:
    rows = [f"u{n % 5},p{n % 4},{first + n / 4}" for n in range(40)]
    write(tmp_path, "log.csv", "\n".join(["user_id,product_id,order_date", *rows]) + "\n")
    made = declare([str(tmp_path / "log.csv")], "shop")
    assert made.config.data.events[0].time.format == unit
    assert any("order_date" in question and "days" in question for question in made.questions)
