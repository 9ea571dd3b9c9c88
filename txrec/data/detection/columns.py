"""Columns of a sample with the figures that tell what they stand for."""

from dataclasses import dataclass

import polars as pl

from txrec.data.detection.names import fit
from txrec.data.detection.sample import Sample
from txrec.data.detection.time_formats import TimeFormat, time_format

_TIME_NAME = 0.5
"""Fit of a column's name to `ts` from which on numbers may count days."""


@dataclass(eq=False)
class Column:
    """A column and its texts."""

    name: str
    texts: pl.Series
    """Values without empty ones."""
    filled: float
    """Share of the rows that have a value."""
    distinct: float
    """Share of the values that are distinct."""
    is_number: bool
    """True where (almost) all values are plain numbers."""
    time: TimeFormat | None
    """Format of its times; None where it holds none."""


def profile(sample: Sample) -> dict[str, Column]:
    """The columns of a sample with their figures."""
    made: dict[str, Column] = {}
    for name in sample.columns:
        texts = sample.texts(name)
        number = texts.cast(pl.Float64, strict=False)
        is_number = bool(len(texts)) and number.null_count() < 0.02 * len(texts)
        made[name] = Column(
            name, texts, len(texts) / max(1, sample.frame.height), texts.n_unique() / max(1, len(texts)),
            is_number, time_format(texts, is_time=fit("ts", name) >= _TIME_NAME),
        )  # fmt: skip
    return made


def is_id(column: Column, *, whole: bool = True) -> bool:
    """True where the values may be ids; `whole` = of numbers only whole ones."""
    if column.time is not None and not column.is_number:
        return False
    some = column.texts.head(2_000)
    if whole and column.is_number and share(some.str.contains(r"^-?\d+(\.0)?$")) < 1.0:
        return False
    spaced = share(some.str.contains(r"\s\S+\s"))
    return spaced < 0.5 and mean_length(some) <= 80


def share(hit: pl.Series) -> float:
    """Share of true values; 0 for an empty column."""
    return int(hit.fill_null(value=False).sum()) / max(1, len(hit))


def mean_length(texts: pl.Series) -> float:
    """Characters per text."""
    return int(texts.str.len_chars().sum()) / max(1, len(texts))


def is_words(column: Column) -> bool:
    """True for a column of neither numbers nor times."""
    return not column.is_number and column.time is None


def few_words(column: Column, most: int) -> bool:
    """True for a column of texts with at most `most` different values."""
    return column.texts.n_unique() <= most
