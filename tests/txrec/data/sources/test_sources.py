"""The same four events, however a shop writes them."""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.txrec.data.workbench import CLICKS, HEADER, configured, events_of, prepared, rejected, write, zipped, zstd
from txrec.config import DataConfig, SourceConfig, TimeConfig
from txrec.data.formats import files
from txrec.data.formats.blocks import block_of
from txrec.data.formats.times import times
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.sources import chunk_reading, sources
from txrec.errors import DataError

ROWS = [
    ("u1", "i1", "2024-01-01 10:00:00", "click", ""),
    ("u2", "i2", "2024-01-01 11:00:00", "click", "Café, crème"),
    ("u1", "i3", "2024-01-02 10:00:00", "purchase", "say hi"),
    ("u1", "i1", "2024-01-03 10:00:00.250", "click", ""),
]
EXPECTED = [("u1", "i1"), ("u1", "i3"), ("u1", "i1"), ("u2", "i2")]


def _csv(delimiter: str = ",", header: bool = True) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in (delimiter, '"')) else text

    lines = [delimiter.join(map(cell, row)) + "\n" for row in ROWS]
    return (HEADER.replace(",", delimiter) if header else "") + "".join(lines)


def _check(folder: Path, **source: Any) -> None:
    report, data = prepared(folder, {"events": [{**CLICKS, **source}]})
    events = events_of(data)
    assert list(zip(events["user_id"], events["item"], strict=True)) == EXPECTED
    assert report.total.as_json() == {"read": 4, "kept": 4, "rejected": {}}
    assert events["query"].to_list()[3] == "café, crème"
    assert events["ts"].to_list()[2] == 1_704_276_000_250_000


def _tgz(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("inside/events.csv")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("events.csv", bytes),
        ("events.csv.gz", gzip.compress),
        ("events.csv.bz2", bz2.compress),
        ("events.csv.xz", lzma.compress),
        ("events.csv.zst", zstd),
        ("events.csv.zip", zipped),
        ("events.tgz", _tgz),
    ],
)
def test_a_log_may_be_packed_in_any_usual_way(tmp_path: Path, name: str, pack: Any) -> None:
    write(tmp_path, name, pack(_csv().encode()))
    _check(tmp_path, path=name)


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_any_delimiter_is_read(tmp_path: Path, delimiter: str) -> None:
    write(tmp_path, "events.csv", _csv(delimiter))
    _check(tmp_path, delimiter=delimiter)


def test_a_delimiter_may_have_several_characters(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "".join("::".join(row) + "\n" for row in ROWS))
    _check(tmp_path, delimiter="::", quoting=False, header=False, names=HEADER.strip().split(","))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, "events.csv", _csv().encode(encoding))
    _check(tmp_path, encoding=encoding)


def test_json_lines_may_differ_in_types_and_nest(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"user": user, "what": {"id": item}, "time": time, "kind": kind, "query": query or None}
        for user, item, time, kind, query in ROWS
    ]
    lines[0]["extra"] = 1
    lines[1]["extra"] = "text"
    write(tmp_path, "events.jsonl", "\n".join(json.dumps(line) for line in lines))
    _check(tmp_path, path="events.jsonl", format="jsonl", columns={**CLICKS["columns"], "item_id": "what.id"})


def test_a_broken_json_line_costs_one_row(tmp_path: Path) -> None:
    good = '{"user_id": 7, "item_id": 1, "event": "click", "ts": 1704103200}'
    write(tmp_path, "events.jsonl", f"{good}\n{{broken\n[1]\n" + good.replace("200}", "300}") + "\n")
    _, data = prepared(tmp_path, {"events": [{"path": "events.jsonl", "format": "jsonl", "time": {"format": "s"}}]})
    assert [(row["row"], row["raw"], row["reason"]) for row in rejected(data)] == [
        (2, "{broken", "broken_json"),
        (3, "[1]", "broken_json"),
    ]
    assert data.sequences.user_id.tolist() == ["7"]


def test_a_block_of_json_lines_may_lack_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RANGE_BYTES", 70)
    good = '{"user_id": 7, "item_id": 1, "event": "click", "ts": 1704103200}'
    other = '{"comment": "a row of another kind, as long as the others are"}'
    write(tmp_path, "events.jsonl", f"{good}\n{other}\n{other}\n" + "nonsense " * 9 + "\n")
    report, _ = prepared(tmp_path, {"events": [{"path": "events.jsonl", "format": "jsonl", "time": {"format": "s"}}]})
    assert report.total.as_json() == {"read": 4, "kept": 1, "rejected": {"missing_user": 2, "broken_json": 1}}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=HEADER.strip().split(","), orient="row")
    frame = frame.with_columns(time=pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S%.f"))
    frame.write_parquet(tmp_path / "events.parquet", row_group_size=2)
    _check(tmp_path, path="events.parquet", format="parquet")


def test_a_database_is_read_by_its_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE log (who, sku, at, what, q)")
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", ROWS)
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{tmp_path / 'shop.db'}")
    statement = "SELECT who AS user, sku AS item, at AS time, what AS kind, q AS query FROM log"
    _check(tmp_path, path="", sql=statement, connection_env="SHOP_DB")


def test_an_unset_connection_variable_is_named(tmp_path: Path) -> None:
    config = configured(tmp_path, {"events": [{"sql": "SELECT 1", "connection_env": "NO_SUCH_DB"}]})
    with pytest.raises(DataError, match="NO_SUCH_DB is not set"):
        run(config, InProcess())


def test_globs_and_directories_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    header, *lines = _csv().splitlines(keepends=True)
    write(tmp_path, "log/2024/a.csv", header + "".join(lines[:2]))
    write(tmp_path, "log/2024/b.csv", header + "".join(lines[2:]))
    write(tmp_path, "log/2024/.hidden.csv", "no header here")
    _check(tmp_path, path="log/2024")
    _check(tmp_path, path="log/*/*.csv")
    _check(tmp_path, path="log/**/*.csv")
    _check(tmp_path, path=str(tmp_path / "log/2024/[ab].csv"))


def test_row_numbers_count_through_all_ranges_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RANGE_BYTES", 100)
    lines = [f"u{n},i{n},2024-01-01 10:00:00,click,\n" if n % 7 else "broken\n" for n in range(1, 50)]
    write(tmp_path, "events.csv", HEADER + "".join(lines))
    report, data = prepared(tmp_path)
    assert report.total.read == 49
    assert [row["row"] for row in rejected(data)] == [7, 14, 21, 28, 35, 42, 49]


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    range_bytes=st.integers(1, 60),
    block_bytes=st.integers(1, 40),
    ended=st.booleans(),
)
def test_ranges_of_a_file_hold_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], range_bytes: int, block_bytes: int, ended: bool
) -> None:
    expected = [bytes([65 + n]) * length for n, length in enumerate(lengths)]
    content = b"\n".join(expected) + (b"\n" if ended else b"")
    path = write(tmp_path_factory.mktemp("ranges"), "lines.txt", content)
    read = b""
    for start in range(0, len(content), range_bytes):
        for _, block in files.lines(str(path), "utf-8", start, min(start + range_bytes, len(content)), block_bytes):
            assert block.endswith(b"\n")
            read += block
    assert read.rstrip(b"\n") == content.rstrip(b"\n")


NOTES = "item_id,title,description\n"
LAMP = '1,Lamp,"Bright.\n\nSays ""hello""."\n'
POT = '3,Pot,"Boils.\r\nWhistles."\n'


def test_a_quoted_field_may_hold_line_breaks_where_the_source_says_so(tmp_path: Path) -> None:
    broken = '2,"Broken 15 screen,x\n'  # its quote ends neither here nor anywhere that would make it a row
    write(tmp_path, "items.csv", NOTES + LAMP + broken + POT + "4,Cup,Plain.\n" + '5,Pan,"Open\n')
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv", "multiline": True}]})
    described = dict(zip(data.items["item_id"].to_pylist(), data.items["description"].to_pylist(), strict=True))
    assert described == {"1": 'Bright.\n\nSays "hello".', "3": "Boils.\r\nWhistles.", "4": "Plain."}
    assert [(row["row"], row["raw"], row["reason"]) for row in rejected(data)] == [
        (2, broken.strip(), "broken_quoting"),
        (5, '5,Pan,"Open', "broken_quoting"),
    ]
    assert report.total.read == 5


def test_without_it_a_line_break_costs_its_own_row_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", NOTES + POT + "4,Cup,Plain.\n")
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert data.items["item_id"].to_pylist() == ["4"]
    assert report.total.as_json() == {"read": 3, "kept": 1, "rejected": {"broken_quoting": 2}}


@given(
    fields=st.lists(st.text(st.sampled_from('a,"\n;'), max_size=8), min_size=3, max_size=30),
    cuts=st.lists(st.integers(1, 60), max_size=6),
)
def test_blocks_may_end_anywhere_in_a_record(fields: list[str], cuts: list[int]) -> None:
    rows = [fields[n : n + 3] for n in range(0, len(fields) - len(fields) % 3, 3)]
    quoted = ["".join(('"' + field.replace('"', '""') + '"') + "," for field in row)[:-1] for row in rows]
    lines = "".join(record + "\n" for record in quoted).encode().splitlines(keepends=True)
    bounds = sorted({0, *(cut for cut in cuts if cut < len(lines)), len(lines)})
    blocks = (("", b"".join(lines[first:last])) for first, last in pairwise(bounds))
    chunk = sources.Chunk(0, "items", 0, "items.csv", ("a", "b", "c"))
    config = SourceConfig(path="items.csv", multiline=True)
    found = [
        cut.at(n).decode() for _, cut in chunk_reading.whole_records(blocks, chunk, config) for n in range(len(cut))
    ]
    assert found == quoted


def test_a_joined_file_adds_columns_and_rows_without_a_match_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", _csv())
    write(tmp_path, "items.dat", "m1::Kettle::Home|Tea\nm2::Lamp\xe9::Home\nm9::Ghost::None\n".encode("latin-1"))
    write(tmp_path, "map.txt", "i1 m1\ni3 m2\n")
    items = {
        "path": "items.dat", "delimiter": "::", "quoting": False, "header": False, "encoding": "latin-1",
        "names": ["movie", "title", "genres"], "columns": {"item_id": "sku", "category": "genres"},
        "category_separator": "|",
        "join": [{"path": "map.txt", "delimiter": " ", "header": False, "names": ["sku", "movie_id"],
                  "on": ["movie", "movie_id"]}],
    }  # fmt: skip
    report, data = prepared(tmp_path, {"events": [CLICKS], "items": [items]})
    titles = dict(zip(data.items["item_id"].to_pylist(), data.items["title"].to_pylist(), strict=True))
    assert titles == {"i1": "Kettle", "i3": "Lampé", "i2": None}
    assert data.items["category"].to_pylist()[0] == ["Home", "Tea"]
    (row,) = rejected(data)
    assert (row["row"], row["raw"], row["reason"]) == (3, "m9::Ghost::None", "no_match_in_join")
    assert report.row_counts["items"].as_json() == {"read": 3, "kept": 2, "rejected": {"no_match_in_join": 1}}


def test_a_line_may_be_a_user_and_his_items(tmp_path: Path) -> None:
    write(tmp_path, "seq.txt", "u1 a b  a c\nlonely\nu2 b\n")
    write(tmp_path, "attributes.json", '{"a": [3, 4], "z": []}')
    data_config = {
        "events": [{"path": "seq.txt", "format": "sequence_text", "constants": {"event": "view"}}],
        "items": [
            {"path": "attributes.json", "format": "json_map", "columns": {"item_id": "key"}, "attributes": ["values"]}
        ],
    }
    report, data = prepared(tmp_path, data_config)
    events = events_of(data)
    assert events.filter(pl.col("user_id") == "u1")["item"].to_list() == ["a", "b", "a", "c"]
    assert dict(report.total.rejected) == {"wrong_field_count": 1}
    attributes = dict(zip(data.items["item_id"].to_pylist(), data.items["attributes"].to_pylist(), strict=True))
    assert attributes["a"] == [("values", "3|4")]
    assert not data.meta.has_time


@pytest.mark.parametrize(
    ("text", "cfg", "expected"),
    [
        ("2024-07-01 12:00:00", TimeConfig(), "2024-07-01 12:00:00"),
        ("2024-07-01T12:00:00.123456", TimeConfig(), "2024-07-01 12:00:00.123456"),
        ("2024-07-01T12:00:00Z", TimeConfig(zone="Asia/Tokyo"), "2024-07-01 12:00:00"),
        ("2024-07-01T12:00:00+02:00", TimeConfig(), "2024-07-01 10:00:00"),
        ("2024-07-01 12:00", TimeConfig(), "2024-07-01 12:00:00"),
        ("2024-07-01", TimeConfig(), "2024-07-01 00:00:00"),
        ("2024-07-01 12:00:00", TimeConfig(zone="Europe/London"), "2024-07-01 11:00:00"),
        ("01/07/2024 12:00", TimeConfig(format="%d/%m/%Y %H:%M"), "2024-07-01 12:00:00"),
        ("1719835200", TimeConfig(format="s"), "2024-07-01 12:00:00"),
        ("1719835200.5", TimeConfig(format="s"), "2024-07-01 12:00:00.500000"),
        ("1719835200123", TimeConfig(format="ms"), "2024-07-01 12:00:00.123000"),
        ("1719835200123456", TimeConfig(format="us"), "2024-07-01 12:00:00.123456"),
        ("soon", TimeConfig(), None),
        ("soon", TimeConfig(format="s"), None),
        ("2024-03-31 01:30:00", TimeConfig(zone="Europe/London"), None),
    ],
)
@pytest.mark.parametrize("company", [[], ["nonsense", "2024-01-01T00:00:00+01:00"]], ids=["alone", "among others"])
def test_times_are_read_to_the_microsecond(
    text: str, cfg: TimeConfig, expected: str | None, company: list[str]
) -> None:
    ts = times(pl.Series([text, *company]), cfg)[0]
    wanted = None if expected is None else int(datetime.fromisoformat(expected + "+00:00").timestamp() * 1e6 + 0.5)
    assert ts == wanted


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, "events.csv", _csv())
    data = DataConfig.model_validate({"root": str(tmp_path), "events": [CLICKS]})
    before = sources.source_fingerprint(data)
    assert sources.source_fingerprint(data) == before
    path.write_text(_csv() + "u9,i9,2024-01-01,click,\n")
    assert sources.source_fingerprint(data) != before


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    import shutil

    write(tmp_path / "a", "events.csv", _csv())
    (tmp_path / "b").mkdir()
    shutil.copy2(tmp_path / "a" / "events.csv", tmp_path / "b" / "events.csv")
    prints = {
        sources.source_fingerprint(DataConfig.model_validate({"root": str(tmp_path / side), "events": [CLICKS]}))
        for side in "ab"
    }
    assert len(prints) == 1


def test_a_rejected_table_row_is_quoted_as_json_bytes_included() -> None:
    block = block_of(pl.DataFrame({"name": [b"\xff", b"lamp", None], "query": ["耳机", None, "x"]}))
    quoted = [json.loads(row) for row in block.raw([0, 2])]
    assert quoted == [{"name": "\\xff", "query": "耳机"}, {"name": None, "query": "x"}]
