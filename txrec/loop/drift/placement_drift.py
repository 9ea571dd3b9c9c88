"""Drift by placement: the last day of each placement compared with its own days before.

The training log knows no placements, so that the days before in the served log tell what is usual: the share of slates
with a click, of searches, of slates without products and of fallbacks, and the mixes of queries and of the categories
shown. Thresholds are calibrated by resampling users, as everywhere (`drift`).
"""

from dataclasses import replace

import numpy as np
import polars as pl

from txrec.loop.attribution.attribution import NO_PLACEMENT
from txrec.loop.drift.drift import MIN_REFERENCE, Finding, Layout, Ratio, Reference
from txrec.loop.drift.traffic_counts import GROUPS, QUERY_BINS, Vocabulary, as_days, category_names
from txrec.schema import DAY_US

MIN_SLATES = 200
"""Slates of a day below which a placement is not judged."""
REFERENCE_DAYS = 28
IN_PLACEMENT = " in placement "
"""Between the name of a figure and that of the placement."""
CLICK_SHARE = "share of slates with a click"
LAYOUT = Layout(
    (),
    {
        CLICK_SHARE: Ratio("clicked", "slates"),
        "share of searches": Ratio("searches", "slates"),
        "share of slates without products": Ratio("empty", "slates"),
        "share of fallbacks": Ratio("fallbacks", "slates"),
    },
    {"query": "query:", "category": "category:"},
)
_SUMS = ("slates", "clicked", "searches", "empty", "fallbacks")


class PlacementDrift:
    """Repeated comparison of placements with their days before; remembers the counts of past days.

    Args:
        alpha: share of quiet windows that may raise a false alarm, over all placements together.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._past: dict[int, pl.DataFrame] = {}

    def readings(
        self, slates: pl.DataFrame, events: pl.DataFrame, vocabulary: Vocabulary, now_us: int
    ) -> tuple[Finding, ...]:
        """All figures of the day before `now_us`, of placements with enough traffic and enough days before.

        Args:
            slates: as `attribution.slates_of` gives them; older ones than of that day tell what is usual.
            events: columns of schema.EVENTS, `ts` in microseconds.
            vocabulary: of the training log, for the categories.
            now_us: end of the day, microseconds since 1970 UTC.
        """
        if not slates.height:
            return ()
        since = now_us - DAY_US
        rows = _rows(slates, events, vocabulary)
        self._remember(rows, since)
        past = [part for day, part in sorted(self._past.items()) if (day + 1) * DAY_US <= since][-REFERENCE_DAYS:]
        own = _counts(rows.filter((pl.col("ts") >= since) & (pl.col("ts") < now_us)), pl.lit(0, pl.Int64))
        if not past or not own.height:
            return ()
        usual = pl.concat(past)
        size = pl.col("amount").filter(pl.col("name") == "slates").sum()
        busy = own.group_by("placement").agg(size=size).filter(pl.col("size") >= MIN_SLATES)["placement"].sort()
        findings: list[Finding] = []
        for placement in busy:
            before, now = (frame.filter(pl.col("placement") == placement) for frame in (usual, own))
            findings += _readings(before, now, str(placement), self._alpha / len(busy))
        return tuple(findings)

    def _remember(self, rows: pl.DataFrame, since: int) -> None:
        """Keeps the counts of each calendar day, as complete as they have been seen."""
        counts = _counts(rows, pl.col("ts") // DAY_US)
        for (day,), part in counts.group_by("window"):
            number = int(str(day))
            before = self._past.get(number)
            if before is None or _slates(part) >= _slates(before):
                self._past[number] = part
        first = since // DAY_US - REFERENCE_DAYS - 2
        self._past = {day: part for day, part in self._past.items() if day >= first}


def _readings(before: pl.DataFrame, now: pl.DataFrame, placement: str, alpha: float) -> list[Finding]:
    """The figures of one placement; nothing where its days before are too few or too small."""
    columns = ("window", "group", "name", "amount")
    days = as_days(before.select(columns), _SUMS)
    if len(days.days) < MIN_REFERENCE:
        return []
    totals = dict(now.group_by("name").agg(pl.col("amount").sum()).iter_rows())
    live = np.array([totals.get(name, 0.0) for name in days.names])
    size = totals.get("slates", 0.0) / max(float(np.median(days.totals[:, days.names.index("slates")])), 1.0)
    try:
        readings = Reference(days, LAYOUT, alpha, size).readings(live)
    except ValueError:  # too few slates
        return []
    return [replace(one, figure=f"{one.figure}{IN_PLACEMENT}{placement}") for one in readings]


def _rows(slates: pl.DataFrame, events: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """One row per slate: time, group of the user, placement, marks, and the bins of query and first product."""
    answered = events.filter(pl.col("event").is_in(["click", "view"])) if "request_id" in events.columns else None
    clicked = pl.Series([], dtype=pl.String) if answered is None else answered["request_id"].drop_nulls().unique()
    query = _text(slates, "query").str.strip_chars().str.to_lowercase().replace("", None)
    first = slates.select(pl.col("item_ids").list.first())["item_ids"].cast(pl.String)
    return slates.select(
        "ts",
        group=(pl.col("key").hash(0) % GROUPS).cast(pl.Int64),
        placement=_text(slates, "placement").fill_null(NO_PLACEMENT),
        slates=pl.lit(1.0),
        clicked=pl.col("request_id").is_in(clicked.implode()).cast(pl.Float64),
        searches=query.is_not_null().cast(pl.Float64),
        empty=(pl.col("item_ids").list.len() == 0).cast(pl.Float64),
        fallbacks=_text(slates, "fallback").is_not_null().cast(pl.Float64),
        query_bin=query.hash(0) % QUERY_BINS,
        searched=query.is_not_null(),
        category=category_names(first, vocabulary),
    )


def _counts(rows: pl.DataFrame, window: pl.Expr) -> pl.DataFrame:
    """Counts as `traffic.as_days` takes them, by placement."""
    keys = ("window", "group", "placement")
    framed = rows.with_columns(window=window)
    sums = framed.group_by(keys).agg(pl.col(_SUMS).sum())
    parts = [sums.unpivot(index=list(keys), variable_name="name", value_name="amount")]
    for mix, column, present in (
        ("query", "query_bin", pl.col("searched")),
        ("category", "category", pl.col("category").is_not_null()),
    ):
        binned = framed.filter(present).group_by(*keys, name=f"{mix}:" + pl.col(column).cast(pl.String))
        parts.append(binned.agg(amount=pl.len().cast(pl.Float64)))
    return pl.concat([part.select(*keys, "name", "amount") for part in parts])


def _slates(counts: pl.DataFrame) -> float:
    return float(counts.filter(pl.col("name") == "slates")["amount"].sum())


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String)
