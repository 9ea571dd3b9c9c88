"""JSON tables: JSON Lines, arrays of records, several records on a line, and lists of records that become rows.

polars parses whole blocks; a block that it refuses is halved until the lines that it refuses stand alone, and those are
read one by one. Fields come out as text, fields of objects as `outer.inner`.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.data.formats import values
from txrec.data.formats.bisection import bisect_failures
from txrec.data.formats.text_tables import Lines, Parsed, screen
from txrec.errors import DataError
from txrec.schema import Reason

_SINGLE_ROWS = 64
"""Fewer lines than this are read one by one."""
_MOST_BYTES = 8 << 20
"""Longest record that is not complete, bytes."""
_DECODER = json.JSONDecoder()
_PYTHON = re.compile(r"\s*\{\s*[uU]?['\"]")


class _Reader:
    """Reads lines into frames of text columns; `bad` collects the lines that hold no record."""

    def __init__(
        self, lines: Lines, bad: dict[int, Reason], columns: Sequence[str] | None, rows: Sequence[str]
    ) -> None:
        self._lines, self.bad, self._columns, self._rows = lines, bad, columns, rows
        self.frames: list[pl.DataFrame] = []
        self.indices: list[NDArray[np.int64]] = []

    def read(self, indices: NDArray[np.int64]) -> None:
        """Reads some lines; blocks that polars refuses are halved."""
        bisect_failures(indices, self._read_block, self._one_by_one, _SINGLE_ROWS)

    def _read_block(self, indices: NDArray[np.int64]) -> bool:
        try:
            frame = pl.read_ndjson(self._lines.take(indices), infer_schema_length=None)
        except pl.exceptions.PolarsError:
            return False
        if frame.height != len(indices):
            return False
        self._add(frame, indices)
        return True

    def _one_by_one(self, indices: NDArray[np.int64]) -> None:
        kept: list[int] = []
        records: list[dict[str, Any]] = []
        for index in indices.tolist():
            text = self._lines.at(index).decode(errors="replace")
            parts = list(_records_of(text))
            if not parts or any(part is None for part in parts):
                self.bad[index] = Reason.BROKEN_JSON
                continue
            kept += [index] * len(parts)
            records += [part for part in parts if part is not None]
        if kept:
            self._add_records(records, np.array(kept, dtype=np.int64))

    def _add_records(self, records: list[dict[str, Any]], indices: NDArray[np.int64]) -> None:
        if self._rows:
            parts = [exploded(record, self._rows) for record in records]
            lost = [place for place, rows in enumerate(parts) if rows is None]
            self.bad.update({int(indices[place]): Reason.UNEQUAL_LISTS for place in lost})
            indices = np.repeat(indices, [len(rows or ()) for rows in parts])
            records = [row for rows in parts for row in rows or ()]
        if records:
            flat = [{name: _plain(value) for name, value in _flat(record).items()} for record in records]
            names = dict.fromkeys(name for record in flat for name in record)
            columns = [_text_column(name, [record.get(name) for record in flat]) for name in names]
            self._append(pl.DataFrame(columns, height=len(flat)), indices)

    def _add(self, frame: pl.DataFrame, indices: NDArray[np.int64]) -> None:
        if not self._rows:
            self._append(frame, indices)
            return
        if any(is_within(name, self._rows) for name in self._rows):
            self._add_records([json.loads(self._lines.at(index)) for index in indices.tolist()], indices)
            return
        flat = _unnested(frame, self._rows).with_columns(pl.Series(":line", indices))
        lists = [name for name in self._rows if isinstance(flat.schema.get(name), pl.List)]
        lengths = flat.select(pl.col(name).list.len().fill_null(0) for name in lists)
        equal = bool(lists) and (len(lists) == 1 or lengths.select(pl.all_horizontal(
            [pl.col(name) == pl.col(lists[0]) for name in lists[1:]]).all()).item())  # fmt: skip
        if len(lists) == len(self._rows) and equal:
            flat = flat.explode(*lists, empty_as_null=True)
            self._append(flat.drop(":line"), flat[":line"].to_numpy().astype(np.int64))
            return
        records = [json.loads(self._lines.at(index)) for index in indices.tolist()]
        self._add_records(records, indices)

    def _append(self, frame: pl.DataFrame, indices: NDArray[np.int64]) -> None:
        text = as_text(frame)
        self.frames.append(text if self._columns is None else _reached(text, self._columns))
        self.indices.append(indices)

    def parsed(self) -> Parsed:
        """All frames in the order of the lines."""
        if not self.frames:
            return Parsed(pl.DataFrame(schema={"": pl.String}), np.empty(0, np.int64), self.bad)
        frame = pl.concat(_same_types(self.frames), how="diagonal_relaxed")
        return Parsed(frame, np.concatenate(self.indices), self.bad)


def parse_json(
    lines: Lines, encoding: str = "utf-8", columns: Sequence[str] | None = None, rows: Sequence[str] = ()
) -> Parsed:
    """JSON Lines: one record per line, or several. Fields that a line lacks are null; types may differ between lines.

    Args:
        lines: a block of lines.
        encoding: of the text.
        columns: the fields to keep (`outer.inner` for a field of an object); None = all.
        rows: names of lists whose elements become rows, side by side where there are several.
    """
    bad = screen(lines, encoding, quoting=False, escape="")
    good = np.setdiff1d(np.arange(len(lines)), np.fromiter(bad, np.int64, len(bad)), assume_unique=True)
    reader = _Reader(lines, bad, columns, rows)
    reader.read(good)
    return reader.parsed()


def _records_of(text: str) -> Iterator[dict[str, Any] | None]:
    """The records of a line; None for anything else."""
    at = 0
    while at < len(text):
        match = re.compile(r"[\s,\[\]]*").match(text, at)
        at = match.end() if match else at
        if at >= len(text):
            return
        try:
            record, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield python_record(text[at:])
            return
        yield record if isinstance(record, dict) else None


def python_record(text: str) -> dict[str, Any] | None:
    """The record of a line that is a Python literal (`{'id': 1, 'sold': True}`); None for anything else."""
    if not _PYTHON.match(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # backslashes of paths and of smileys
            warnings.simplefilter("ignore", DeprecationWarning)
            record = ast.literal_eval(text.strip().rstrip(","))
        plain = json.loads(json.dumps(record, default=str, skipkeys=True))  # sets, bytes and keys that are numbers
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return plain if isinstance(plain, dict) else None


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of objects as `outer.inner`."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def is_within(name: str, names: Sequence[str]) -> bool:
    """True where a list stands inside the elements of another one (`visits.products` inside `visits`)."""
    return any(name.startswith(f"{outer}.") for outer in names)


def exploded(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]] | None:
    """A record as one row per element of its lists, outer ones first; None where lists side by side differ in length.

    Args:
        record: with fields of objects nested or as `outer.inner`.
        names: of the lists; those within others after them.
    """
    inner = [name for name in names if is_within(name, names)]
    rows = _side_by_side(record, [name for name in names if name not in inner])
    if rows is None or not inner:
        return rows
    deeper = [exploded(row, inner) for row in rows]
    return None if None in deeper else [one for part in deeper for one in part or ()]


def _side_by_side(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]] | None:
    flat = _flat(record)
    lists = [value if isinstance(value := flat.pop(name, None), list) else [value] for name in names]
    lists = [parts or [None] for parts in lists]
    if len({len(parts) for parts in lists}) > 1:
        return None
    return [{**flat, **dict(zip(names, parts, strict=True))} for parts in zip(*lists, strict=True)]


def _unnested(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The frame with nested lists (`order.lines`) as columns of their own."""
    for name in names:
        outer = name.split(".")
        for depth in range(1, len(outer)):
            parent = ".".join(outer[:depth])
            if isinstance(frame.schema.get(parent), pl.Struct):
                inner = frame[parent].struct.unnest()
                inner = inner.rename({field: f"{parent}.{field}" for field in inner.columns})
                frame = frame.drop(parent).hstack(inner)
    return frame


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in value]
    return json.dumps(value, ensure_ascii=False)


def _text_column(name: str, texts: list[Any]) -> pl.Series:
    """Strings, or lists of strings where any value is a list."""
    if not any(isinstance(text, list) for text in texts):
        return pl.Series(name, texts, dtype=pl.String)
    lists = [text if text is None or isinstance(text, list) else [text] for text in texts]
    return pl.Series(name, lists, dtype=pl.List(pl.String))


def _reached(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The named fields; those of an object that stands as JSON text in a mixed column are taken out of it."""
    made = []
    for name in columns:
        if name in frame.columns:
            made.append(frame[name])
            continue
        parts = name.split(".")
        outer = next((n for n in range(len(parts) - 1, 0, -1) if ".".join(parts[:n]) in frame.columns), 0)
        column = frame[".".join(parts[:outer])] if outer else None
        if column is None or column.dtype != pl.String:
            made.append(pl.Series(name, [None], dtype=pl.String).new_from_index(0, frame.height))
            continue
        texts = column.to_list()
        made.append(pl.Series(name, [_field(text, parts[outer:]) for text in texts], dtype=pl.String))
    return pl.DataFrame(made)


def _field(text: str | None, path: Sequence[str]) -> str | None:
    if text is None or not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same_types(frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Columns that are lists in one frame are lists in all."""
    lists = {name for frame in frames for name, kind in frame.schema.items() if isinstance(kind, pl.List)}
    return [
        frame.with_columns(
            pl.when(pl.col(name).is_not_null()).then(pl.concat_list(name)).cast(pl.List(pl.String)).alias(name)
            for name in lists & set(frame.columns)
            if not isinstance(frame.schema[name], pl.List)
        )
        for frame in frames
    ]


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every field as a string, a list of strings, or a struct of those; struct fields also as `outer.inner`."""
    flat: dict[str, pl.Series] = {}
    for series in frame.get_columns():
        if isinstance(series.dtype, pl.Struct):
            if not series.struct.fields:  # `{}` in every record
                continue
            inner = series.struct.unnest()
            flat.update({f"{series.name}.{field.name}": field for field in as_text(inner).get_columns()})
        elif isinstance(series.dtype, pl.List):
            inner_type = series.dtype.inner
            text = series.list.eval(pl.element().struct.json_encode()) if isinstance(inner_type, pl.Struct) else series
            flat[series.name] = values.list_of_texts(text)
        else:
            flat[series.name] = values.as_text(series)
    return pl.DataFrame([series.alias(name) for name, series in flat.items()], height=frame.height)


def is_stream(first: bytes) -> bool:
    """True where a file, by its first block, is an array of records or holds records that span several lines."""
    text = first.lstrip()
    if text.startswith(b"["):
        return True
    line = text.partition(b"\n")[0].decode(errors="replace")
    return (
        text.startswith(b"{") and next(_records_of(line), None) is None and _spans_lines(text.decode(errors="replace"))
    )


def _spans_lines(text: str) -> bool:
    try:
        _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return text.startswith(("{\n", "{\r\n"))
    return True


def records(blocks: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Blocks of an array of records, or of records over several lines, as blocks with one record per line."""
    member, rest = "", ""
    for name, block in blocks:
        if name != member:
            yield from _lines_of(member, rest, final=True)[0]
            member, rest = name, ""
        made, rest = _lines_of(member, rest + block.decode(errors="replace"), final=False)
        yield from made
    yield from _lines_of(member, rest, final=True)[0]


def _lines_of(member: str, text: str, *, final: bool) -> tuple[list[tuple[str, bytes]], str]:
    made: list[str] = []
    at = 0
    between = re.compile(r"[\s,\[\]\ufeff]*")
    while True:
        match = between.match(text, at)
        at = match.end() if match else at
        if at >= len(text):
            break
        try:
            end = _DECODER.raw_decode(text, at)[1]
        except (ValueError, RecursionError):
            if not final and len(text) - at < _MOST_BYTES:
                break
            following = re.compile(r"\n(?=\s*,?\s*\{)|(?<=[}\]]),(?=\s*\{)").search(text, at + 1)
            end = following.start() if following else len(text)
        made.append(re.sub(r"[\r\n]+", " ", text[at:end]))
        at = end
    block = "".join(f"{line}\n" for line in made).encode()
    return ([(member, block)] if made else []), text[at:]


def parse_json_map(content: bytes, path: str) -> pl.DataFrame:
    """One JSON object, key to list of values: columns `key` and `values` (joined by `|`).

    Raises:
        DataError: the file is not one JSON object.
    """
    try:
        tree = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: expected one JSON object (format = json_map): {error}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected one JSON object (format = json_map), found a {type(tree).__name__}")
    texts = ["|".join(map(str, value)) if isinstance(value, list) else str(value) for value in tree.values()]
    return pl.DataFrame({"key": list(tree), "values": texts}, schema={"key": pl.String, "values": pl.String})
