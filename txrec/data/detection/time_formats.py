"""Time format detection: the setting `time.format` that reads a column of texts."""

from dataclasses import dataclass

import polars as pl

from txrec.config import TimeConfig
from txrec.data.formats.times import times
from txrec.schema import DAY_US

_UNITS = {"s": (2e8, 4.2e9), "ms": (2e11, 4.2e12), "us": (2e14, 4.2e15), "ns": (2e17, 4.2e18)}
"""Numbers since 1970 that lie between 1976 and 2103."""
_COUNTED_DAYS = {"d": (7_300, 29_220, 0), "excel": (32_874, 58_000, 25_569)}
"""Days of 1990 to 2058 as numbers since 1970 or as spreadsheets count them, and the number of 1970."""
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y",
         "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%Y%m%d", "%Y.%m.%d",
         "%d%b%Y", "%m %d, %Y", "%Y年%m月%d日", "%Y년 %m월 %d일", "%b-%d-%y", "%Y.%m.%d.",
         "%Y. %m. %d.", "%d. %m. %Y", "%d.%m.%Y.")  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S%.f", ", %H:%M", ", %I:%M:%S %p",
           "T%H:%M:%S", " %H:%M:%S %z", " %p %I:%M:%S", " %p %I:%M")  # fmt: skip
_OTHERS = ("%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y",
           "%a %b %d %H:%M:%S %z %Y", "%a %b %d %Y %H:%M:%S GMT%z", "%Y%m%d%H%M%S",
           "%Y%m%d %H:%M:%S", "%Y-%m-%d %p %I:%M:%S", "%Y-%m-%d %p %I:%M", "%Y. %m. %d. %p %I:%M:%S",
           "%Y. %m. %d. %p %I:%M", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d-%H.%M.%S")  # fmt: skip
_DAY_FIRST = {"%d/%m": "%m/%d", "%d-%m": "%m-%d"}


@dataclass(frozen=True)
class TimeFormat:
    """Format of a column's times."""

    format: str
    remark: str
    """Certainty of the detection, with its reason."""
    question: str = ""
    """Open questions to the shop."""


def time_format(column: pl.Series, *, is_time: bool = False) -> TimeFormat | None:
    """The format that reads (almost) all of a column's values; None where there is none.

    Args:
        column: texts without empty ones.
        is_time: whether the column's name says that it holds times; only then numbers may count days.
    """
    some = column.head(5_000)
    if not len(some):
        return None
    decimal_comma = is_time and some.str.contains(r"^\d{4,5},\d+$").any()
    number = (some.str.replace(",", ".") if decimal_comma else some).cast(pl.Float64, strict=False)
    if number.null_count() < len(some) * 0.02:
        return _numeric(some, number.drop_nulls()) or (_counted_days(some, number.drop_nulls()) if is_time else None)
    if (some.str.count_matches(r"\d+") > 1).sum() < 0.95 * len(some):  # a day and a year at least; ids have one number
        return None
    if _share(some, "iso") > 0.98:
        return TimeFormat("iso", f"sure: {some[0]!r} is ISO 8601")
    distinct = some.unique(maintain_order=True).head(500)
    for pattern in (*(f"{day}{clock}" for day in _DAYS for clock in _CLOCKS), *_OTHERS):
        if _share(distinct.head(20), pattern) > 0.9 and _share(distinct, pattern) > 0.98:
            return _ordered(some, pattern)
    return None


def _numeric(some: pl.Series, number: pl.Series) -> TimeFormat | None:
    middle = number.median()
    if not isinstance(middle, int | float):
        return None
    if some.str.contains(r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$").mean() == 1.0:
        return TimeFormat("%Y%m%d", f"likely: {some[0]} is a day")
    if some.str.contains(r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])([01]\d|2[0-3])([0-5]\d){2}$").mean() == 1.0:
        return TimeFormat("%Y%m%d%H%M%S", f"likely: {some[0]} is a day and a time of day")
    for unit, (low, high) in _UNITS.items():
        if low <= middle < high:
            day = pl.Series([int(middle * 1e6 * {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit])])
            text = day.cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d")[0]
            return TimeFormat(unit, f"sure: {some[0]} counts from 1970, and {text} is a day in the middle")
    return None


def _counted_days(some: pl.Series, number: pl.Series) -> TimeFormat | None:
    for unit, (low, high, zero) in _COUNTED_DAYS.items():
        if number.is_between(low, high).all():
            us = pl.Series([int((float(number[0]) - zero) * DAY_US)]).cast(pl.Datetime("us"))
            text = us.dt.to_string("%Y-%m-%d %H:%M")[0]
            what = "days as spreadsheets count them" if unit == "excel" else "days since 1970"
            question = f"{some[0]} is read in {what}: {text}"
            return TimeFormat(unit, f"likely: {what}; {some[0]} is {text}", question)
    return None


def _mean(hit: pl.Series) -> float:
    """Share of true values; 0 for an empty column."""
    return int(hit.fill_null(value=False).sum()) / max(1, len(hit))


def _share(column: pl.Series, pattern: str) -> float:
    try:
        read = times(column, TimeConfig(format=pattern))
    except pl.exceptions.PolarsError:
        return 0.0
    plausible = read.is_not_null() & (read > 0) & (read < 50_000 * DAY_US)
    return _mean(plausible)


def _ordered(column: pl.Series, pattern: str) -> TimeFormat:
    """Chooses between day first and month first by the order and the span of the rows."""
    base = pattern[:5]
    other = _DAY_FIRST.get(base)
    if other is None or _share(column, other + pattern[5:]) < 0.98:
        return TimeFormat(pattern, f"sure: {column[0]!r} can be read in no other way")
    months = other + pattern[5:]
    orders = {form: _order(column, form) for form in (pattern, months)}
    best = max(orders, key=lambda form: orders[form])
    worst = min(orders, key=lambda form: orders[form])
    shown = "day first" if best == pattern else "month first"
    if orders[best][0] > orders[worst][0] + 0.02 or orders[best][1] > orders[worst][1] + 20:
        return TimeFormat(best, f"likely: with the {shown} the rows are in order of time")
    question = f"{column[0]!r} may have its day or its month first; it is read with the {shown}"
    return TimeFormat(best, f"guess: {shown}", question)


def _order(column: pl.Series, pattern: str) -> tuple[float, float]:
    """Share of neighbours in order of time, and minus the days that the column spans."""
    read = times(column, TimeConfig(format=pattern)).drop_nulls()
    steps = read.diff().drop_nulls()
    rising = max(_mean(steps >= 0), _mean(steps <= 0))
    low, high = read.min(), read.max()
    span = (high - low) / DAY_US if isinstance(low, int) and isinstance(high, int) else 0.0
    return round(rising, 2), -span


def is_clock(column: pl.Series) -> bool:
    """True where the texts are times of day (`14:05`, `14:05:09`, `2:05 PM`)."""
    return (
        bool(len(column))
        and _mean(column.str.contains(r"^\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?$")) > 0.95
    )
