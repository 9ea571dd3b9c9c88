"""Long tables of products or users: rows of a key, a property and its value, pivoted to one row per key.

The latest value of each property counts where rows have times, the first one elsewhere.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from txrec.config import LongConfig, SourceConfig
from txrec.data.formats import values
from txrec.data.formats.blocks import Block, block_of
from txrec.data.formats.times import times
from txrec.errors import DataError
from txrec.schema import Reason, parse_instant

_MOST_ROWS = 2_000_000
"""Rows at which earlier values are dropped."""
_ITEM, _PROPERTY, _VALUE, _TIME = ":item", ":property", ":value", ":time"


def pivoted(
    blocks: Iterable[Block], source: SourceConfig, long: LongConfig, key: str, properties: Sequence[str]
) -> Block:
    """One row per product, or per user, of all blocks of a source.

    Args:
        blocks: long rows.
        source: of the rows.
        long: columns of properties and values.
        key: canonical column that names the products or users: `item_id` or `user_id`.
        properties: names that become columns, present in the rows or not.

    Returns:
        Columns: the source's column of the key and the properties. Rows without a readable time are bad rows.

    Raises:
        DataError: `long.until` is no time.
    """
    item = source.columns.get(key, key)
    until = parse_instant(long.until, "long.until") if long.until else None
    kept: list[pl.DataFrame] = []
    bad_row: list[int] = []
    bad_raw: list[str] = []
    bad_reason: list[str] = []
    num_lines = 0
    for block in blocks:
        frame = _long_rows(block.frame, item, source, long)
        header = _is_header(frame, item, long)
        bad_row += block.bad_row
        bad_raw += block.bad_raw
        bad_reason += block.bad_reason
        for reason, hit in (
            (Reason.REPEATED_HEADER, header),
            (Reason.UNPARSABLE_TIME, frame[_TIME].is_null() & ~header),
        ):
            lost = hit.arg_true().to_list()
            bad_row += block.row[lost].tolist()
            bad_raw += block.raw(lost)
            bad_reason += [reason.value] * len(lost)
        num_lines += block.num_lines
        is_read = pl.col(_PROPERTY).is_in(list(properties))
        timely = pl.col(_TIME).is_not_null() if until is None else pl.col(_TIME) <= until
        rows = frame.filter(timely, ~header).with_columns(pl.when(is_read).then(_PROPERTY).alias(_PROPERTY))
        rows = rows.with_columns(pl.when(is_read).then(_VALUE).alias(_VALUE))
        kept.append(_latest(rows, has_time=bool(long.time)))
        if sum(one.height for one in kept) > _MOST_ROWS and len(kept) > 1:
            kept = [_latest(pl.concat(kept), has_time=bool(long.time))]
    wide = block_of(_wide(kept, item, properties, has_time=bool(long.time)))
    return Block(wide.frame, wide.row, wide.raw, bad_row, bad_raw, bad_reason, num_lines)


def _long_rows(frame: pl.DataFrame, item: str, source: SourceConfig, long: LongConfig) -> pl.DataFrame:
    for name in (item, long.property, long.value, *filter(None, [long.time])):
        if name not in frame.columns:
            raise DataError(f"{source.path}: no column {name!r} (needed for long); found {', '.join(frame.columns)}")
    no_time = pl.Series([0], dtype=pl.Int64).new_from_index(0, frame.height)
    return pl.DataFrame(
        {
            _ITEM: values.whole_ids(values.as_text(frame[item])),
            _PROPERTY: values.as_text(frame[long.property]).str.strip_chars(),
            _VALUE: values.as_text(frame[long.value]),
            _TIME: times(frame[long.time], source.time) if long.time else no_time,
        }
    )


def _is_header(frame: pl.DataFrame, item: str, long: LongConfig) -> pl.Series:
    """Mask of rows that hold the names of the columns, in files that were put under one another."""
    names = {_ITEM: item, _PROPERTY: long.property, _VALUE: long.value}
    same = [(pl.col(column) == name).fill_null(value=False) for column, name in names.items()]
    return frame.select(pl.all_horizontal(same).alias("header"))["header"]


def _latest(rows: pl.DataFrame, *, has_time: bool) -> pl.DataFrame:
    """One row per product and property: the latest, of equal times the last; the first where there are no times."""
    if has_time:
        rows = rows.sort(_TIME, maintain_order=True)
    return rows.unique([_ITEM, _PROPERTY], keep="last" if has_time else "first", maintain_order=True)


def _wide(kept: Sequence[pl.DataFrame], item: str, properties: Sequence[str], *, has_time: bool) -> pl.DataFrame:
    made = pl.DataFrame({item: pl.Series([], dtype=pl.String)})
    if kept:
        rows = _latest(pl.concat(kept), has_time=has_time)
        made = rows.select(pl.col(_ITEM).unique(maintain_order=True).alias(item))
        for name in properties:
            own = rows.filter(pl.col(_PROPERTY) == name).select(pl.col(_ITEM).alias(item), pl.col(_VALUE).alias(name))
            made = made.join(own, on=item, how="left", maintain_order="left")
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in properties if name not in made.columns]
    return made.with_columns(missing)
