"""The check of a preparation against the last one: reads prepared tables, decides, records, and stops on a break."""

import getpass
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl

from txrec.config import Config, fingerprint
from txrec.data.prepared import PreparedData
from txrec.errors import DataError
from txrec.loop.drift import data_checks
from txrec.loop.drift.data_checks import CheckDecision
from txrec.schema import EventKind

_HASHES = 1 << 20


def run(config: Config, data: PreparedData, accept: str = "", clock: Callable[[], float] = time.time) -> CheckDecision:
    """Checks a preparation and records the outcome in `reports/checks.json`.

    The first preparation, and one with other sources or settings than the last, is recorded without being compared;
    its freshness is checked all the same.

    Args:
        config: of the run.
        data: the prepared data set.
        accept: why a break is accepted; empty = it is not.
        clock: seconds since 1970 UTC.

    Raises:
        DataError: the check broke and nobody accepted it; the message says what broke and how to accept it.
    """
    share = _share(data.meta.num_events, config.checks.max_events)
    days = data_checks.days_of(events_of(data, share), _items(data))
    if not len(days.days):
        return CheckDecision("pass", (), (), 0)
    settings = fingerprint(config.data, config.prepare, share)
    last: dict[str, Any] = (data_checks.read(config.reports_dir) or {}).get("profile") or {}
    comparable = last.get("settings") == settings
    decision = (
        data_checks.check(days, last, config.checks.alpha, config.checks.tolerance)
        if comparable
        else CheckDecision("pass", (), (), 0)
    )
    old = _stale(config.checks.max_age_h, data, clock())
    if old:
        decision = replace(decision, outcome="break", missing=(*decision.missing, old))
    if decision.outcome == "break" and accept:
        decision = replace(decision, accepted=f"{getpass.getuser()}: {accept}")
    data_checks.write(config.reports_dir, decision, days, settings)
    if decision.outcome == "break" and not decision.accepted:
        raise DataError(
            f"{config.data_dir}: the log is not as it should be: {decision}; mend the source, or run"
            f' `txrec prepare CONFIG --accept "REASON"` if it is right ({config.reports_dir / "checks.json"})'
        )
    return decision


def _stale(limit_h: float, data: PreparedData, now_s: float) -> str:
    """Inequality of a log whose last event is too old; empty if it is fresh enough."""
    hours = (now_s - data.meta.end_ts / 1e6) / 3_600
    if not limit_h or not data.meta.has_time or hours <= limit_h:
        return ""
    return f"age of the last event {hours:,.1f} h > {limit_h:g} h (checks.max_age_h)"


def events_of(data: PreparedData, share: float = 1.0) -> pl.DataFrame:
    """The prepared events as `data_checks.days_of` takes them.

    Args:
        data: prepared.
        share: of the users, chosen by hash: the same ones in every preparation.
    """
    folder = data.path / "sequences"
    if not folder.is_dir():
        return pl.DataFrame(schema=_EVENTS)
    columns = ("item_idx", "query_idx", "event", "ts", "value")
    rows = pl.scan_parquet(folder / "*.parquet").select("user_id", *columns)
    if share < 1:
        rows = rows.filter(pl.col("user_id").hash(1) % _HASHES < int(share * _HASHES))
    flat = rows.collect().explode(columns, empty_as_null=False)
    kinds = {int(kind): kind.label for kind in EventKind}
    items = ["", *data.items["item_id"].to_pylist()]
    queries = ["", *data.queries["query"].to_pylist()]
    return flat.select(
        "user_id",
        pl.col("ts").cast(pl.Int64),
        pl.col("event").cast(pl.Int64).replace_strict(kinds, return_dtype=pl.String),
        item_id=_names(items, "item_idx"),
        query=_names(queries, "query_idx"),
        value=pl.col("value").cast(pl.Float64).fill_nan(None),
    )


_EVENTS = {
    "user_id": pl.String,
    "ts": pl.Int64,
    "event": pl.String,
    "item_id": pl.String,
    "query": pl.String,
    "value": pl.Float64,
}


def _names(names: list[str], column: str) -> pl.Expr:
    """Strings of dense indices, 0 = none."""
    table = pl.Series(names, dtype=pl.String)
    return pl.when(pl.col(column) > 0).then(pl.lit(table).gather(pl.col(column).cast(pl.UInt32)))


def _items(data: PreparedData) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(data.items.select(["item_id", "title", "price", "category"])))


def _share(events: int, limit: int) -> float:
    """The largest power of two that leaves at most `limit` events."""
    share = 1.0
    while events * share > limit:
        share /= 2
    return share
