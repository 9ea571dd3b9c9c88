"""Joined files: columns that a source takes from another file by a key."""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from txrec.config import DataConfig, JoinConfig
from txrec.data.formats import files, parquet_rows, values
from txrec.data.formats.blocks import Block, SelectedRaw
from txrec.data.formats.json_lines import is_stream, parse_json, records
from txrec.data.formats.text_tables import Lines, Parsed, column_names, join_lines, parse_delimited
from txrec.errors import DataError
from txrec.schema import Reason


def join_columns(data: DataConfig, join: JoinConfig) -> list[str]:
    """Columns of a joined file.

    Raises:
        DataError: the file is missing, or has no header.
    """
    file = files.find(data.root, join.path)[0]
    if join.format == "parquet":
        with files.open_parquet(file.path) as table:
            return parquet_rows.column_names(table.schema_arrow)
    content = _content(file.path, join)
    if join.format == "jsonl":
        return parse_json(_record_lines(content), join.encoding).frame.columns
    return column_names(content.partition(b"\n")[0], join)


def joined_table(data: DataConfig, join: JoinConfig) -> pl.DataFrame:
    """The joined file, one row per key (the first counts).

    Raises:
        DataError: a row that cannot be read.
    """
    path = files.find(data.root, join.path)[0].path
    read = {"parquet": _parquet_table, "jsonl": _json_table}.get(join.format, _delimited_table)
    return read(path, join).unique(subset=[join.on[1]], keep="first", maintain_order=True)


def _content(path: str, join: JoinConfig) -> bytes:
    return b"".join(block for _, block in files.lines(path, join.encoding))


def _parquet_table(path: str, _: JoinConfig) -> pl.DataFrame:
    with files.open_parquet(path) as file:
        columns = parquet_rows.column_names(file.schema_arrow)
        groups = range(file.num_row_groups)
    blocks = (block for group in groups for block in parquet_rows.blocks(path, group, columns))
    return pl.concat([parquet_rows.selected(block, columns) for block in blocks])


def _record_lines(content: bytes) -> Lines:
    if is_stream(content):
        content = b"".join(block for _, block in records(iter([("", content)])))
    return Lines.of(content)


def _json_table(path: str, join: JoinConfig) -> pl.DataFrame:
    lines = _record_lines(_content(path, join))
    parsed = parse_json(lines, join.encoding)
    _check_all_read(path, lines, parsed)
    return parsed.frame


def _delimited_table(path: str, join: JoinConfig) -> pl.DataFrame:
    content = _content(path, join)
    columns = column_names(content.partition(b"\n")[0], join)
    lines = Lines.of(content)
    if join.header:
        lines = lines.part(1)
    if join.multiline:
        lines = join_lines(lines, len(columns), join, "")[0]
    parsed = parse_delimited(lines, columns, columns, join)
    _check_all_read(path, lines, parsed)
    return parsed.frame


def _check_all_read(path: str, lines: Lines, parsed: Parsed) -> None:
    if parsed.bad:
        index, reason = min(parsed.bad.items())
        text = lines.texts([index])[0] if index < len(lines) else ""
        raise DataError(f"{path}: row {index + 1} cannot be joined ({reason.value}): {text!r}")


def joined_names(columns: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """Column of a joined file = its name in the source's rows: `title:joined` where these have a `title` themselves."""
    there = set(taken)
    return {name: f"{name}:joined" if name in there else name for name in columns}


def with_joined(
    block: Block, joins: Sequence[tuple[JoinConfig, pl.DataFrame]], file_columns: Sequence[str] = ()
) -> Block:
    """A block with the joined columns; rows without a required match are rejected with their reason.

    Args:
        block: rows of the source.
        joins: joined files and their tables.
        file_columns: all columns of the source's file, read or not; joined columns of the same name are renamed.
    """
    for join, table in joins:
        left, right = join.on
        names = joined_names(table.columns, (*file_columns, *block.frame.columns))
        renamed, key = table.rename(names), names[right]
        frame = block.frame.with_columns(_join_key(_key_column(block.frame, left)).alias(":left")).join(
            renamed.with_columns(_join_key(renamed[key]).alias(":right")).with_columns(
                pl.lit(value=True).alias(":matched")
            ),
            left_on=":left",
            right_on=":right",
            how="left",
            maintain_order="left",
            coalesce=False,
        )
        lost = np.flatnonzero(frame[":matched"].is_null().to_numpy()) if join.required else np.empty(0, np.int64)
        kept = np.setdiff1d(np.arange(frame.height), lost, assume_unique=True)
        block = Block(
            frame.drop(":matched", ":left", ":right")[kept],
            block.row[kept],
            SelectedRaw(block.raw, kept),
            [*block.bad_row, *block.row[lost].tolist()],
            [*block.bad_raw, *block.raw(lost.tolist())],
            [*block.bad_reason, *[Reason.NO_MATCH_IN_JOIN.value] * len(lost)],
            block.num_lines,
        )
    return block


def _key_column(frame: pl.DataFrame, name: str) -> pl.Series:
    empty = pl.Series(name, [None], dtype=pl.String).new_from_index(0, frame.height)
    return frame[name] if name in frame.columns else empty


def _join_key(column: pl.Series) -> pl.Series:
    """A key as text, so that `1001` of a number column, `1001.0` and `"1001"` are equal."""
    return values.whole_ids(column.cast(pl.String).str.strip_chars())
