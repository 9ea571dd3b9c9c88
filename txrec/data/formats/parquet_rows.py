"""Rows of Parquet files: row groups in blocks, fields of structs, and lists of records that become rows."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from txrec.data.formats import files

BLOCK_ROWS = 1 << 19
"""Rows of a block."""
_MAX_GROUP_ROWS = 1 << 21
"""Rows of a row group that is read as a whole."""


class Exploded(NamedTuple):
    """A frame whose lists became rows."""

    frame: pl.DataFrame
    origin: NDArray[np.int64]
    """(N,) Index of the record of each row."""
    unequal: NDArray[np.int64]
    """Indices of records whose side-by-side lists differ in length; they have no row."""


def column_names(schema: pa.Schema, rows: Sequence[str] = (), prefix: str = "") -> list[str]:
    """Columns, and the fields of structs as `outer.inner`; those of lists too that become rows.

    Args:
        schema: of the file.
        rows: names of these lists.
        prefix: of the names.
    """
    names: list[str] = []
    for field in schema:
        name, kind = prefix + field.name, field.type
        names.append(name)
        if name in rows and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            names += column_names(pa.schema(list(kind)), rows, f"{name}.")
    return names


def blocks(path: str, group: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of a row group with the top-level columns that hold the named ones.

    polars reads local files four times as fast as Arrow, but whole groups.
    """
    with files.open_parquet(path) as file:
        tops = file.schema_arrow.names
        outer = list(dict.fromkeys(name if name in tops else name.partition(".")[0] for name in columns))
        num_rows = [file.metadata.row_group(number).num_rows for number in range(group + 1)]
        if "://" in path or num_rows[-1] > _MAX_GROUP_ROWS:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, row_groups=[group], columns=outer):
                yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
            return
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(outer)
    yield from rows.slice(sum(num_rows[:-1]), num_rows[-1]).collect().iter_slices(BLOCK_ROWS)


def exploded(frame: pl.DataFrame, names: Sequence[str]) -> Exploded:
    """One row per element of the named lists, side by side; a record with empty lists keeps one row without them.

    Args:
        frame: N records.
        names: columns that are lists, `outer.inner` within structs; one that is no list is as a list of one.
    """
    origin = np.arange(frame.height)
    if not names:
        return Exploded(frame, origin, np.empty(0, np.int64))
    lists = [_as_list(field(frame, name)) for name in names]
    lengths = np.stack([one.list.len().fill_null(0).clip(lower_bound=1).to_numpy() for one in lists])
    equal = (lengths == lengths[0]).all(0)
    whole = frame.drop([name for name in names if name in frame.columns]).with_columns(lists)
    rows = whole.filter(pl.Series(equal)).explode(list(names), empty_as_null=True)
    return Exploded(rows, np.repeat(origin[equal], lengths[0][equal]), origin[~equal])


def _as_list(column: pl.Series) -> pl.Series:
    return column if isinstance(column.dtype, pl.List) else column.reshape((-1, 1)).arr.to_list()


def field(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column, or a field of a struct column as `outer.inner`; named so."""
    if name in frame.columns:
        return frame[name]
    outer = max((top for top in frame.columns if name.startswith(f"{top}.")), key=len, default=name)
    column = frame[outer]
    for part in name[len(outer) + 1 :].split("."):
        column = column.struct.field(part)
    return column.alias(name)


def selected(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns and fields of structs."""
    made = [field(frame, name) for name in columns]
    return pl.DataFrame(made) if made else pl.DataFrame(height=frame.height)
