"""Live drift: the traffic of the last day compared with the training log of the bundle that answers.

Query mix, item mix, mix of categories, shares of unknown users, products and queries, of each kind of event, repeated
times, activity of users and values of purchases are compared with the days of the training log
(`traffic.TrafficProfile`) by `drift.Reference`, whose thresholds are calibrated by resampling for the present amount of
traffic. Figures of taste are compared over several days in a row too (`SPANS`): a change that one day of little traffic
does not show stands out there. Scores are compared with those of the same version on the days before, because the
training log has none, and each placement with its own days before (`placement_drift`).

An unusual figure of taste is a `drift`, a reason to train again; any other is a `fault` of the data, which training
again would only learn. A change of taste that the last days of the training log show as well is none: the bundle was
trained on it, and training again would change nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from txrec.loop.drift import usual_categories
from txrec.loop.drift.drift import MIN_REFERENCE, Days, Finding, Floats, Layout, Ratio, Reference, enough
from txrec.loop.drift.placement_drift import CLICK_SHARE, IN_PLACEMENT, PlacementDrift
from txrec.loop.drift.traffic import TrafficProfile
from txrec.loop.drift.traffic_counts import ACTIVITY, GROUPS, HORIZONS, KINDS, UNKNOWN, as_days, dense, live_rows
from txrec.schema import DAY_US

Outcome = Literal["quiet", "drift", "fault", "not judged"]
ALPHA = 0.002
"""Share of quiet windows with a false alarm; one window per hour is looked at."""
MIN_EVENTS = 200
HOUR_US = 3_600_000_000
MAX_GAP_US = 3 * HOUR_US
"""The log must reach back to the beginning of the day that is judged, except for this gap, microseconds."""
SPANS = (3, 7)
"""Days in a row over which figures of taste are compared too, where the training log has enough days."""
_SCORES = Layout((), {}, {"score": "score:"})
_SCORE_DAYS = 28
_SIZE_STEP = 0.05
_LABELS = {"user": "users", "item": "products", "query": "queries"}


def _unknown_share(name: str) -> str:
    return f"share of events with unknown {_LABELS[name]}"


_UNKNOWN_SHARES = frozenset(map(_unknown_share, UNKNOWN))
_OVER = " over "  # between the name of a figure and its span
TASTES = frozenset(
    {
        *_UNKNOWN_SHARES,
        usual_categories.FIGURE,
        "mix of query",
        "mix of item",
        "mix of category",
        "mix of score",
        "share of searches",
        CLICK_SHARE,
    }
)
"""Figures of what people want, in all or of a placement; all others are figures of the data's integrity."""


def is_taste(figure: str) -> bool:
    """True for a figure of what people want, whatever its placement and span."""
    return figure.partition(IN_PLACEMENT)[0].partition(_OVER)[0] in TASTES


@dataclass(frozen=True)
class TrafficDrift:
    """Comparison of a day of live traffic with the training log.

    Attributes:
        outcome: `quiet`, `drift` (train again), `fault` (mend the data) or `not judged`.
        reason: why it is not judged; empty otherwise.
        version: of the bundle whose training log it is compared with.
        events: of the day.
        since_us: beginning of the day, microseconds since 1970 UTC.
        until_us: its end.
        readings: all figures, most unusual first.
    """

    outcome: Outcome
    reason: str = ""
    version: str = ""
    events: int = 0
    since_us: int = 0
    until_us: int = 0
    readings: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The unusual figures."""
        return tuple(one for one in self.readings if one.unusual)

    def __str__(self) -> str:
        """`drift from v3: mix of query 0.31 (usually 0.04): deviation 22.1 > 5.0`."""
        if self.outcome == "not judged":
            return f"live drift not judged: {self.reason}"
        if self.outcome == "quiet":
            return f"quiet: {self.events:,} events of a day look like the training log of {self.version}"
        return f"{self.outcome} from {self.version}: {'; '.join(str(one) for one in self.findings)}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        head = {
            name: getattr(self, name) for name in ("outcome", "reason", "version", "events", "since_us", "until_us")
        }
        rows = [{**asdict(one), "unusual": one.unusual, "taste": is_taste(one.figure)} for one in self.readings]
        return {**head, "figures": rows, "decision": str(self)}


class LiveDrift:
    """Repeated comparison of live traffic with the training log of one version; remembers past hours and scores.

    Args:
        profile: of the version's training log.
        version: of the bundle.
        alpha: share of quiet windows that may raise a false alarm: a quarter each by a day next to the training log,
            by several days next to it, by scores and by placements.
        placements: what is usual at each placement, kept from version to version; None = nothing is known yet.
    """

    def __init__(
        self,
        profile: TrafficProfile,
        version: str,
        alpha: float = ALPHA,
        placements: PlacementDrift | None = None,
    ) -> None:
        self.version = version
        self._profile = profile
        self._alpha = alpha
        self._placements = placements or PlacementDrift(alpha / 4)
        self._scores: dict[int, pl.DataFrame] = {}
        self._hours: dict[int, Floats] = {}
        self._references: dict[tuple[int, int, float], Reference] = {}

    def forgetful(self) -> "LiveDrift":
        """The same comparison, with its thresholds, that has seen no traffic yet."""
        again = LiveDrift(self._profile, self.version, self._alpha)
        again._references = self._references
        return again

    def look(self, slates: pl.DataFrame, events: pl.DataFrame, now_us: int) -> TrafficDrift:
        """Compares the day before `now_us`.

        Args:
            slates: as `attribution.slates_of` gives them, with `model_version` and `scores`; older ones than of that
                day tell what scores are usual.
            events: columns of schema.EVENTS, `ts` in microseconds.
            now_us: end of the day, microseconds since 1970 UTC.
        """
        since = now_us - DAY_US
        window = events.filter((pl.col("ts") >= since) & (pl.col("ts") < now_us))
        about = TrafficDrift("not judged", "", self.version, window.height, since, now_us)
        others = self._score_readings(slates, since, now_us)
        others += self._placements.readings(slates, events, self._profile.vocabulary, now_us)
        self._remember(events.filter((pl.col("ts") >= now_us - SPANS[-1] * DAY_US) & (pl.col("ts") < now_us)))
        reason = _too_little(window, events, slates, since)
        spans = self._span_readings(now_us)
        try:
            readings = () if reason else self._readings(window, now_us)
        except ValueError as error:
            reason, readings = str(error), ()
        if reason and not spans:
            return replace(about, reason=reason)
        readings = tuple(sorted(readings + spans + others, key=lambda one: one.threshold - one.deviation))
        unusual = {one.figure for one in readings if one.unusual}
        outcome: Outcome = "quiet" if not unusual else "drift" if all(map(is_taste, unusual)) else "fault"
        return replace(about, outcome=outcome, readings=readings)

    def _readings(self, window: pl.DataFrame, now_us: int) -> tuple[Finding, ...]:
        """All figures of the last day.

        Raises:
            ValueError: the day is too small to be judged.
        """
        days, horizon = usual_days(self._profile, (now_us - self._profile.end_us) / DAY_US)
        live = _aligned(dense(live_rows(window, self._profile.vocabulary)), days.names)
        return _news(self._reference(days, horizon, 1, live), live, days.totals[-1])

    def _span_readings(self, now_us: int) -> tuple[Finding, ...]:
        """The figures of taste over several days, of spans that begin after the training log and were seen whole."""
        findings: list[Finding] = []
        for span in SPANS:
            since = now_us - span * DAY_US
            hours = [counts for hour, counts in self._hours.items() if hour * HOUR_US >= since]
            seen_us = min(self._hours, default=0) * HOUR_US
            if since < self._profile.end_us or not hours or seen_us > since + MAX_GAP_US:
                continue
            days, horizon = usual_days(self._profile, (now_us - self._profile.end_us) / DAY_US)
            live = np.sum(hours, axis=0)
            if len(days.days) < enough(span) or live[days.names.index("events")] < MIN_EVENTS:
                continue
            try:
                readings = _news(self._reference(days, horizon, span, live), live, days.totals[-span:].sum(axis=0))
            except ValueError:  # too little traffic even so
                continue
            findings += [replace(one, figure=f"{one.figure}{_OVER}{span} days") for one in readings]
        return tuple(findings)

    def _reference(self, days: Days, horizon: int, span: int, live: Floats) -> Reference:
        """The reference for traffic of this amount, kept from look to look.

        Raises:
            ValueError: traffic is too little to be judged.
        """
        usual = span * float(np.median(days.totals[:, days.names.index("events")]))
        size = _rounded(float(live[days.names.index("events")]) / max(usual, 1.0))
        key = (horizon, span, size)
        if key not in self._references:
            part = self._alpha / 4 / (1 if span == 1 else len(SPANS))
            figures = layout(horizon) if span == 1 else taste_layout(horizon, span)
            self._references[key] = Reference(days, figures, part, size)
        return self._references[key]

    def _remember(self, events: pl.DataFrame) -> None:
        """Keeps the counts of each hour, as complete as they have been seen."""
        if not events.height:
            return
        days = self._profile.days
        rows = live_rows(events, self._profile.vocabulary).with_columns(window=pl.col("ts") // HOUR_US)
        counts = dense(rows)
        place = days.names.index("events")
        for hour, totals in zip(counts.days.tolist(), counts.totals, strict=True):
            row = _in_order(counts.names, totals, days.names)
            if hour not in self._hours or row[place] >= self._hours[hour][place]:
                self._hours[hour] = row
        first = max(self._hours) - 24 * SPANS[-1] - 24
        self._hours = {hour: row for hour, row in self._hours.items() if hour >= first}

    def _score_readings(self, slates: pl.DataFrame, since: int, now_us: int) -> tuple[Finding, ...]:
        """The mix of first scores; nothing before there are enough days of this version."""
        rows = _score_rows(slates, self.version)
        for (day,), part in rows.group_by(pl.col("ts") // DAY_US):
            number = int(str(day))
            before = self._scores.get(number)
            if before is None or part.height >= before.height:
                self._scores[number] = part
        past = [part for day, part in sorted(self._scores.items()) if (day + 1) * DAY_US <= since][-_SCORE_DAYS:]
        self._scores = {day: part for day, part in self._scores.items() if day * DAY_US > since - 30 * DAY_US}
        own = rows.filter((pl.col("ts") >= since) & (pl.col("ts") < now_us))
        if len(past) < MIN_REFERENCE or own.height < MIN_EVENTS:
            return ()
        days = _score_days(pl.concat(past).with_columns(window=pl.col("ts") // DAY_US))
        live = _aligned(_score_days(own.with_columns(window=pl.lit(0, pl.Int64))), days.names)
        size = own.height / float(np.median(days.totals.sum(axis=1)))
        try:
            return Reference(days, _SCORES, self._alpha / 4, size).readings(live)
        except ValueError:  # too few slates of this version
            return ()


def _news(reference: Reference, live: Floats, last: Floats) -> tuple[Finding, ...]:
    """The readings of live counts (F,); tastes that the log ended (F,) with are at most at their threshold."""
    learned = {one.figure for one in reference.findings(last) if one.figure in TASTES - _UNKNOWN_SHARES}
    return tuple(
        replace(one, deviation=min(one.deviation, one.threshold)) if one.figure in learned else one
        for one in reference.readings(live)
    )


def usual_days(profile: TrafficProfile, age: float) -> tuple[Days, int]:
    """The days that traffic `age` days after the training log is compared with, and the horizon of unknown shares.

    The horizon is the smallest one that is not below the age. Days that begin less than a horizon after the log are
    left out, since all their ids are new; where too few days would be left, the horizon is a smaller one.
    """
    days = profile.days
    least = min((one for one in HORIZONS if one >= age), default=HORIZONS[-1])
    for horizon in sorted((one for one in HORIZONS if one <= least), reverse=True):
        rows = np.flatnonzero(days.days >= profile.start_us // DAY_US + horizon)
        if len(rows) >= MIN_REFERENCE:
            return days.take(rows), horizon
    return days, HORIZONS[0]


def layout(horizon: int) -> Layout:
    """The figures of a day, unknown shares at a horizon in days."""
    ratios: Mapping[str, Ratio] = {
        **_unknown(horizon),
        **{f"share of events that are a {kind}": Ratio(kind, "events") for kind in KINDS},
        "share of events at the time of the user's last one": Ratio("same_time", "events"),
        "mean value of a purchase": Ratio("value", "purchase"),
        **_usual(horizon),
    }
    mixes = {mix: f"{mix}:" for mix in ("query", "item", "category", "hour")}
    return Layout((), ratios, {**mixes, "events by activity of the user": ACTIVITY})


def taste_layout(horizon: int, span: int) -> Layout:
    """The figures of taste of several days in a row, at a horizon in days."""
    return Layout(
        (), {**_unknown(horizon), **_usual(horizon)}, {mix: f"{mix}:" for mix in ("query", "item", "category")}, span
    )


def _unknown(horizon: int) -> dict[str, Ratio]:
    of = {"user": "events", "item": "item_events", "query": "query_events"}
    return {_unknown_share(name): Ratio(f"unknown_{name}@{horizon}", of[name], "above") for name in UNKNOWN}


def _usual(horizon: int) -> dict[str, Ratio]:
    return {usual_categories.FIGURE: Ratio(f"usual@{horizon}", f"past@{horizon}", "below")}


def _rounded(size: float) -> float:
    """A size that references are calibrated for: the next lower multiple of 0.05, where thresholds are larger."""
    return 1.0 if size >= 1 else size if size < _SIZE_STEP else int(size / _SIZE_STEP) * _SIZE_STEP


def _too_little(window: pl.DataFrame, events: pl.DataFrame, slates: pl.DataFrame, since: int) -> str:
    """Reason why a day of traffic is too little to be judged; empty if it is enough."""
    if window.height < MIN_EVENTS:
        return f"{window.height} events within a day, {MIN_EVENTS} are needed"
    first = min(int(frame.select(pl.col("ts").min()).item()) for frame in (events, slates) if frame.height)
    if first > since + MAX_GAP_US:
        return f"the log reaches back {(window.select(pl.col('ts').max()).item() - first) / HOUR_US:.1f} of 24 hours"
    return ""


def _aligned(days: Days, names: tuple[str, ...]) -> Floats:
    """(F,) totals of the only day of `days` in the order of other names, without bins that those do not have."""
    return _in_order(days.names, days.totals[0], names)


def _in_order(names: tuple[str, ...], totals: Floats, order: tuple[str, ...]) -> Floats:
    """(F,) totals by name in the order of other names, 0 for those that are not there."""
    by_name = dict(zip(names, totals.tolist(), strict=True))
    return np.array([by_name.get(name, 0.0) for name in order])


def _score_rows(slates: pl.DataFrame, version: str) -> pl.DataFrame:
    """Time, group of the user and score bin of the first product of each slate of a version."""
    if not {"scores", "model_version"} <= set(slates.columns):
        return pl.DataFrame(schema={"ts": pl.Int64, "group": pl.Int64, "name": pl.String})
    first = pl.col("scores").list.first().cast(pl.Float64)
    return slates.filter((pl.col("model_version") == version) & first.is_not_null()).select(
        "ts",
        group=(pl.col("key").hash(0) % GROUPS).cast(pl.Int64),
        name="score:" + ((first * 10).arcsinh() * 4).floor().cast(pl.Int64).cast(pl.String),
    )


def _score_days(rows: pl.DataFrame) -> Days:
    return as_days(rows.group_by("window", "group", "name").agg(amount=pl.len().cast(pl.Float64)))
