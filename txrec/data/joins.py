"""Joined files: columns that a source takes from another file by a key."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from txrec.config import DataConfig, JoinConfig
from txrec.data import files, values
from txrec.data.blocks import Block, SelectedRaw
from txrec.data.parse import Lines, column_names, parse_delimited
from txrec.errors import DataError
from txrec.schema import Reason


class _JoinFile(NamedTuple):
    path: str
    columns: list[str]
    content: bytes


def _join_file(data: DataConfig, join: JoinConfig) -> _JoinFile:
    (file,) = files.find(data.root, join.path)[:1]
    content = b"".join(block for _, block in files.lines(file.path, join.encoding))
    return _JoinFile(file.path, column_names(content.partition(b"\n")[0], join), content)


def join_columns(data: DataConfig, join: JoinConfig) -> list[str]:
    """Columns of a joined file.

    Raises:
        DataError: the file is missing.
    """
    return _join_file(data, join).columns


def joined_table(data: DataConfig, join: JoinConfig) -> pl.DataFrame:
    """The joined file, one row per key (the first counts).

    Raises:
        DataError: a row that cannot be read.
    """
    file = _join_file(data, join)
    lines = Lines.of(file.content)
    if join.header:
        lines = lines.part(1)
    parsed = parse_delimited(lines, file.columns, file.columns, join)
    if parsed.bad:
        index, reason = next(iter(sorted(parsed.bad.items())))
        raise DataError(f"{file.path}: row {index + 1} cannot be joined ({reason.value}): {lines.texts([index])[0]!r}")
    return parsed.frame.unique(subset=[join.on[1]], keep="first", maintain_order=True)


def with_joined(block: Block, joins: Sequence[tuple[JoinConfig, pl.DataFrame]]) -> Block:
    """A block with the joined columns; rows without a required match are rejected with their reason."""
    for join, table in joins:
        left, right = join.on
        renamed = table.rename({name: f"{name}:joined" for name in table.columns if name in block.frame.columns})
        key = f"{right}:joined" if f"{right}:joined" in renamed.columns else right
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
