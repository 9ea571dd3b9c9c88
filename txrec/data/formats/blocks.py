"""Blocks: rows of a source that were read at once, as raw columns with the raw text of every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.data.formats.text_tables import Lines


@dataclass(frozen=True, eq=False)
class Block:
    """Rows read at once as raw columns, and the rows that could not be read."""

    frame: pl.DataFrame
    row: NDArray[np.int64]
    """(N,) 1-based row within the chunk."""
    raw: Callable[[Sequence[int]], list[str]]
    """Raw text of rows of `frame`, by index."""
    bad_row: list[int]
    """1-based rows within the chunk that could not be read."""
    bad_raw: list[str]
    """Their raw text."""
    bad_reason: list[str]
    """Their reasons: labels of `schema.Reason`."""
    num_lines: int
    """Rows of the chunk that this block covers; they count on in the next block."""
    matches: Mapping[str, int] = field(default_factory=dict)
    """Setting of the source = rows that it matched, where only reading knows them."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Message on the source's files = rows, as of `Remarks`."""


@dataclass(frozen=True, eq=False)
class RawLines:
    """Raw text of rows that were parsed from lines."""

    lines: Lines
    line: NDArray[np.int64]
    """(N,) Line of each row."""
    encoding: str

    def __call__(self, indices: Sequence[int]) -> list[str]:
        """Raw text of rows, by index."""
        return self.lines.texts(self.line[np.asarray(indices, dtype=np.int64)].tolist(), self.encoding)


@dataclass(frozen=True, eq=False)
class _RawFields:
    frame: pl.DataFrame

    def __call__(self, indices: Sequence[int]) -> list[str]:
        rows = self.frame[list(indices)]
        rows = rows.with_columns(_decoded(column) for column in rows if column.dtype == pl.Binary)
        return [str(row) for row in rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()]


def _decoded(column: pl.Series) -> pl.Series:
    r"""Bytes as text, because JSON has no bytes; undecodable bytes show as `\xff`."""
    text = [None if value is None else value.decode(errors="backslashreplace") for value in column]
    return pl.Series(column.name, text, dtype=pl.String)


def block_of(frame: pl.DataFrame, done: int = 0) -> Block:
    """Rows that are a table already (Parquet, SQL), after `done` earlier rows of the chunk."""
    row = np.arange(done + 1, done + 1 + frame.height)
    return Block(frame, row, _RawFields(frame), [], [], [], frame.height)


@dataclass(frozen=True, eq=False)
class SelectedRaw:
    """Raw text of a selection of a block's rows."""

    raw: Callable[[Sequence[int]], list[str]]
    """Raw text of the rows before the selection."""
    kept: NDArray[np.int64]
    """(N,) Index of each row before the selection."""

    def __call__(self, indices: Sequence[int]) -> list[str]:
        """Raw text of rows, by index."""
        return self.raw(self.kept[np.asarray(indices, dtype=np.int64)].tolist())
