"""Hostile files and declarations: an error of txrec's own or a result, never another exception."""

import contextlib
import datetime
import decimal
import gzip
import io
import json
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from txrec.config import SourceConfig
from txrec.config_loader import parse
from txrec.data.detection.declaration import declare
from txrec.data.formats.text_tables import Lines, parse_delimited
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.preparation.source_check import check
from txrec.errors import DataError, TxrecError

_PIECES = (
    '"', "'", ",", ";", "\t", "\n", "\r", "\0", "\ufeff", "é", "💡", "{", "}", "[", "]", "null", "NaN", "1e999", "-1",
    "2024-05-01", "1714557909", "99999999999999999999", "abc", "::", "|", "#", "sep=;", "\\", '"a""b"', '{"a":1}',
    '{"user":"u","item":"i","ts":"2024-05-01"}', "N/A", "<b>", "&amp;", '12"', "user,item,ts", "u,i,2024-05-01",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    "u",
    1,
    None,
    1.5,
    True,
    [],
    {},
    ["x"],
    {"id": "u"},
    [1, {"a": 2}],
    "",
    float("nan"),
    10**30,
)
_SETTINGS: dict[str, tuple[Any, ...]] = {
    "format": ("csv", "jsonl", "parquet", "sequence_text", "json_map"),
    "delimiter": (",", ";", "::", "", "|", '"', "\n", "é", ", "),
    "encoding": ("utf-8", "latin-1", "utf-16", "nonsense", "shift_jis", "utf-7", "base64", "rot13", "idna"),
    "quoting": (True, False),
    "escape": ("", "\\", '"'),
    "multiline": (True, False),
    "header": (True, False),
    "skip_lines": (0, 1, 5, 100),
    "comment": ("", "#", "u", "\n"),
    "ragged": (True, False),
    "category_separator": ("", ">", "\0"),
    "decimal": ("", ".", ","),
    "rows": ((), ("item",), ("a.b", "item"), ("",)),
    "names": ((), ("user", "item", "ts"), ("a",), ("user", "user", "item"), ("",)),
    "missing": ({"user_id": ["u"], "item_id": []},),
    "reject": ([{"column": "item", "below": 1}], [{"column": "ts", "matches": "^1"}]),
    "time": (
        {"format": "s"},
        {"format": "ns"},
        {"format": "%"},
        {"format": "%H:%M"},
        {"clock": "item"},
        {"format": ""},
    ),
}


def _text(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.4:
        rows = [f"u{chance.randrange(3)},i{chance.randrange(3)},2024-05-0{chance.randrange(1, 9)}" for _ in range(9)]
        text = "\n".join(["user,item,ts", *rows])
    elif kind < 0.7:
        records = [
            {name: chance.choice(_VALUES) for name in ("user", "item", "ts")} for _ in range(chance.randrange(9))
        ]
        text = "\n".join(json.dumps(record) for record in records)
    else:
        text = ""
    for _ in range(chance.randrange(0, 6)):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(_PIECES) + text[at + chance.randrange(3) :]
    return text.encode(chance.choice(["utf-8", "utf-8", "utf-16", "latin-1"]), "replace")


def _parquet(chance: random.Random) -> bytes:
    day = datetime.datetime(2024, 1, 1)
    columns = [
        pa.array([b"x"] * 3), pa.array([decimal.Decimal("1.50")] * 3), pa.array([[1, None]] * 3), pa.array([True] * 3),
        pa.array([{"id": 1}] * 3), pa.array(["a"] * 3).dictionary_encode(), pa.array([datetime.time(1)] * 3),
        pa.array([datetime.timedelta(1)] * 3), pa.array([datetime.date(2024, 1, 1)] * 3), pa.array([None] * 3),
        pa.array([float("nan"), None, float("inf")]), pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
        pa.array([day] * 3, pa.timestamp("ns", "Europe/Berlin")), pa.array([[{"a": 1}]] * 3), pa.array([2**62] * 3),
        pa.array([b"1234"] * 3, pa.binary(4)), pa.array([1] * 3, pa.uint64()), pa.array(["u"] * 3, pa.large_string()),
    ]  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.table({name: chance.choice(columns) for name in ("user", "item", "ts", "price", "title")}), sink)
    return sink.getvalue()


def _packed(chance: random.Random, name: str, content: bytes) -> bytes:
    if name.endswith(".gz") and chance.random() < 0.7:
        return gzip.compress(content)
    if name.endswith(".zip") and chance.random() < 0.7:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for member in ("a.csv", "__MACOSX/x", "b.csv")[: chance.randrange(4)]:
                archive.writestr(member, content)
        return sink.getvalue()
    return content


def _source(chance: random.Random, name: str, columns: dict[str, str]) -> dict[str, Any]:
    odd = {key: chance.choice(choices) for key, choices in _SETTINGS.items() if chance.random() < 0.15}
    if name.endswith(".parquet"):
        odd["format"] = "parquet"
    if chance.random() < 0.2:
        odd["join"] = [{"path": name, "on": ["item", "item"], "required": chance.random() < 0.5}]
    return {"path": name, "columns": columns, **odd}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_no_file_and_no_declaration_ends_in_an_exception_that_is_not_txrecs(chance: random.Random) -> None:
    name = "f" + chance.choice([".csv", ".jsonl", ".csv.gz", ".parquet", ".zip", ".zst", ".xz", ".tgz", ".bz2"])
    with tempfile.TemporaryDirectory() as folder:
        content = _parquet(chance) if name.endswith(".parquet") else _packed(chance, name, _text(chance))
        Path(folder, name).write_bytes(content)
        events = _source(chance, name, {"user_id": "user", "item_id": "item", "ts": "ts", "value": "price"})
        if chance.random() < 0.7:
            del events["columns"]["value"]
        events["constants"] = {"event": "view"}
        items = _source(chance, name, {"item_id": "item", "available": "ts"})
        tree = {
            "name": "hostile", "runs_root": f"{folder}/runs",
            "data": {"root": folder, "events": [events], "items": [items][: chance.randrange(2)]},
            "prepare": {"max_rejected_frac": 1.0, "split": {"kind": chance.choice(["leave_one_out", "global_time"])}},
            "text": {"vocab_size": 400},
        }  # fmt: skip
        with contextlib.suppress(TxrecError):
            check(parse(tree, "hostile.toml")).render()
        with contextlib.suppress(TxrecError):
            run(parse(tree, "hostile.toml"), InProcess())
        with contextlib.suppress(TxrecError):
            declare([f"{folder}/{name}"], "shop")


def _read(folder: Path, name: str, content: bytes, source: dict[str, Any]) -> dict[str, int]:
    (folder / name).write_bytes(content)
    events = {"path": name, "constants": {"event": "view"}, **source}
    made = check(parse({"name": "hostile", "data": {"root": str(folder), "events": [events]}}, "hostile.toml"))
    return dict(made.sources[0].rejected)


_RECORD = '{"user_id": "u", "item_id": "i", "ts": "2024-05-01", "more": %s}\n'


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deeply_nested_json_costs_its_own_line_at_most(tmp_path: Path, depth: int) -> None:
    text = _RECORD % ("[" * depth + "]" * depth) + _RECORD % 1 + _RECORD % 2
    rejected = _read(tmp_path, "log.jsonl", text.encode(), {"format": "jsonl"})
    assert rejected in ({}, {"broken_json": 1})


def test_objects_that_are_empty_in_every_record_are_no_columns(tmp_path: Path) -> None:
    text = (_RECORD % "{}") * 100
    assert _read(tmp_path, "log.jsonl", text.encode(), {"format": "jsonl"}) == {}
    assert declare([str(tmp_path / "log.jsonl")], "shop").config.data.events


def test_objects_in_the_place_of_ids_are_an_error_that_names_their_fields(tmp_path: Path) -> None:
    sink = io.BytesIO()
    rows = [{"user_id": "u", "item_id": {"sku": "a", "no": 1}, "ts": "2024-05-01"}]
    pq.write_table(pa.Table.from_pylist(rows), sink)
    with pytest.raises(DataError, match=r"'item_id' holds objects.*item_id\.sku"):
        _read(tmp_path, "log.parquet", sink.getvalue(), {"format": "parquet"})


def test_lines_that_are_no_objects_are_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its first 1 lines holds a JSON object"):
        _read(tmp_path, "log.jsonl", b"{'user_id': print('u')}\n", {"format": "jsonl"})


def test_a_comment_with_another_line_end_than_the_rows_is_no_hindrance(tmp_path: Path) -> None:
    rows = "".join(f"u{number};i;2024-05-0{1 + number % 9}\r" for number in range(20))
    text = f"# written by hand\nuser_id;item_id;ts\r{rows}"
    assert _read(tmp_path, "log.csv", text.encode(), {"delimiter": ";", "comment": "#"}) == {}
    made = declare([str(tmp_path / "log.csv")], "shop")
    assert made.check is not None
    assert made.check.sources[0].num_kept == 20


def test_rows_of_which_no_column_is_read_are_counted_with_those_that_are_too_short() -> None:
    parsed = parse_delimited(Lines.of(b"a,b\nc\n"), ["x", "y"], [], SourceConfig(path="f.csv", ragged=True))
    assert (parsed.frame.height, parsed.bad) == (2, {})
