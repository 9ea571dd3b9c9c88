"""Files as shops export them: nested JSON, preambles, uneven rows, archives, folders as columns, line ends."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tests.txrec.data.workbench import events_of, prepared, rejected, write
from txrec.errors import DataError

COLUMNS = {"user_id": "user", "item_id": "item", "ts": "time"}


def source(path: str, **more: Any) -> dict[str, Any]:
    """Clicks of a file."""
    return {"path": path, "columns": COLUMNS, "constants": {"event": "click"}, **more}


def pairs(folder: Path, **more: Any) -> list[tuple[str, str]]:
    """(user, item) of every event of the source `more`."""
    _, data = prepared(folder, {"events": [source(**more)]})
    return sorted(zip(*(events_of(data)[name].to_list() for name in ("user_id", "item")), strict=True))


def zip_of(files: dict[str, str]) -> bytes:
    """An archive of several files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


RECORDS = [
    {"user": "u", "item": "a", "time": "2024-01-01"},
    {"user": "u", "item": "b", "time": "2024-01-02"},
    {"user": "v", "item": "a", "time": "2024-01-03"},
]
PAIRS = [("u", "a"), ("u", "b"), ("v", "a")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\n".join(json.dumps(record, indent=1) for record in RECORDS),
        " ".join(map(json.dumps, RECORDS)),
        ",\n".join(map(json.dumps, RECORDS)),
        json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:]),
        "\n".join(map(json.dumps, RECORDS)) + "\n",
    ],
    ids=["array", "indented array", "over several lines", "one line", "commas", "arrays by line", "lines"],
)
def test_records_are_read_however_they_are_strung_together(tmp_path: Path, content: str) -> None:
    write(tmp_path, "events.json", content)
    assert pairs(tmp_path, path="events.json", format="jsonl") == PAIRS


def write_records(folder: Path, name: str, kind: str, records: list[dict[str, Any]]) -> str:
    """The file's name, as JSON Lines or as Parquet in row groups of two records."""
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), folder / f"{name}.parquet", row_group_size=2)
    else:
        write(folder, f"{name}.jsonl", "\n".join(map(json.dumps, records)))
    return f"{name}.{kind}"


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_of_records_become_rows(tmp_path: Path, kind: str) -> None:
    orders = [
        {"customer": {"id": 7}, "time": "2024-01-01", "order": {"lines": [{"sku": "a"}, {"sku": "b"}]}},
        {"customer": {"id": 8}, "time": "2024-01-02", "order": {"lines": [{"sku": "a"}]}},
        {"customer": {"id": 9}, "time": "2024-01-03", "order": {"lines": []}},
    ]
    path = write_records(tmp_path, "orders", kind, orders)
    columns = {"user_id": "customer.id", "item_id": "order.lines.sku", "ts": "time"}
    declared = {"path": path, "format": kind, "columns": columns, "rows": ["order.lines"]}
    report, data = prepared(tmp_path, {"events": [{**declared, "constants": {"event": "purchase"}}]})
    frame = events_of(data)
    assert sorted(zip(frame["user_id"].to_list(), frame["item"].to_list(), strict=True)) == [
        ("7", "a"), ("7", "b"), ("8", "a"),
    ]  # fmt: skip
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(3, "missing_item")]
    assert report.total.read == 4


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_side_by_side_become_rows_and_unequal_ones_cost_their_own_record(tmp_path: Path, kind: str) -> None:
    sessions = [
        {"user": "u", "item": ["a", "b"], "time": ["2024-01-01", "2024-01-02"]},
        {"user": "v", "item": ["a", "b"], "time": ["2024-01-01"]},
        {"user": "w", "item": ["c"], "time": ["2024-01-03"]},
    ]
    path = write_records(tmp_path, "sessions", kind, sessions)
    declared = source(path, format=kind, rows=["item", "time"])
    _, data = prepared(tmp_path, {"events": [declared]})
    frame = events_of(data)
    assert sorted(zip(frame["user_id"].to_list(), frame["item"].to_list(), strict=True)) == [
        ("u", "a"), ("u", "b"), ("w", "c"),
    ]  # fmt: skip
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(2, "unequal_lists")]


def test_a_cut_line_costs_itself_and_no_nested_line_beside_it(tmp_path: Path) -> None:
    lines = [json.dumps({"user": "u", "p": {"id": f"i{n}"}, "time": f"2024-01-{n + 1:02d}"}) for n in range(20)]
    lines[7] = lines[7][:25]
    write(tmp_path, "events.jsonl", "\n".join(lines))
    declared = {**source("events.jsonl", format="jsonl"), "columns": {**COLUMNS, "item_id": "p.id"}}
    _, data = prepared(tmp_path, {"events": [declared]})
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(8, "broken_json")]
    assert events_of(data).height == 19


def test_an_object_that_is_a_text_elsewhere_costs_the_text_alone(tmp_path: Path) -> None:
    products: list[Any] = [{"id": "a"}, "b", {"id": "c"}]
    lines = [json.dumps({"user": "u", "p": p, "time": f"2024-01-0{n + 1}"}) for n, p in enumerate(products)]
    write(tmp_path, "events.jsonl", "\n".join(lines))
    declared = {**source("events.jsonl", format="jsonl"), "columns": {**COLUMNS, "item_id": "p.id"}}
    _, data = prepared(tmp_path, {"events": [declared]})
    assert events_of(data)["item"].to_list() == ["a", "c"]
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(2, "missing_item")]


def test_a_key_that_appears_late_is_a_column_and_one_that_never_does_is_an_error(tmp_path: Path) -> None:
    padding = "x" * 1000
    lines = [json.dumps({**RECORDS[0], "pad": padding, "type": "click"}) for _ in range(1200)]
    lines.append(json.dumps({"user": "v", "time": "2024-02-01", "type": "search", "term": "lamp"}))
    write(tmp_path, "events.jsonl", "\n".join(lines))
    columns = {**COLUMNS, "event": "type", "query": "term"}
    _, data = prepared(tmp_path, {"events": [{"path": "events.jsonl", "format": "jsonl", "columns": columns}]})
    assert data.queries["query"].to_pylist() == ["lamp"]
    with pytest.raises(DataError, match="no column 'words'"):
        prepared(
            tmp_path,
            {"events": [{"path": "events.jsonl", "format": "jsonl", "columns": {**columns, "query": "words"}}]},
        )


BODY = "user,item,time\nu,a,2024-01-01\nu,b,2024-01-02\nv,a,2024-01-03\n"


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (BODY, {}),
        ("sep=;\n" + BODY.replace(",", ";"), {}),
        ("Export of May\nby hand\n" + BODY, {"skip_lines": 2}),
        ("# made today\n" + BODY.replace("u,b", "# nothing\nu,b"), {"comment": "#"}),
        (BODY.replace("\n", "\r"), {}),
        (BODY.replace("\n", "\r\r\n"), {}),
        (BODY.replace("\n", ",\n").replace("time,", "time"), {}),
        (BODY.replace("\n", ",\n"), {}),
        (BODY.replace("user,item,time", "user,item,time,item").replace("\n", ",\n").replace("item,\n", "item\n"), {}),
        (BODY.replace("u,b,2024-01-02", "u,b,2024-01-02,,"), {}),
    ],
    ids=["plain", "sep", "preamble", "comments", "cr", "crcrlf", "trailing", "trailing with header", "twice", "excess"],
)
def test_tables_are_read_as_programs_export_them(tmp_path: Path, content: str, more: dict[str, Any]) -> None:
    write(tmp_path, "events.csv", content)
    assert pairs(tmp_path, path="events.csv", **more) == PAIRS


def test_rows_that_lack_fields_are_read_only_where_the_source_says_so(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title,brand\na,One,x\nb,Two\n")
    _, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(2, "wrong_field_count")]
    _, data = prepared(tmp_path, {"items": [{"path": "items.csv", "ragged": True}]})
    rows = [(row["item_id"], row["title"], row["brand"]) for row in data.items.to_pylist()]
    assert rows == [("a", "One", "x"), ("b", "Two", None)]


def test_quotes_within_bare_fields_are_text(tmp_path: Path) -> None:
    rows = ['a,Monitor 24" curved', 'b,Plank 2" x 4"', 'c,"Saw, 10"" blade"', "d,5'10\" ladder", 'e,"Open']
    write(tmp_path, "items.csv", "item_id,title\n" + "\n".join(rows) + "\n")
    _, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert dict(zip(data.items["item_id"].to_pylist(), data.items["title"].to_pylist(), strict=True)) == {
        "a": 'Monitor 24" curved', "b": 'Plank 2" x 4"', "c": 'Saw, 10" blade', "d": "5'10\" ladder",
    }  # fmt: skip
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(5, "broken_quoting")]


def test_an_archive_of_several_tables_is_read_by_member_or_refused_with_their_names(tmp_path: Path) -> None:
    members = {"__MACOSX/._events.csv": "Mac", "events.csv": BODY, "items.csv": "sku,name\na,One\n", ".DS_Store": "\0"}
    write(tmp_path, "all.zip", zip_of(members))
    assert pairs(tmp_path, path="all.zip::events.csv") == PAIRS
    with pytest.raises(DataError, match=r"events\.csv.*items\.csv"):
        pairs(tmp_path, path="all.zip")
    with pytest.raises(DataError, match="no such file in the archive"):
        pairs(tmp_path, path="all.zip::clicks.csv")


def test_an_archive_of_one_table_in_parts_is_read_whole(tmp_path: Path) -> None:
    head, *rows = BODY.splitlines()
    write(tmp_path, "all.zip", zip_of({f"{n}.csv": f"{head}\n{row}\n" for n, row in enumerate(rows)}))
    assert pairs(tmp_path, path="all.zip") == PAIRS


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    write(tmp_path, "log/kind=view/day=2024-05-01/part.csv", "user,item\nu,a\n")
    write(tmp_path, "log/kind=purchase/day=2024-05-02/part.csv", "user,item\nu,b\n")
    columns = {"user_id": "user", "item_id": "item", "ts": "day", "event": "kind"}
    report, data = prepared(tmp_path, {"events": [{"path": "log", "columns": columns}]})
    assert events_of(data)["item"].to_list() == ["a", "b"]
    assert report.as_json()["events"] == {"view": 1, "purchase": 1}


def test_a_column_may_be_absent_from_some_files_of_a_glob(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "user,item,time\nu,a,2024-01-01\n")
    write(tmp_path, "2.csv.gz", gzip.compress(b"user,item,time,amount\nu,b,2024-01-02,5\n"))
    declared = {**source("*.csv*"), "columns": {**COLUMNS, "value": "amount"}}
    _, data = prepared(tmp_path, {"events": [declared]})
    assert events_of(data)["value"].to_list() == [0.0, 5.0]


def test_parquet_of_any_type_is_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": pa.array(["a"]).dictionary_encode(),
            "sizes": pa.array([[36, 40]]),
            "info": pa.array([{"brand": {"name": "B"}, "ean": 4}]),
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    declared = {"path": "items.parquet", "format": "parquet", "columns": {"brand": "info.brand.name"}}
    _, data = prepared(tmp_path, {"items": [{**declared, "attributes": ["sizes", "info.ean"]}]})
    (row,) = data.items.to_pylist()
    assert (row["brand"], dict(row["attributes"])) == ("B", {"sizes": "36|40", "info.ean": "4"})


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_parquet_have_any_unit(tmp_path: Path, unit: str) -> None:
    ts = pa.array([1_700_000_000_000], pa.timestamp("ms", "Europe/Berlin")).cast(pa.timestamp(unit, "Europe/Berlin"))
    pq.write_table(pa.table({"user": [1], "item": [2.0], "time": ts}), tmp_path / "log.parquet")
    _, data = prepared(tmp_path, {"events": [source("log.parquet", format="parquet")]})
    assert events_of(data).select("user_id", "item", "ts").rows() == [("1", "2", 1_700_000_000_000_000)]
    assert isinstance(events_of(data), pl.DataFrame)


def test_a_list_that_a_parquet_file_has_not_is_an_error_with_its_columns(tmp_path: Path) -> None:
    path = write_records(tmp_path, "log", "parquet", [{"user": "u", "item": ["a"], "time": ["2024-01-01"]}])
    with pytest.raises(DataError, match=r"no list 'lines' \(named in rows\); columns found: user, item, time"):
        prepared(tmp_path, {"events": [source(path, format="parquet", rows=["lines"])]})


def test_lists_in_a_format_without_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="names lists, which format = 'csv' cannot hold"):
        prepared(tmp_path, {"events": [source("log.csv", rows=["lines"])]})


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_joined_file_may_be_json_or_parquet(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "lines.csv", "order,item\n1,a\n2,b\n3,c\n")
    heads = [{"id": n, "who": {"user": f"u{n}"}, "time": f"2024-01-0{n}"} for n in (1, 2)]
    join = {"path": write_records(tmp_path, "heads", kind, heads), "format": kind, "on": ["order", "id"]}
    columns = {**COLUMNS, "user_id": "who.user"}
    declared = {"path": "lines.csv", "columns": columns, "constants": {"event": "purchase"}, "join": [join]}
    _, data = prepared(tmp_path, {"events": [declared]})
    assert sorted(events_of(data).select("user_id", "item").rows()) == [("u1", "a"), ("u2", "b")]
    assert [(row["row"], row["reason"]) for row in rejected(data)] == [(3, "no_match_in_join")]


def test_a_broken_record_of_a_joined_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, "lines.csv", "order,item\n1,a\n")
    write(tmp_path, "heads.jsonl", '{"id": 1, "user": "u", "time": "2024-01-01"}\n{"id": 2, "us\n')
    join = {"path": "heads.jsonl", "format": "jsonl", "on": ["order", "id"]}
    with pytest.raises(DataError, match=r"heads.jsonl: row 2 cannot be joined \(broken_json\)"):
        prepared(tmp_path, {"events": [{**source("lines.csv"), "join": [join]}]})


def test_variant_rows_fill_what_the_first_row_of_a_product_leaves_empty(tmp_path: Path) -> None:
    rows = "shirt,,,out of stock,\nshirt,Shirt,9.50,in stock,red\nshirt,Other,8.00,in stock,blue\nhat,Hat,5,sold out,\n"
    write(tmp_path, "items.csv", "item_id,title,price,available,colour\n" + rows)
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv", "attributes": ["colour"]}]})
    by_id = {row["item_id"]: row for row in data.items.to_pylist()}
    shirt = by_id["shirt"]
    assert (shirt["title"], shirt["price"], shirt["available"], dict(shirt["attributes"])) == (
        "Shirt", 9.5, True, {"colour": "red"},
    )  # fmt: skip
    assert by_id["hat"]["available"] is False
    assert report.as_json()["rejected"] == {"duplicate": 2}
    assert [row["row"] for row in rejected(data)] == [2, 3]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a,b", {}),
        (" a | b ", {"separator": "|"}),
        ('["a", "b"]', {}),
        ("x;a;1,x;b;2", {"fields": ";", "names": ["group", "id", "number"]}),
        ('[{"id": "a", "number": 1}, {"id": "b"}]', {"names": ["id", "number"]}),
    ],
)
def test_elements_of_a_list_in_a_field_become_rows(tmp_path: Path, text: str, split: dict[str, Any]) -> None:
    write(tmp_path, "log.tsv", f"user\tlist\ttime\nu\t{text}\t2024-01-01\n")
    item = "list.id" if "names" in split else "list"
    columns = {"user_id": "user", "item_id": item, "ts": "time"}
    read = pairs(tmp_path, path="log.tsv", delimiter="\t", split={"column": "list", **split}, columns=columns)
    assert read == [("u", "a"), ("u", "b")]


def test_a_list_without_elements_is_rejected_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "log.tsv", "user\titem\ttime\nu\ta,b\t2024-01-01\nv\t\t2024-01-02\nw\tc\t2024-01-03\n")
    log = source("log.tsv", delimiter="\t", split={"column": "item"})
    _, data = prepared(tmp_path, {"events": [log]})
    (lost,) = rejected(data)
    assert (lost["row"], lost["reason"]) == (2, "missing_item")


def test_a_list_in_a_field_that_is_no_column_is_an_error_with_the_columns(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "user,item,time\nu,a,2024-01-01\n")
    with pytest.raises(DataError, match=r"no column 'basket' \(needed for split\); columns found: user, item, time"):
        pairs(tmp_path, path="log.csv", split={"column": "basket"})


def test_lists_within_lists_become_rows_and_elements_without_one_stay(tmp_path: Path) -> None:
    visits = [
        {"user": "u", "acts": [{"time": "2024-01-01", "items": [{"id": "a"}, {"id": "b"}]}, {"time": "2024-01-02"}]},
        {"user": "v", "acts": []},
    ]
    write(tmp_path, "log.jsonl", "".join(json.dumps(one) + "\n" for one in visits))
    columns = {"user_id": "user", "item_id": "acts.items.id", "ts": "acts.time"}
    log = source("log.jsonl", format="jsonl", rows=["acts", "acts.items"])
    _, data = prepared(tmp_path, {"events": [log | {"columns": columns}]})
    assert sorted(events_of(data)["item"].to_list()) == ["a", "b"]
    assert [(one["row"], one["reason"]) for one in rejected(data)] == [(1, "missing_item"), (2, "missing_item")]


def test_a_list_within_a_list_of_parquet_is_an_error_that_says_which_format_has_them(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"'acts\.items' is a list within a list, which needs format"):
        pairs(tmp_path, path="log.parquet", format="parquet", rows=["acts", "acts.items"])


def test_a_field_that_the_elements_of_a_list_have_not_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "user,list,time\nu,a;1,2024-01-01\n")
    split = {"column": "list", "fields": ";", "names": ["id", "number"]}
    with pytest.raises(DataError, match=r"no column 'list\.sku' \(needed for item_id\)"):
        pairs(tmp_path, path="log.csv", split=split, columns={"user_id": "user", "item_id": "list.sku", "ts": "time"})


def _objects(folder: Path, kind: str) -> str:
    records: list[dict[str, Any]] = [
        {"item_id": "a", "size": {"w": 1, "unit": "cm"}, "parts": [{"n": "x", "q": 2}, {"n": "y", "q": None}]},
        {"item_id": "b", "size": {"w": 3, "unit": "mm"}, "parts": []},
    ]
    return write_records(folder, "items", kind, records)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_objects_as_attributes_keep_the_names_of_their_fields(tmp_path: Path, kind: str) -> None:
    path, names = _objects(tmp_path, kind), ["size", "parts"] if kind == "parquet" else ["size.w", "parts"]
    _, data = prepared(tmp_path, {"items": [{"path": path, "format": kind, "attributes": names}]})
    attributes = {row["item_id"]: dict(row["attributes"]) for row in data.items.to_pylist()}
    size = {"size": '{"w": 1, "unit": "cm"}'} if kind == "parquet" else {"size.w": "1"}
    parts = attributes["a"].pop("parts").replace(" ", "")
    assert parts == '{"n":"x","q":2}|{"n":"y","q":null}'
    assert attributes["a"] == size


@pytest.mark.parametrize(("column", "kind"), [("size", "parquet"), ("parts", "parquet"), ("parts", "jsonl")])
@pytest.mark.parametrize("canonical", ["title", "category", "item_id"])
def test_objects_as_texts_categories_or_ids_are_an_error_that_names_their_fields(
    tmp_path: Path, column: str, kind: str, canonical: str
) -> None:
    path, field = _objects(tmp_path, kind), {"size": "w", "parts": "n"}[column]
    columns = {"item_id": "item_id", canonical: column}
    with pytest.raises(DataError, match=rf"column '{column}' holds objects, which are no .*{column}\.{field}"):
        prepared(tmp_path, {"items": [{"path": path, "format": kind, "columns": columns}]})
