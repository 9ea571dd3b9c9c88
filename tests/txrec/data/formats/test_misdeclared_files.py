"""Files that are something else than declared: named, or rejected row by row, and never taken for rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.txrec.data.workbench import events_of, prepared, rejected, write, zipped
from txrec.errors import DataError

LOG = "user_id,item_id,ts\nu1,a,2024-01-01\nu2,b,2024-01-02\n"


def clicks(path: str, **more: Any) -> dict[str, Any]:
    """Clicks of a file in canonical columns."""
    return {"events": [{"path": path, "constants": {"event": "click"}, **more}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LOG.encode("utf-16"), r'UTF-16: declare encoding = "utf-16"'),
        (gzip.compress(LOG.encode()), r"packed by gzip: let its name end in \.gz"),
        (zipped(LOG.encode()), "a zip archive or a spreadsheet"),
        (b"PAR1" + LOG.encode(), 'declare format = "parquet"'),
    ],
)
def test_a_file_that_is_no_text_says_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, "events.csv", content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, clicks("events.csv"))


def test_a_plain_file_named_gz_is_not_called_truncated(tmp_path: Path) -> None:
    write(tmp_path, "events.csv.gz", LOG)
    with pytest.raises(DataError, match="is no gzip file"):
        prepared(tmp_path, clicks("events.csv.gz"))


def test_a_file_of_a_glob_with_another_delimiter_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "events-1.csv", LOG)
    write(tmp_path, "events-2.csv", LOG.replace(",", ";"))
    with pytest.raises(DataError, match=r"events-2\.csv: has none of the columns .* user_id;item_id;ts"):
        prepared(tmp_path, clicks("events-*.csv"))


def test_the_header_of_a_file_below_another_is_no_product_and_no_event(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title\na,One\nitem_id,title\nb,Two\n")
    write(tmp_path, "events.csv", LOG + LOG)
    _, data = prepared(tmp_path, {**clicks("events.csv"), "items": [{"path": "items.csv"}]})
    assert sorted(data.items["item_id"].to_pylist()) == ["a", "b"]
    assert [(row["row"], row["reason"]) for row in rejected(data) if row["reason"] != "duplicate"] == [
        (3, "repeated_header"), (2, "repeated_header"),
    ]  # fmt: skip


def _table(folder: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    else:
        write(folder, "rows.jsonl", "\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_list_of_several_prices_is_no_price(tmp_path: Path, kind: str) -> None:
    _table(tmp_path, kind, [{"item_id": "a", "price": [1, 2]}, {"item_id": "b", "price": [5]}])
    _, data = prepared(tmp_path, {"items": [{"path": f"rows.{kind}", "format": kind}]})
    assert [(row["item_id"], row["price"]) for row in data.items.to_pylist()] == [("b", 5.0)]
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(1, "unparsable_value")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_of_ids_are_an_error_that_says_how_they_become_rows(tmp_path: Path, kind: str) -> None:
    rows = [{"user_id": "u", "item_id": ["a", "b"], "ts": "2024-01-01"}]
    _table(tmp_path, kind, [*rows, {"user_id": "v", "item_id": ["c"], "ts": "2024-01-01"}])
    with pytest.raises(DataError, match=r"'item_id' holds lists of several ids, .*rows = \[\"item_id\"\]"):
        prepared(tmp_path, clicks(f"rows.{kind}", format=kind))
    _, data = prepared(tmp_path, clicks(f"rows.{kind}", format=kind, rows=["item_id"]))
    assert events_of(data)["item"].to_list() == ["a", "b", "c"]


def test_objects_as_prices_or_times_are_an_error_that_names_their_fields(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "item_id": "a", "ts": {"s": 1}, "price": {"amount": 2.0}}]
    _table(tmp_path, "parquet", rows)
    with pytest.raises(DataError, match=r"'ts' holds objects, which are no times.*ts\.s"):
        prepared(tmp_path, clicks("rows.parquet", format="parquet"))
    with pytest.raises(DataError, match=r"'price' holds objects, which are no numbers.*price\.amount"):
        prepared(tmp_path, {"items": [{"path": "rows.parquet", "format": "parquet"}]})


def test_infinite_ids_of_a_column_of_floats_are_missing(tmp_path: Path) -> None:
    table = pa.table({"user_id": [1.0, 2.0], "item_id": [5.0, float("inf")], "ts": ["2024-01-01"] * 2})
    pq.write_table(table, tmp_path / "rows.parquet")
    _, data = prepared(tmp_path, clicks("rows.parquet", format="parquet"))
    assert events_of(data).select("user_id", "item").rows() == [("1", "5")]
    assert [row["reason"] for row in rejected(data)] == ["missing_item"]


def test_a_python_literal_with_a_set_or_with_numbers_as_keys_is_read(tmp_path: Path) -> None:
    rows = ["{'user_id': 'u', 'item_id': 'a', 'ts': '2024-01-01', 'more': {'x'}}"]
    rows.append("{'user_id': 'v', 'item_id': 'b', 'ts': '2024-01-01', 3: b'x'}")
    write(tmp_path, "rows.jsonl", "\n".join(rows))
    _, data = prepared(tmp_path, clicks("rows.jsonl", format="jsonl"))
    assert events_of(data)["user_id"].to_list() == ["u", "v"]


def test_joined_files_that_are_empty_packed_or_repeat_a_column_are_named_or_read(tmp_path: Path) -> None:
    write(tmp_path, "lines.csv", "order,item_id\n1,a\n")
    data = clicks("lines.csv", join=[{"path": "heads.csv", "on": ["order", "order"]}])
    for content, message in (("", "heads.csv: the joined file is empty"), (LOG.encode("utf-16"), r"UTF-16: declare")):
        write(tmp_path, "heads.csv", content)
        with pytest.raises(DataError, match=message):
            prepared(tmp_path, data)
    write(tmp_path, "heads.csv", "order,user_id,ts,ts\n1,u,2024-01-01,2024-02-01\n")
    _, made = prepared(tmp_path, data)
    assert events_of(made)["ts"].to_list() == [1_704_067_200_000_000]


def test_the_header_of_a_long_table_below_another_is_no_product(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,p,v\n1,title,Lamp\nitem_id,p,v\n2,title,Cup\n")
    source = {"path": "items.csv", "long": {"property": "p", "value": "v"}}
    _, data = prepared(tmp_path, {"items": [source]})
    assert sorted(data.items["item_id"].to_pylist()) == ["1", "2"]
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(2, "repeated_header")]


def test_endless_stock_is_in_stock_and_unknown_words_of_stock_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,here\na,inf\nb,0\nc,perhaps\nd,3.0\n")
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv", "stock": {"vie": "here"}}]})
    assert {row["item_id"]: dict(row["stock"]) for row in data.items.to_pylist()} == {
        "a": {"vie": 1.0}, "b": {"vie": 0.0}, "c": {"vie": 1.0}, "d": {"vie": 3.0},
    }  # fmt: skip
    assert any("'perhaps' (1 rows)" in one for one in report.warnings())


def test_numbers_as_kinds_of_events_match_their_words_and_endless_quantities_no_rule(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u", "v"], "item_id": ["a", "b"], "ts": ["2024-01-01"] * 2, "kind": [1.0, 3.0],
                      "n": [1.0, float("-inf")]})  # fmt: skip
    pq.write_table(table, tmp_path / "rows.parquet")
    source: dict[str, Any] = {"path": "rows.parquet", "format": "parquet", "columns": {"event": "kind"}}
    source |= {"values": {"event": {"1": "view", "3": "purchase"}}, "reject": [{"column": "n", "below": 1}]}
    report, data = prepared(tmp_path, {"events": [source]})
    assert not [one for one in report.warnings() if "values.event" in one]
    assert [row["reason"] for row in rejected(data)] == ["unparsable_value"]
