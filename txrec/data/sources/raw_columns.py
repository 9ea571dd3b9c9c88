"""Raw columns of a block as canonical ones need them: text, numbers, ids, without the words that stand for nothing."""

from collections.abc import Mapping

import polars as pl

from txrec.config import SourceConfig
from txrec.data.formats import values
from txrec.errors import DataError
from txrec.text import normalise_column

IDS = ("user_id", "item_id", "session_id", "request_id")
_LITERAL = ("item_id", "title", "query")
"""Columns in which `NA` or `null` may be meant as they stand; database dumps' mark of null may not."""
_MASKED = ("price", "value", "category", "segments", "ts", "event", "grade")
"""Columns that are no plain texts; the words for nothing of the others are taken out of their text."""


def with_constants(frame: pl.DataFrame, source: SourceConfig, columns: dict[str, str]) -> pl.DataFrame:
    """Adds the columns that have one value for all rows; `columns` says what they are called, here and below."""
    for name, value in source.constants.items():
        columns[name] = f"constant:{name}"
        frame = frame.with_columns(pl.lit(value).alias(columns[name]))
    return frame


def with_values(frame: pl.DataFrame, source: SourceConfig, columns: dict[str, str]) -> pl.DataFrame:
    """Replaces raw values by the configured ones, e.g. grades written as letters; kinds of events are mapped later."""
    for name in source.values.keys() & columns.keys() - {"event"}:
        raw = text_of(frame, columns[name]).replace(source.values[name])
        columns[name] = f"value:{name}"
        frame = frame.with_columns(raw.alias(columns[name]))
    return frame


def without_missing(frame: pl.DataFrame, source: SourceConfig, columns: dict[str, str]) -> pl.DataFrame:
    """Nulls instead of the declared words for nothing in columns of numbers, lists, times and kinds."""
    for name in [one for one in _MASKED if one in source.missing and one in columns]:
        hit = is_missing(frame, name, source, columns[name])
        kept = frame.select(pl.when(~hit).then(column_of(frame, columns[name])).otherwise(None).alias("kept"))["kept"]
        columns[name] = f"missing:{name}"
        frame = frame.with_columns(kept.alias(columns[name]))
    return frame


def is_missing(raw: pl.DataFrame, name: str, source: SourceConfig, column: str) -> pl.Series:
    """Mask of rows with one of the declared words for nothing (`missing`) in the column of a canonical name."""
    words = [word.lower() for word in source.missing[name]]
    text = ids_of(raw, column) if name in IDS else text_of(raw, column)
    hit = text.str.to_lowercase().is_in(words)
    if column_of(raw, column).dtype.is_float():  # -1.0 is `-1`
        numbers = pl.Series(words, dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls()
        hit |= raw[column].cast(pl.Float64).is_in(numbers.to_list())
    return hit.fill_null(value=False)


def column_of(raw: pl.DataFrame, name: str | None) -> pl.Series:
    """A raw column; nulls where the block lacks it."""
    if name is None or name not in raw.columns:  # a JSON field that no row of this block has
        return pl.Series([None], dtype=pl.String).new_from_index(0, raw.height)
    return raw[name]


def text_of(raw: pl.DataFrame, name: str | None) -> pl.Series:
    """A column as strings without surrounding blanks; nothing left = null."""
    column = column_of(raw, name)
    if isinstance(column.dtype, pl.List):
        column = values.list_of_texts(column).list.join(" ")
    elif column.dtype != pl.String:
        column = values.as_text(_whole_numbers(column))
    if column.null_count() == len(column):
        return column
    column = column.str.strip_chars()
    empty = column.str.len_bytes() == 0
    return column.set(empty, None) if empty.any() else column


def _whole_numbers(column: pl.Series) -> pl.Series:
    """Ids that a nullable column turned into floats (17850.0) become whole again; infinite ones are none."""
    column = values.finite(column) if column.dtype.is_float() else column
    if column.dtype.is_float() and bool((column.drop_nulls() % 1 == 0).all()):
        return column.cast(pl.Int64, strict=False)
    return column


def normalised(column: pl.Series) -> pl.Series:
    """Queries in their normal form; nothing left = null."""
    text = pl.Series(column.name, pl.from_arrow(normalise_column(column.to_arrow())), dtype=pl.String)
    return text.set(text == "", None) if text.null_count() < len(text) else text


def number_of(raw: pl.DataFrame, name: str | None, decimal: str = "") -> tuple[pl.Series, pl.Series]:
    """A column as float32, and which of its rows are no numbers."""
    refuse_objects(raw, name, "numbers")
    column = column_of(raw, name)
    if isinstance(column.dtype, pl.List):  # one number each; several are none
        several = (column.list.len() > 1).fill_null(value=False)
        number, bad = values.numbers(column.list.first(), decimal)
        return number.set(several, None), bad | several
    text = text_of(raw, name) if column.dtype == pl.String else column
    return values.numbers(text, decimal)


def known_text(raw: pl.DataFrame, name: str, source: SourceConfig, columns: Mapping[str, str]) -> pl.Series:
    """A canonical text column without the words that stand for nothing in it."""
    if name not in IDS:
        refuse_objects(raw, columns.get(name), f"{name} texts")
    text = ids_of(raw, columns.get(name)) if name in IDS else text_of(raw, columns.get(name))
    words = source.missing.get(name)
    usual = values.NOBODY if name == "user_id" else values.NULL_MARKS if name in _LITERAL else values.NOTHING
    words = usual if words is None else tuple(word.lower() for word in words)
    return values.without(text, words) if words else text


def ids_of(raw: pl.DataFrame, name: str | None) -> pl.Series:
    """A column of ids as strings; those that a nullable column made floats are whole again.

    Raises:
        DataError: the column holds objects, or lists of several ids.
    """
    refuse_objects(raw, name, "ids")
    column = column_of(raw, name)
    if isinstance(column.dtype, pl.List) and bool((column.list.len() > 1).any()):
        several = values.list_of_texts(column.filter(column.list.len() > 1)).to_list()[0][:4]
        raise DataError(
            f'column {name!r} holds lists of several ids, such as {several}; declare rows = ["{name}"], which makes a '
            "row of each"
        )
    return values.whole_ids(text_of(raw, name))


def refuse_objects(raw: pl.DataFrame, name: str | None, what: str) -> None:
    """Checks that a column does not hold objects.

    Raises:
        DataError: it does; names their fields.
    """
    column = column_of(raw, name)
    names = values.fields_of_objects(column)
    if names:
        fields = ", ".join(f"{name}.{field}" for field in names[:8])
        if isinstance(column.dtype, pl.List):
            way = f'name one of their fields, with rows = ["{name}"] (a row per object), or export the field as a list'
        else:
            way = "name one of their fields"
        raise DataError(f"column {name!r} holds objects, which are no {what}; {way}: {fields}")
