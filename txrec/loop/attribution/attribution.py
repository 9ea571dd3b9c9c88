"""Attribution: which place of which slate an event is credited to.

Two rules, in this order:

- An event *with* a request id belongs to that slate: to the place of its product, if the slate was answered to the same
  user or to somebody anonymous. Otherwise it is not credited.
- An event *without* a request id belongs to slates that showed its product to its user: to the latest one
  (`last_touch`), or to all of them in equal parts (`shared`).

Both hold within a window per kind of event, counted from the slate. Users are independent of each other, so that parts
of the log may be attributed apart as long as each part holds all rows of its users: `key` says which rows belong
together.
"""

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from txrec.errors import DataError

Model = Literal["last_touch", "shared"]
HOUR_US = 3_600_000_000
SHADOW = "shadow"
"""Variant of slates that nobody saw."""
NO_PLACEMENT = "none"
"""Placement of slates whose request named none."""
LATER_COLUMNS = {
    "experiments": pl.List(pl.String),
    "rules": pl.List(pl.String),
    "teams": pl.List(pl.Int8),
}
"""Columns of impressions that logs of earlier versions do not have."""


@dataclass(frozen=True)
class Windows:
    """Attribution windows: time after a slate in which an event may still be credited to it.

    Attributes:
        hours: event kind -> hours; other kinds are not credited.
        model: of events without a request id, `last_touch` or `shared`.
        reformulation_s: a search without a click followed by another query of the same user within this many seconds
            counts as reformulated.
    """

    hours: dict[str, float] = field(
        default_factory=lambda: {"view": 1.0, "click": 1.0, "cart": 24.0, "purchase": 168.0}
    )
    model: Model = "last_touch"
    reformulation_s: float = 300.0


def slates_of(impressions: pl.DataFrame) -> pl.DataFrame:
    """The slates that were answered, one row each: without shadows, times as microseconds in `ts`.

    Raises:
        DataError: a column is missing.
    """
    _require(impressions, ("request_id", "variant", "ts", "user_id", "item_ids"), "impressions")
    shown = impressions.filter(pl.col("variant") != SHADOW).unique("request_id", keep="first", maintain_order=True)
    known = {name for name in LATER_COLUMNS if name in impressions.columns}
    return shown.with_columns(
        _micros(shown),
        *(pl.lit([], kind).alias(name) for name, kind in LATER_COLUMNS.items() if name not in known),
        *(pl.col(name).cast(LATER_COLUMNS[name]).fill_null([]) for name in sorted(known)),
        key=key("user_id", "request_id"),
    )


def events_of(events: pl.DataFrame) -> pl.DataFrame:
    """Events that can be credited, times as microseconds in `ts`.

    Raises:
        DataError: a column is missing.
    """
    _require(events, ("user_id", "ts", "event", "item_id", "request_id", "value"), "events")
    return events.filter(pl.col("item_id").is_not_null()).with_columns(_micros(events))


def key(user: str, request: str) -> pl.Expr:
    """The user of a row, or its request where the user is unknown: rows of one key must not be attributed apart."""
    return pl.when(pl.col(user).is_null()).then("r:" + pl.col(request)).otherwise("u:" + pl.col(user))


def credit(slates: pl.DataFrame, events: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """The places that events are credited to.

    Args:
        slates: as `slates_of` gives them.
        events: as `events_of` gives them.
        windows: per kind of event.

    Returns:
        One row per event and credited place: `request_id`, `place` (from 0), `event`, `ts` of the event, `weight` (0 to
        1, the weights of an event add up to 1) and `value` (weight times the event's value).
    """
    places = slates.select(
        "request_id",
        shown_user="user_id",
        shown_ts="ts",
        item_id="item_ids",
        place=pl.int_ranges(pl.col("item_ids").list.len()),
    ).explode("item_id", "place", empty_as_null=False)
    limit = pl.DataFrame(
        {"event": list(windows.hours), "limit": [int(hours * HOUR_US) for hours in windows.hours.values()]},
        schema={"event": pl.String, "limit": pl.Int64},
    )
    known = events.join(limit, on="event").with_row_index("number")
    inside = (pl.col("ts") >= pl.col("shown_ts")) & (pl.col("ts") - pl.col("shown_ts") <= pl.col("limit"))
    direct = (
        known.filter(pl.col("request_id").is_not_null())
        .join(places, on=["request_id", "item_id"])
        .filter(inside & (pl.col("shown_user").is_null() | (pl.col("shown_user") == pl.col("user_id"))))
        .with_columns(weight=pl.lit(1.0))
    )
    touched = (
        known.filter(pl.col("request_id").is_null())
        .drop("request_id")
        .join(places, left_on=["user_id", "item_id"], right_on=["shown_user", "item_id"])
        .filter(inside)
    )
    if windows.model == "last_touch":
        touched = touched.sort("number", "shown_ts", "request_id", "place").group_by("number").last()
        touched = touched.with_columns(weight=pl.lit(1.0))
    else:
        touched = touched.with_columns(weight=1.0 / pl.len().over("number"))
    columns = (
        "request_id",
        pl.col("place").cast(pl.Int64),
        "event",
        "ts",
        "weight",
        (pl.col("value").cast(pl.Float64).fill_null(0.0) * pl.col("weight")).alias("value"),
    )
    return pl.concat([direct.select(columns), touched.select(columns)])


def in_micros(frame: pl.LazyFrame) -> pl.LazyFrame:
    """A log with its times `ts` as microseconds since 1970 UTC."""
    return frame if frame.collect_schema()["ts"].is_integer() else frame.with_columns(pl.col("ts").dt.epoch("us"))


def _micros(frame: pl.DataFrame) -> pl.Expr:
    """Times as integers, whatever the column's type is."""
    return pl.col("ts").cast(pl.Int64) if frame.schema["ts"].is_integer() else pl.col("ts").dt.epoch("us")


def _require(frame: pl.DataFrame, names: tuple[str, ...], table: str) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{table}: column {missing[0]!r} is missing; columns there: {', '.join(frame.columns)}; expected the table"
            " that `txrec export-events` writes"
        )
