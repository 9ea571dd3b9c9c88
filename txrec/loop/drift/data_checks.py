"""Data checks: the days of a log as counts, compared with the days before; the decision to go on, retrain or stop.

Two questions are asked of a preparation. *Are the days that the last preparation knew still there?* Their volumes must
agree within a tolerance: a source that is missing shows at once. *Do the new days look like the days before?* `drift`
answers, with false alarms calibrated by resampling. Figures of the data's integrity (volumes, nulls, prices, times,
duplicates, concentration on few users) are a `break`, which stops the pipeline until somebody accepts it; figures of
what people want (mix of categories, queries, prices, new products) are a `drift`, which asks for retraining.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from txrec.loop.drift import usual_categories
from txrec.loop.drift.drift import ALPHA, MIN_REFERENCE, Days, Finding, Layout, Ratio, Reference
from txrec.schema import DAY_US
from txrec.storage import write_text

GROUPS = 200
"""Groups of users by hash: the unit that is resampled."""
REFERENCE_DAYS = 28
KINDS = ("view", "search", "click", "cart", "purchase")
QUERY_BINS, PRICE_BINS = 32, 24
Outcome = Literal["pass", "drift", "break"]

LAYOUT = Layout(
    volumes=("users", *KINDS),
    ratios={
        "share of events without a query": Ratio("no_query", "events"),
        "share of events on products without a price": Ratio("no_price", "item_events"),
        "share of events on products without a title": Ratio("no_title", "item_events"),
        "share of events of new users": Ratio("new_user", "events"),
        "share of events on new products": Ratio("new_item", "item_events"),
        "share of events with a new query": Ratio("new_query", "query_events"),
        "share of events at the time of the user's last one": Ratio("same_time", "events"),
        "share of events that repeat the last one": Ratio("repeated", "events"),
        usual_categories.FIGURE: Ratio("usual", "past"),
        "mean squared events per user": Ratio("squares", "users"),
        "mean value of a purchase": Ratio("value", "purchase"),
    },
    mixes={"category": "category:", "query": "query:", "price": "price:", "hour": "hour:"},
)
DRIFTS = frozenset(
    {
        "share of events of new users",
        "share of events on new products",
        "share of events with a new query",
        "share of events without a query",
        usual_categories.FIGURE,
        "mix of category",
        "mix of query",
        "mix of price",
    }
)
"""Figures of what people want; all others are figures of the data's integrity."""


@dataclass(frozen=True)
class CheckDecision:
    """The outcome of a check.

    Attributes:
        outcome: `pass`, `drift` (retrain) or `break` (stop).
        findings: unusual figures, as `(day, finding)`; the day as text.
        missing: volumes of known days that do not agree any more, as inequalities.
        days: days that were compared; 0 = there were too few before them.
        accepted: who accepted a break, and why; empty = nobody.
    """

    outcome: Outcome
    findings: tuple[tuple[str, Finding], ...]
    missing: tuple[str, ...]
    days: int
    accepted: str = ""

    def __str__(self) -> str:
        """`break: 2026-03-04 volume of purchase 0 (usually 212): deviation 41.0 > 6.3`."""
        reasons = [*self.missing, *(f"{day} {finding}" for day, finding in self.findings)]
        if not reasons:
            return f"pass: {self.days} days look like those before"
        taken = f" (accepted: {self.accepted})" if self.accepted else ""
        return f"{self.outcome}{taken}: {'; '.join(reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON object of the decision."""
        return {
            "outcome": self.outcome,
            "findings": [{"day": day, **asdict(finding)} for day, finding in self.findings],
            "missing": list(self.missing),
            "days": self.days,
            "accepted": self.accepted,
            "decision": str(self),
        }


def days_of(events: pl.DataFrame, items: pl.DataFrame) -> Days:
    """Counts of the days of a log by groups of users.

    Args:
        events: `user_id`, `ts` (microseconds), `event`, `item_id`, `query`, `value`; times of 0 are left out.
        items: `item_id`, `title`, `price`, `category` (broadest first or text).
    """
    category = pl.col("category").list.first() if items.schema["category"] == pl.List else pl.col("category")
    known = items.select(
        "item_id",
        title_known=pl.col("title").is_not_null() & (pl.col("title") != ""),
        price=pl.col("price").cast(pl.Float64),
        category=category.cast(pl.String).fill_null("none"),
        path=usual_categories.path(items["category"]),
    )
    frame = (
        events.filter(pl.col("ts") > 0).join(known, on="item_id", how="left").sort("user_id", "ts", maintain_order=True)
    )
    rows = _with_usual(frame.with_columns(**_marks()))
    group = (pl.col("user_id").hash(0) % GROUPS).cast(pl.Int64)
    per_user = rows.group_by("day", "user_id").agg(*_sums()).with_columns(group=group, users=pl.lit(1.0))
    squares = (pl.col("events") * pl.col("events")).sum().alias("squares")
    simple = per_user.group_by("day", "group").agg(pl.col(_SIMPLE).sum(), squares)
    bins = pl.concat(
        [
            rows.filter(pl.col(name).is_not_null())
            .group_by("day", group.alias("group"), (f"{name}:" + pl.col(name).cast(pl.String)).alias("name"))
            .agg(amount=pl.len().cast(pl.Float64))
            for name in ("category_bin", "query_bin", "price_bin", "hour_bin")
        ]
    ).with_columns(pl.col("name").str.replace("_bin:", ":"))
    long = pl.concat(
        [
            simple.unpivot(index=["day", "group"], variable_name="name", value_name="amount"),
            bins.select("day", "group", "name", "amount"),
        ]
    )
    return _dense(long)


def _with_usual(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds how usual the category of each event is for its user, and whether the user has a past."""
    past = usual_categories.affinities(rows.select("day", user="user_id", category="path"), (1,))
    joined = rows.join(
        past,
        left_on=["user_id", "path", "day"],
        right_on=["user", "category", "day"],
        how="left",
        maintain_order="left",
    )
    affinity = pl.col("affinity@1")
    return joined.with_columns(usual=affinity.fill_null(0.0), past=affinity.is_not_null()).drop("affinity@1")


_MARKS = (
    "no_query",
    "no_price",
    "no_title",
    "new_user",
    "new_item",
    "new_query",
    "same_time",
    "repeated",
    "usual",
    "past",
)
_SIMPLE = ("users", "events", "item_events", "query_events", *KINDS, *_MARKS, "value")


def _marks() -> dict[str, pl.Expr]:
    """Counts of each event, as expressions."""
    day = pl.col("ts") // DAY_US
    item, query = pl.col("item_id"), pl.col("query")
    same_user = pl.col("user_id") == pl.col("user_id").shift(1)
    first_day = {name: pl.col("ts").min().over(name) // DAY_US == day for name in ("user_id", "item_id", "query")}
    price = pl.col("price")
    return {
        "day": day,
        "no_query": query.is_null(),
        "no_price": item.is_not_null() & price.is_null(),
        "no_title": item.is_not_null() & ~pl.col("title_known").fill_null(value=False),
        "new_user": first_day["user_id"],
        "new_item": item.is_not_null() & first_day["item_id"],
        "new_query": query.is_not_null() & first_day["query"],
        "same_time": (same_user & (pl.col("ts") == pl.col("ts").shift(1))).fill_null(value=False),
        "repeated": (same_user & (item == item.shift(1)) & (pl.col("event") == pl.col("event").shift(1))).fill_null(
            value=False
        ),
        "category_bin": pl.col("category"),
        "query_bin": pl.when(query.is_not_null()).then(query.hash(0) % QUERY_BINS),
        "price_bin": pl.when(price > 0).then((price.log(2) * 2).floor().clip(-8, PRICE_BINS - 9).cast(pl.Int64)),
        "hour_bin": pl.col("ts") // 3_600_000_000 % 24,
    }


def _sums() -> list[pl.Expr]:
    return [
        pl.len().cast(pl.Float64).alias("events"),
        pl.col("item_id").is_not_null().sum().cast(pl.Float64).alias("item_events"),
        pl.col("query").is_not_null().sum().cast(pl.Float64).alias("query_events"),
        *((pl.col("event") == kind).sum().cast(pl.Float64).alias(kind) for kind in KINDS),
        *(pl.col(name).sum().cast(pl.Float64) for name in _MARKS),
        pl.col("value").filter(pl.col("event") == "purchase").sum().cast(pl.Float64),
    ]


def _dense(long: pl.DataFrame) -> Days:
    names = tuple(sorted({*_SIMPLE, "squares", *long["name"].unique().to_list()}))
    place = {name: number for number, name in enumerate(names)}
    days = np.unique(long["day"].to_numpy())
    counts = np.zeros((len(days), GROUPS, len(names)))
    row = np.searchsorted(days, long["day"].to_numpy())
    column = np.array([place[name] for name in long["name"].to_list()], np.int64)
    np.add.at(counts, (row, long["group"].to_numpy(), column), long["amount"].to_numpy())
    return Days(names, counts, days.astype(np.int64))


def check(days: Days, last: Mapping[str, Any] | None, alpha: float = ALPHA, tolerance: float = 0.02) -> CheckDecision:
    """Checks the days that the last preparation did not know against those before them.

    Args:
        days: of this preparation, the last one complete.
        last: `profile` of the last preparation; None = the last quarter of the days is checked against the others.
        alpha: share of quiet days that may raise a false alarm.
        tolerance: share by which the volumes of known days may differ from the last preparation's.
    """
    known = {int(day): row for day, row in (last or {}).get("days", {}).items()}
    fresh = np.flatnonzero(days.days > max(known)) if known else np.arange(len(days.days) * 3 // 4, len(days.days))
    missing = _missing(days, known, tolerance)
    before = np.arange(fresh[0] if len(fresh) else len(days.days))[-REFERENCE_DAYS:]
    if len(before) < MIN_REFERENCE:
        return CheckDecision("break" if missing else "pass", (), missing, 0)
    reference = Reference(days.take(before), LAYOUT, alpha)
    findings = tuple(
        (_text(int(days.days[day])), finding) for day in fresh for finding in reference.findings(days.totals[day])
    )
    broken = bool(missing) or any(finding.figure not in DRIFTS for _, finding in findings)
    outcome: Outcome = "break" if broken else "drift" if findings else "pass"
    return CheckDecision(outcome, findings, missing, len(fresh))


def profile(days: Days, settings: str = "") -> dict[str, Any]:
    """Volumes by day, as JSON holds them: the next preparation of the same settings is compared with it."""
    columns = [days.names.index(name) for name in LAYOUT.volumes]
    table = {str(int(day)): row[columns].tolist() for day, row in zip(days.days, days.totals, strict=True)}
    return {"settings": settings, "volumes": list(LAYOUT.volumes), "days": table}


def write(folder: Path, decision: CheckDecision, days: Days, settings: str = "") -> None:
    """Writes `checks.json`; the profile in it is replaced only where the preparation may be used."""
    file = folder / "checks.json"
    former = read(folder)
    usable = decision.outcome != "break" or decision.accepted
    kept = profile(days, settings) if usable else (former or {}).get("profile")
    text = {"checked": datetime.now(UTC).isoformat(), **decision.to_dict(), "profile": kept}
    write_text(file, json.dumps(text, indent=1))


def read(folder: Path) -> dict[str, Any] | None:
    """The last `checks.json`; None before the first check."""
    file = folder / "checks.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _missing(days: Days, known: Mapping[int, list[float]], tolerance: float) -> tuple[str, ...]:
    """Volumes that known days have lost, summed over the days that both preparations hold."""
    both = [row for row, day in enumerate(days.days.tolist()) if day in known]
    if not known or not both:
        return ("none of the days of the last preparation is there any more",) if known else ()
    findings = []
    for column, name in enumerate(LAYOUT.volumes):
        before = sum(known[int(days.days[row])][column] for row in both[:-1] or both)
        now = float(days.totals[both[:-1] or both, days.names.index(name)].sum())
        if abs(now - before) > tolerance * max(before, 1.0):
            findings.append(f"volume of {name} on known days {now:,.0f}, {before:,.0f} in the last preparation")
    return tuple(findings)


def _text(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
