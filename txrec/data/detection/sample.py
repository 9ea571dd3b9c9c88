"""Samples of a shop's files: the first rows as columns of text, read by the readers that preparation uses."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from txrec.config import SourceConfig
from txrec.data.detection.list_columns import with_lists
from txrec.data.detection.names import fit, is_count_of_products
from txrec.data.detection.text_layout import HEAD_BYTES, text_layout
from txrec.data.formats import files, parquet_rows, values
from txrec.data.formats.json_lines import as_text, exploded, is_stream, parse_json, python_record, records
from txrec.data.formats.json_unfolding import (
    embedded_fields,
    inner_names,
    leaves,
    pair_fields,
    unfold,
    unfolded,
    unfolded_columns,
)
from txrec.data.formats.text_tables import Lines, join_lines, parse_delimited, parse_sequence_text
from txrec.data.sources.probe import probe
from txrec.errors import DataError

SAMPLE_BYTES = 8 << 20
"""Text of a file that is looked at."""
_SAMPLE_ROWS = 100_000
_NULLS = ("null", r"\n", "nan", "(null)", "(not set)")
"""Words of databases and programs for no value, in lower case."""
_MOST_EMBEDDED = 8
_TREES = 300
"""Records whose inner fields are looked for."""
_FAIR_SHARE = 0.2
"""Share of the records that name one product from which on their own lists are not all of their rows."""
_FEW_RECORDS = 0.02
"""Share of records with a list of products that is worth a source of its own."""


@dataclass(eq=False)
class Sample:
    """The first rows of one table, and the settings that read them."""

    path: str
    """Path as in `SourceConfig.path`."""
    settings: dict[str, Any]
    """Settings of `SourceConfig` that differ from the defaults."""
    remarks: dict[str, str]
    """Setting = how sure it is, and why."""
    frame: pl.DataFrame
    """(N rows) columns of text; fields of objects as `outer.inner`."""
    num_bad: int = 0
    """Rows that could not be read."""
    listed: "Sample | None" = None
    """The same records with a row per element of a list of products, where only some of them name one product."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.columns

    def texts(self, name: str) -> pl.Series:
        """A column without its empty values, as text."""
        column = self.frame[name]
        if isinstance(column.dtype, pl.List):
            column = column.cast(pl.List(pl.String), strict=False).list.join(" ")
        column = values.without(column.cast(pl.String, strict=False).str.strip_chars(), _NULLS)
        return column.filter(column.is_not_null() & (column != "")).rename(name)


def tables_in(root: str, path: str) -> Iterator[str]:
    """Paths of the tables of a path: the members of an archive with several tables, else the path itself."""
    (first, *_) = files.find(root, path)
    if not first.is_archive or "::" in path:
        yield path
        return
    members = files.members(first.path)
    if not members:
        raise DataError(f"{path}: the archive holds no tables; expected CSV, JSON Lines or Parquet files in it")
    if len(members) == 1:
        yield path
        return
    for member in members:
        yield f"{path}::{member}"


def sample(root: str, path: str) -> Sample:
    """Looks at the first rows of a table, those of the first of its files; its folders may name columns.

    Raises:
        DataError: the file is missing, is no table, or holds no row.
    """
    paths = files.find(root, path)
    made = _first_rows(paths[0], path)
    folders = [files.folder_columns(file.path) for file in paths]
    for name in folders[0]:
        if name not in made.columns:
            words = list(dict.fromkeys(one.get(name) or None for one in folders))
            column = [words[row % len(words)] for row in range(made.frame.height)]
            made.frame = made.frame.with_columns(pl.Series(name, column, dtype=pl.String))
    return made


def _first_rows(file: files.File, path: str) -> Sample:
    head = files.first_bytes(file.path, HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return _parquet(file, path)
    shown = path if file.path.endswith(path) else file.path  # of a folder or glob the file that is none
    layout = text_layout(shown, head, is_whole=not file.packed and file.size <= len(head))
    settings, remarks = dict(layout.settings), dict(layout.remarks)
    if settings["format"] == "jsonl":
        return _json(file, path, settings, remarks)
    if settings["format"] == "sequence_text":
        block = next(files.lines(file.path, block_bytes=SAMPLE_BYTES))[1]
        return Sample(path, settings, remarks, parse_sequence_text(Lines.of(block)).frame)
    if settings["format"] == "csv":
        settings.pop("format")
    if not settings.get("header", True):
        settings["names"] = tuple(f"column_{place}" for place in range(1, layout.num_columns + 1))
    source = SourceConfig(path=path, **settings)
    probed = probe(file, source)
    block = next(files.lines(file.path, source.encoding, 0, None, SAMPLE_BYTES))[1]
    lines = Lines.of(block).part(probed.num_skipped)
    if source.comment:
        lines = lines.without(source.comment.encode())
    if source.multiline:
        lines = join_lines(lines, len(probed.columns), source, source.escape)[0]
    if probed.delimiter:
        source = source.model_copy(update={"delimiter": probed.delimiter})
    parsed = parse_delimited(lines, probed.columns, probed.columns, source, source.quoting, source.escape)
    frame = _with_inner_fields(parsed.frame.head(_SAMPLE_ROWS), settings, remarks)
    frame = with_lists(frame, settings, remarks)
    return _checked(Sample(path, settings, remarks, frame, len(parsed.bad)))


def _with_inner_fields(frame: pl.DataFrame, settings: dict[str, Any], remarks: dict[str, str]) -> pl.DataFrame:
    """Columns of JSON texts, and of lists of pairs, as columns of their inner fields."""
    nested = [name for name, kind in frame.schema.items() if kind == pl.String or isinstance(kind, pl.List)]
    first = frame.select(nested).head(_TREES).to_dicts()
    texts, pairs = embedded_fields(first), pair_fields(first)
    for key, fields, remark in (("embedded", texts, "texts are JSON objects"), ("pairs", pairs, "keys with values")):
        for name in fields:
            names = inner_names(frame[name].head(_TREES).to_list(), name)
            frame = unfolded_columns(frame, fields, [one for one in names if one not in frame.columns]).drop(name)
        if fields:
            settings[key], remarks[key] = tuple(fields), f"sure: {remark}"
    return frame


def _checked(made: Sample) -> Sample:
    if not made.frame.height:
        raise DataError(f"{made.path}: no row of it can be read; expected a table with rows below its header")
    return made


def _parquet(file: files.File, path: str) -> Sample:
    with files.open_parquet(file.path) as content:
        batch = next(content.iter_batches(batch_size=_SAMPLE_ROWS), None)
    if batch is None:
        raise DataError(f"{path}: holds no row")
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
    times = {
        name: f"sure: a {kind} column" for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime | pl.Date)
    }
    settings: dict[str, Any] = {"format": "parquet"}
    remarks = {f"time:{name}": text for name, text in times.items()}
    if not any(fit("item_id", name) >= 0.5 for name, kind in frame.schema.items() if not isinstance(kind, pl.List)):
        rows = [name for name, kind in frame.schema.items() if _holds_products(name, kind)][:1]
        if rows:
            settings["rows"], remarks["rows"] = tuple(rows), "likely: its elements name products"
            frame = parquet_rows.exploded(frame, rows).frame
    frame = _with_inner_fields(frame, settings, remarks)
    frame = as_text(frame)
    frame = frame if "rows" in settings else with_lists(frame, settings, remarks)
    return _checked(Sample(path, settings, remarks, frame))


def _holds_products(name: str, kind: pl.DataType) -> bool:
    """True for lists of product ids, or of structs with one."""
    if not isinstance(kind, pl.List):
        return False
    if isinstance(kind.inner, pl.Struct):
        return any(fit("item_id", field.name) >= 0.5 for field in kind.inner.fields)
    return fit("item_id", name) >= 0.5 and fit("category", name) < 0.5


def _json(file: files.File, path: str, settings: dict[str, Any], remarks: dict[str, str]) -> Sample:
    encoding = settings.get("encoding", "utf-8")
    block = next(files.lines(file.path, encoding, 0, None, SAMPLE_BYTES))[1]
    if is_stream(block):
        block = next(records(iter([("", block)])), ("", b""))[1]
    lines = Lines.of(block)
    some = [lines.at(index).decode(errors="replace") for index in range(min(_TREES, len(lines)))]
    trees = [tree for text in some for tree in _trees(text)]
    _unfold(trees, settings, remarks)
    if not trees:
        raise DataError(
            f"{path}: begins like JSON, and none of its first {len(some)} lines is an object: {some[0][:60]!r}; "
            "expected JSON Lines or an array of objects"
        )
    rows = _lists_of_rows(trees)
    made = _records_with(lines, path, (settings, remarks), rows)
    parts = [row for tree in trees for row in exploded(tree, rows) or ()] if rows else trees
    other = _lists_of_some_records(parts)
    other = (*rows, *other) if other else ()
    if other:
        made.listed = _records_with(lines, path, (settings, remarks), other)
        singles = [name for name in made.columns if fit("item_id", name) >= 0.5]
        made.listed.frame = made.listed.frame.drop(singles, strict=False)
    return made


def _unfold(trees: list[dict[str, Any]], settings: dict[str, Any], remarks: dict[str, str]) -> None:
    """Finds texts that hold objects, and lists of pairs, and puts objects in their place."""
    embedded: list[str] = []
    while len(embedded) < _MOST_EMBEDDED and (inner := [n for n in embedded_fields(trees) if n not in embedded]):
        embedded += inner
        for tree in trees:
            unfold(tree, inner, ())
    pairs = pair_fields(trees)
    for tree in trees:
        unfold(tree, (), pairs)
    if embedded:
        settings["embedded"], remarks["embedded"] = tuple(embedded), "sure: their texts are JSON objects"
    if pairs:
        settings["pairs"], remarks["pairs"] = tuple(pairs), "sure: lists of keys with values"


def _records_with(
    lines: Lines, path: str, layout: tuple[dict[str, Any], dict[str, str]], rows: tuple[str, ...]
) -> Sample:
    settings, remarks = layout
    if rows:
        settings, remarks = {**settings, "rows": rows}, {**remarks, "rows": "likely: its elements name products"}
    lines = unfolded(lines, settings.get("embedded", ()), settings.get("pairs", ()))
    parsed = parse_json(lines, settings.get("encoding", "utf-8"), rows=rows)
    frame = parsed.frame.head(_SAMPLE_ROWS)
    earlier = [name for name in frame.columns if _later_state(name) != name and _later_state(name) in frame.columns]
    return _checked(Sample(path, settings, remarks, frame.drop(earlier), len(parsed.bad)))


def _later_state(name: str) -> str:
    """The field after a change of one before it (`payload.before.sku`), as feeds of changes write them."""
    return re.sub(r"(^|\.)before\.", r"\1after.", name)


def _lists_of_some_records(trees: list[dict[str, Any]]) -> tuple[str, ...]:
    """The list of products of those records that name no single product, where there are more than a few."""
    flat = [dict(leaves(tree)) for tree in trees]
    single = {name for one in flat for name in one if fit("item_id", name) >= 0.5 and not _counts(flat, name)}
    others = [
        tree
        for tree, leaves in zip(trees, flat, strict=True)
        if not any(leaves.get(name) not in (None, "") and not isinstance(leaves[name], list) for name in single)
        and any(isinstance(value, list) for value in leaves.values())
    ]
    return _lists_of_rows(others) if len(others) > _FEW_RECORDS * len(trees) else ()


def _trees(text: str) -> Iterator[dict[str, Any]]:
    tree: Any = None
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        tree = python_record(text)
    if isinstance(tree, dict):
        yield tree


def _lists_of_rows(trees: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names of the lists whose elements become rows: lists of objects that name a product, or of product ids."""
    flat = [dict(leaves(tree)) for tree in trees]
    names = list(dict.fromkeys(name for one in flat for name in one))
    plain = [name for name in names if not any(isinstance(one.get(name), list) for one in flat)]
    if any(fit("item_id", name) >= 0.5 and plain_id(flat, name) and not _counts(flat, name) for name in plain):
        return ()  # the record names its product already: lists in it are its properties
    lists = {
        name: [one[name] for one in flat if isinstance(one.get(name), list)] for name in names if name not in plain
    }
    for name, elements in lists.items():
        inner = [part for value in elements for part in value]
        keys = list(dict.fromkeys(key for part in inner if isinstance(part, dict) for key, _ in leaves(part)))
        if inner and any(max(fit("item_id", key), 0.5 * (key == "id")) >= 0.5 for key in keys):
            return (name,)
    for name, elements in lists.items():
        parts = [part for value in elements for part in value if isinstance(part, dict)]
        if deeper := _lists_of_rows(parts):
            return (name, *(f"{name}.{one}" for one in deeper))
    ids = [name for name in lists if fit("item_id", name.removesuffix("s")) >= 0.5 and fit("category", name) < 0.5]
    if not ids:
        return ()
    lengths = [len(value) for value in lists[ids[0]]]
    return (ids[0], *(n for n in lists if n != ids[0] and [len(value) for value in lists[n]] == lengths))


def _counts(flat: list[dict[str, Any]], name: str) -> bool:
    """True where a field holds numbers of products, as `items` of an order."""
    values = [str(one[name]) for one in flat if one.get(name) not in (None, "")]
    return is_count_of_products(name) and all(value.isdigit() for value in values)


def plain_id(flat: list[dict[str, Any]], name: str) -> bool:
    """True where a field holds short texts or whole numbers in a fair share of the records."""
    values = [one.get(name) for one in flat]
    short = [value for value in values if isinstance(value, int) or (isinstance(value, str) and 0 < len(value) < 65)]
    return len(short) > _FAIR_SHARE * len(values)
