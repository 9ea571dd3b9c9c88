"""Warnings on declarations: keys that come twice, words and joins that match nothing, infinite prices, time units."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.txrec.data.workbench import configured, events_of, prepared, rejected, write
from txrec.data.preparation.source_check import check
from txrec.errors import DataError

LINES = "order,item_id\n1,a\n2,b\n3,a\n"
ORDERS: dict[str, Any] = {
    "path": "lines.csv",
    "columns": {"user_id": "customer", "ts": "created"},
    "constants": {"event": "purchase"},
    "join": [{"path": "heads.csv", "on": ["order", "number"]}],
}


def both(folder: Path, data: dict[str, Any]) -> list[str]:
    """The warnings on sources, which the report and the check of the first rows share."""
    report, _ = prepared(folder, data)
    made = [one for one in report.warnings() if one.startswith("data.")]
    checked = check(configured(folder, data)).warnings()
    assert made == [one for one in checked if one.startswith("data.") and "of its rows rejected" not in one]
    return made


def test_a_joined_key_with_unlike_rows_is_a_warning_and_its_first_row_counts(tmp_path: Path) -> None:
    write(tmp_path, "lines.csv", LINES)
    heads = (
        "number,customer,created,note\n1,u1,2024-05-01,x\n2,u2,2024-05-01,\n1.0,u9,2024-05-02,x\n2,u2,2024-05-01,y\n"
    )
    write(tmp_path, "heads.csv", heads + "3,,2024-05-01,\n3,u3,2024-05-01,\n")
    (warning,) = both(tmp_path, {"events": [ORDERS]})
    assert warning == (
        "data.events.0: join.0 (heads.csv): 2 keys of 'number' (e.g. '1') have several rows that differ in customer, "
        "created; the first row of a key counts: keep one row per key, or put the right one first"
    )
    _, data = prepared(tmp_path, {"events": [ORDERS]})
    assert events_of(data).select("user_id", "item").rows() == [("u1", "a"), ("u2", "b")]


def test_keys_that_are_equal_without_blanks_do_not_repeat_the_rows(tmp_path: Path) -> None:
    write(tmp_path, "lines.csv", LINES)
    write(tmp_path, "heads.csv", "number,customer,created\n1,u1,2024-05-01\n1 ,u1,2024-05-01\n2,u2,2024-05-01\n")
    report, data = prepared(tmp_path, {"events": [ORDERS]})
    assert report.row_counts["events"].read == 3
    assert [row["reason"] for row in rejected(data)] == ["no_match_in_join"]


def test_all_files_of_a_joined_glob_are_joined(tmp_path: Path) -> None:
    write(tmp_path, "lines.csv", LINES)
    write(tmp_path, "heads-1.csv", "number,customer,created\n1,u1,2024-05-01\n")
    write(tmp_path, "heads-2.csv", "number,created,customer\n2,2024-05-01,u2\n3,2024-05-01,u3\n")
    source = {**ORDERS, "join": [{"path": "heads-*.csv", "on": ["order", "number"]}]}
    _, data = prepared(tmp_path, {"events": [source]})
    assert events_of(data)["user_id"].to_list() == ["u1", "u2", "u3"]


def test_an_optional_join_that_matches_no_row_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title\na,One\nb,Two\n")
    write(tmp_path, "brands.csv", "sku,maker\nSKU-a,Acme\n")
    join = {"path": "brands.csv", "on": ["item_id", "sku"], "required": False}
    source = {"path": "items.csv", "columns": {"brand": "maker"}, "join": [join]}
    assert "data.items.0.join.0 (brands.csv) matches no row" in both(tmp_path, {"items": [source]})
    write(tmp_path, "brands.csv", "sku,maker\na,Acme\n")
    assert both(tmp_path, {"items": [source]}) == []


CATALOGUE = "item_id,title,price,category\na,One,-1,x > y\nb,NA,19.90,x\nc,Two,,\n"


def test_words_for_nothing_and_separators_that_no_row_has_are_warnings(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", CATALOGUE)
    source: dict[str, Any] = {"path": "items.csv", "missing": {"price": ["0"], "title": ["NA"], "stock": ["x"]}}
    expected = ["missing.price.'0'", "missing.stock.'x'", "category_separator = '|'"]
    assert both(tmp_path, {"items": [{**source, "category_separator": "|"}]}) == [
        f"data.items.0.{setting} matches no row" for setting in expected
    ]
    fitting = {**source, "missing": {"price": ["-1"], "title": ["na"]}, "category_separator": " > "}
    assert both(tmp_path, {"items": [fitting]}) == []
    assert both(tmp_path, {"items": [{"path": "items.csv"}]}) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_words_for_nothing_hold_in_prices_and_categories_too(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "items.csv", CATALOGUE.replace("b,NA,19.90,x", "b,NA,19.90,none yet"))
    rows = {"item_id": ["a", "b"], "price": [-1.0, 19.9], "category": [["x", "y"], ["none yet"]]}
    pq.write_table(pa.table(rows), tmp_path / "items.parquet")
    missing = {"price": ["-1"], "category": ["None yet"]}
    source = {"path": f"items.{kind}", "format": kind, "missing": missing, "category_separator": " > "}
    _, data = prepared(tmp_path, {"items": [source]})
    rows = {row["item_id"]: (row["price"], row["category"]) for row in data.items.to_pylist()}
    assert (rows["a"], rows["b"]) == ((None, ["x", "y"]), (pytest.approx(19.9), None))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_infinite_prices_are_none_and_the_product_stays(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "items.csv", "item_id,title,price\na,One,inf\nb,Two,-Infinity\nc,Three,NaN\nd,Four,5\n")
    prices = [float("inf"), float("-inf"), float("nan"), 5.0]
    pq.write_table(pa.table({"item_id": list("abcd"), "price": prices}), tmp_path / "items.parquet")
    data = {"items": [{"path": f"items.{kind}", "format": kind}]}
    assert both(tmp_path, data) == ["data.items.0: 2 values of price are infinite, such as inf; they count as none"]
    _, made = prepared(tmp_path, data)
    assert sorted((row["item_id"], row["price"]) for row in made.items.to_pylist()) == [
        ("a", None), ("b", None), ("c", None), ("d", 5.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "value", "unit", "name"),
    [
        ("s", 1714550400000, "ms", "milliseconds"),
        ("ms", 1714550400000000, "us", "microseconds"),
        ("ms", 1714550400, "s", "seconds"),
        ("iso", 1714550400, "s", "seconds"),
        ("%Y-%m-%d", 1714550400000, "ms", "milliseconds"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_in_another_unit_are_a_warning_that_names_it(
    tmp_path: Path, kind: str, declared: str, value: int, unit: str, name: str
) -> None:
    write(tmp_path, "events.csv", f"user_id,item_id,ts\nu,a,{value}\nu,b,{value + 1}\nu,c,x\n")
    table = pa.table({"user_id": ["u", "u", "u"], "item_id": list("abc"), "ts": [value, value + 1, None]})
    pq.write_table(table, tmp_path / "events.parquet")
    source = {"path": f"events.{kind}", "format": kind, "constants": {"event": "view"}, "time": {"format": declared}}
    (warning,) = [one for one in both(tmp_path, {"events": [source]}) if "1970" in one]
    assert warning == (
        f"data.events.0: 2 times such as {value} are rejected that look like {name} since 1970, while time.format = "
        f'"{declared}": declare time = {{ format = "{unit}" }}'
    )


def test_times_that_lie_in_the_future_are_no_other_unit(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user_id,item_id,ts\nu,a,2999-01-01\nu,b,2024-01-01\n")
    assert both(tmp_path, {"events": [{"path": "events.csv", "constants": {"event": "view"}}]}) == []


def test_the_error_of_a_log_that_is_rejected_whole_names_the_unit(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user_id,item_id,ts\nu,a,1714550400000\nu,b,1714550400001\n")
    source = {"path": "events.csv", "constants": {"event": "view"}, "time": {"format": "s"}}
    with pytest.raises(DataError, match=r"future_time 2.*look like milliseconds since 1970.*format = \"ms\""):
        prepared(tmp_path, {"events": [source]}, {"max_rejected_frac": 0.5})
