"""Times of shops: ISO 8601, numbers since 1970, any pattern, with a zone or without, in one or two columns."""

import polars as pl
import pyarrow as pa

from txrec.config import TimeConfig
from txrec.data.formats import values
from txrec.schema import DAY_US

_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_UNITS = ("s", "ms", "us", "ns")
_DAYS_BEFORE = {"d": 0, "excel": 25_569}
"""Days from the beginning of a count of days to 1970."""
_MOST_DAYS = 200_000
_SECONDS = (200_000_000, 4_200_000_000)
"""1976 to 2103."""
_ABBREVIATIONS = {
    "UTC": "+00:00", "GMT": "+00:00", "Z": "+00:00", "WET": "+00:00", "WEST": "+01:00", "CET": "+01:00",
    "CEST": "+02:00", "MEZ": "+01:00", "MESZ": "+02:00", "EET": "+02:00", "EEST": "+03:00", "MSK": "+03:00",
    "EST": "-05:00", "EDT": "-04:00", "CDT": "-05:00", "MST": "-07:00", "MDT": "-06:00", "PST": "-08:00",
    "PDT": "-07:00", "AKST": "-09:00", "AKDT": "-08:00", "HST": "-10:00", "BRT": "-03:00", "SGT": "+08:00",
    "HKT": "+08:00", "JST": "+09:00", "KST": "+09:00", "AWST": "+08:00", "AEST": "+10:00", "AEDT": "+11:00",
    "NZST": "+12:00", "NZDT": "+13:00",
}  # fmt: skip
"""Abbreviations that mean one zone; `CST`, `IST` and `BST` mean several, and times with them cannot be read."""


def times(column: pl.Series, cfg: TimeConfig, clock: pl.Series | None = None) -> pl.Series:
    """Times as int64 microseconds since 1970 UTC, null where one cannot be read.

    Numbers that would lie at the beginning of 1970, and in our days by a coarser unit, are in another unit than the
    declared one: they cannot be read.

    Args:
        column: strings, numbers or timestamps.
        cfg: unit or format, and the zone of times that carry none.
        clock: time of day to be added (`14:05:09`, or numbers of `cfg.clock_unit`).
    """
    if clock is not None:
        return _with_clock(column, cfg, clock)
    if isinstance(column.dtype, pl.Datetime | pl.Date):
        zoned = getattr(column.dtype, "time_zone", None) is not None
        plain = column.cast(pl.Datetime("us", "UTC")) if zoned else column.cast(pl.Datetime("us"))
        return plain.cast(pl.Int64) if zoned else _from_zone(plain, cfg.zone)
    if cfg.format in (*_UNITS, *_DAYS_BEFORE):
        return _counted(column, cfg)
    text = values.as_text(column).str.strip_chars()
    if cfg.format != "iso":
        return _by_pattern(text, cfg)
    try:
        plain = pl.Series(pl.from_arrow(text.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.timestamp("us"))))
        return _from_zone(plain, cfg.zone)
    except pa.ArrowInvalid:
        return _iso_slowly(text, cfg.zone)


def _with_clock(column: pl.Series, cfg: TimeConfig, clock: pl.Series) -> pl.Series:
    """A day and a time of day. The sum is local time, so that days of 23 or 25 hours come out right."""
    day = times(column, cfg.model_copy(update={"zone": "UTC"}))
    number = (clock if clock.dtype.is_numeric() else values.as_text(clock)).cast(pl.Float64, strict=False)
    if isinstance(clock.dtype, pl.Time):
        since = clock.cast(pl.Int64) // 1000
    elif number.null_count() == clock.null_count():
        since = (number * (1_000 if cfg.clock_unit == "ms" else 1_000_000)).round().cast(pl.Int64, strict=False)
    else:
        since = _clock_us(values.as_text(clock).str.strip_chars())
    return _from_zone((day // DAY_US * DAY_US + since).cast(pl.Datetime("us")), cfg.zone)


def _clock_us(text: pl.Series) -> pl.Series:
    afternoon = text.str.to_lowercase().str.extract(r"([ap])\.?m\.?$")
    parts = pl.DataFrame(
        {
            "h": text.str.extract(r"^(\d{1,2}):\d\d").cast(pl.Int64),
            "m": text.str.extract(r"^\d{1,2}:(\d\d)").cast(pl.Int64),
            "s": text.str.extract(r"^\d{1,2}:\d\d:(\d\d(?:\.\d+)?)").cast(pl.Float64),
            "half": afternoon,
        }
    )
    hour = pl.when(pl.col("half").is_null()).then("h").otherwise(pl.col("h") % 12 + 12 * (pl.col("half") == "p"))
    seconds = hour * 3600 + pl.col("m") * 60 + pl.col("s").fill_null(0)
    valid = (pl.col("h") < 25) & (pl.col("m") < 60)
    made = parts.select(pl.when(valid).then((seconds * 1e6).round().cast(pl.Int64)).alias("us"))
    return made["us"]


def _counted(column: pl.Series, cfg: TimeConfig) -> pl.Series:
    """Numbers of units since 1970 UTC, or of local days."""
    if cfg.format in _UNITS:
        return _epoch(column, cfg.format)
    return _from_zone(_days(column, _DAYS_BEFORE[cfg.format]).cast(pl.Datetime("us")), cfg.zone)


def _epoch(column: pl.Series, unit: str) -> pl.Series:
    column = column if column.dtype.is_numeric() else values.as_text(column).str.strip_chars()
    whole = column.cast(pl.Int64, strict=False) if not column.dtype.is_float() else None
    if unit == "ns":
        exact = whole if whole is not None else column.cast(pl.Int64, strict=False)
        return _plausible(exact, unit) // 1_000
    unit_us = _UNIT_US[unit]
    if whole is not None and whole.null_count() == column.null_count():
        most = 2**62 // unit_us
        return _plausible(whole.set((whole.abs() > most).fill_null(value=False), None), unit) * unit_us
    number = _plausible(column.cast(pl.Float64, strict=False), unit) * unit_us
    return number.set((number.abs() > 2.0**62).fill_null(value=False), None).round().cast(pl.Int64, strict=False)


def _days(column: pl.Series, before: int) -> pl.Series:
    """Days with fractions as microseconds since 1970, to the millisecond; numbers that are no days are null."""
    text = column if column.dtype.is_numeric() else values.as_text(column).str.strip_chars().str.replace(",", ".")
    number = text.cast(pl.Float64, strict=False)
    number = number.set((~number.is_between(1, _MOST_DAYS)).fill_null(value=True), None)
    return ((number - before) * (DAY_US // 1_000)).round().cast(pl.Int64) * 1_000


def _plausible(number: pl.Series, unit: str) -> pl.Series:
    """The numbers without those that are plainly in a coarser unit than the declared one."""
    for finer in range(1, _UNITS.index(unit) + 1):
        scale = 1_000 ** (_UNITS.index(unit) - finer)
        low, high = _SECONDS[0] * scale, _SECONDS[1] * scale
        coarse = ((number >= low) & (number < high)).fill_null(value=False)
        number = number.set(coarse, None) if coarse.any() else number
    return number


def other_unit(column: pl.Series, cfg: TimeConfig) -> tuple[str, str, int]:
    """The unit in which numbers that cannot be read as declared lie in our days: unit, an example, how many.

    Args:
        column: values that are no times, or in the future, by their declaration.
        cfg: the declaration.
    """
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        return "", "", 0
    text = values.as_text(column).str.strip_chars()
    number = column.cast(pl.Float64, strict=False) if column.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
    by_unit = {}
    for place, unit in enumerate(_UNITS):
        scale = 1_000**place
        hit = number.is_between(_SECONDS[0] * scale, _SECONDS[1] * scale, closed="left").fill_null(value=False)
        by_unit[unit] = (unit, str(text.filter(hit).first() or ""), int(hit.sum()))
    by_unit.pop(cfg.format, None)
    return max(by_unit.values(), key=lambda one: one[2])


_HALVES = {"오전": "AM", "오후": "PM", "上午": "AM", "下午": "PM", "午前": "AM", "午後": "PM", "πμ": "AM",
           "μμ": "PM", "a. m.": "AM", "p. m.": "PM", "a.\u00a0m.": "AM", "p.\u00a0m.": "PM",
           "a.m.": "AM", "p.m.": "PM"}  # fmt: skip
"""Halves of the day in other languages."""


def _by_pattern(text: pl.Series, cfg: TimeConfig) -> pl.Series:
    if "%p" in cfg.format:
        text = text.str.replace_many(list(_HALVES), list(_HALVES.values()))
    if "%Z" in cfg.format:
        text, form = _offsets(text), cfg.format.replace("%Z", "%z")
    else:
        form = cfg.format
    text = text.str.replace(r"\s*\([^()]*\)$", "") if "(" not in form else text  # `... GMT+0200 (CEST)` of browsers
    zoned = "%z" in form or "%:z" in form or "%#z" in form
    zone = "UTC" if zoned else None
    read = text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False, exact=True)
    return read.cast(pl.Int64) if zoned else _from_zone(read, cfg.zone)


def _offsets(text: pl.Series) -> pl.Series:
    """Abbreviations of zones at the end as offsets (`... CET` -> `... +01:00`); those of several zones stay."""
    named = text.str.extract(r"\s*\b([A-Z]{1,4})$")
    if named.null_count() == len(named):
        return text
    offset = named.replace_strict(_ABBREVIATIONS, default=None, return_dtype=pl.String)
    changed = text.str.replace(r"\s*\b[A-Z]{1,4}$", "") + offset
    return changed.fill_null(text)


def _iso_slowly(text: pl.Series, zone: str) -> pl.Series:
    """Rows with a zone of their own, with odd precision, or with nonsense among them."""
    plain = text.str.replace(r"\[[A-Za-z/_]+\]$", "")  # the zone's name after its offset, as Java writes it
    plain = plain.str.replace(r"^(\d{4})(\d\d)(\d\d)[Tt](\d\d)(\d\d)(\d\d)", "${1}-${2}-${3} ${4}:${5}:${6}")
    plain = plain.str.replace(r"^(\d{4}-\d\d-\d\d)[Tt](\d\d)$", "${1} ${2}:00")
    plain = plain.str.replace(r"^(\d{4}-\d\d-\d\d)[Tt]", "${1} ").str.replace(r"(:\d\d),(\d+)", "${1}.${2}")
    plain = _offsets(plain.str.replace(r"(?i)\s*(z|utc)$", "+00:00")).str.replace(r"\s+([+-]\d\d)", "${1}")
    plain = plain.str.replace(r"(:.*[+-]\d\d)$", "${1}:00").str.replace(r"(:.*[+-]\d\d)(\d\d)$", "${1}:${2}")
    plain = plain.str.replace(r"(:\d\d\.\d{9})\d+", "${1}")
    own = plain.str.contains(r":.*[+-]\d\d:\d\d$").fill_null(value=False)
    naive = plain.set(own, None)
    read = None
    for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"):
        parsed = naive.str.to_datetime(pattern, time_unit="us", strict=False)
        read = parsed if read is None else read.fill_null(parsed)
    dates = naive.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    local = _from_zone(read.fill_null(dates) if read is not None else dates, zone)
    zoned = plain.set(~own, None).str.replace(" ", "T", literal=True)
    utc = None
    for pattern in ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z"):
        parsed = zoned.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
        utc = parsed if utc is None else utc.fill_null(parsed)
    return local.fill_null(utc.cast(pl.Int64)) if utc is not None else local


def _from_zone(plain: pl.Series, zone: str) -> pl.Series:
    if zone == "UTC":
        return plain.cast(pl.Int64)
    local = plain.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").cast(pl.Int64)
