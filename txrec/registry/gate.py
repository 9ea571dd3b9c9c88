"""Promotion gate: the decision whether a new version replaces the one in production, with its inequality."""

from dataclasses import asdict, dataclass
from typing import Any

from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.slice_warnings import SliceWarning


@dataclass(frozen=True)
class ServedGain:
    """Change of the clicks per served slate, had a version ordered the products shown; estimated from the log.

    Attributes:
        estimator: of `loop.off_policy`.
        earned: clicks per slate as served.
        gain: estimated change.
        low: lower end of its 95 % interval.
        high: upper end.
        slates: number of slates.
    """

    estimator: str
    earned: float
    gain: float
    low: float
    high: float
    slates: int


@dataclass(frozen=True)
class Decision:
    """Verdict of the gate on a version: the measured figures, and the inequality that decided.

    A version is promoted if every smoke query is answered and its metric is at most `margin` (a share) below that of
    the version in production on the same requests. Requests that followed production's own slates favour production:
    users click what they are shown. Where the log tells what the version's order of these slates would have earned
    (`served`), a version that earns at most `margin` less passes too, unless its metric is more than `served_margin`
    below production's. The best baseline on these requests is stated next to it and decides
    nothing: there is no bundle of it that could serve instead.
    """

    version: str
    metric: str
    value: float
    """The new version's."""
    margin: float
    num_cases: int
    interval: Interval | None = None
    """95 % interval of the value; None = none was made."""
    baseline: str = ""
    """The best baseline; empty = there is none."""
    baseline_value: float | None = None
    over_baseline: Paired | None = None
    """Difference of the new version from it."""
    production: str | None = None
    """Version in production at the time; None = none."""
    production_value: float | None = None
    """Its value on the same requests; None = there is none to compare with."""
    production_problem: str = ""
    """Error that keeps the version in production from opening; such a version cannot serve, so it blocks nothing."""
    over_production: Paired | None = None
    """Difference of the new version from it."""
    behind_baselines: tuple[SliceWarning, ...] = ()
    """Slices of the test requests in which it is behind a baseline; they decide nothing."""
    data_warnings: tuple[str, ...] = ()
    """Warnings of the preparation, e.g. of a test part too small to measure by; they decide nothing."""
    unanswered: tuple[str, ...] = ()
    """Smoke queries that got no answer."""
    served: ServedGain | None = None
    """Estimated change of clicks per served slate; None = there is no estimate."""
    served_margin: float = 0.0
    """Share that the metric may be below production's where `served` allows it."""
    force: bool = False
    """True where the caller promotes whatever the gate says."""
    hold: bool = False
    """True where production stays as it is: a canary decides about a version that passes."""

    @property
    def required(self) -> float | None:
        """Least value that passes; None where nothing is in production."""
        return None if self.production_value is None else self.production_value * (1.0 - self.margin)

    @property
    def passed(self) -> bool:
        """Verdict of the gate itself."""
        return not self.unanswered and (self.required is None or self.value >= self.required or self.passed_as_served)

    @property
    def passed_as_served(self) -> bool:
        """True where served slates decide for a version whose metric alone would be too low."""
        if self.served is None or self.production_value is None or self.required is None or self.value >= self.required:
            return False
        enough = self.served.gain >= -self.margin * self.served.earned
        return enough and self.value >= self.production_value * (1.0 - self.served_margin)

    @property
    def promote(self) -> bool:
        """True where the version goes into production."""
        return (self.passed or self.force) and not self.hold

    @property
    def forced(self) -> bool:
        """Promoted in spite of the gate."""
        return self.force and not self.passed

    @property
    def inequality(self) -> str:
        """`ndcg@10 0.1312 >= 0.1301 required`."""
        if self.required is None:
            unopened = f"{self.production} in production cannot be opened, {self.production_problem}"
            compared = unopened if self.production else "nothing in production to compare with"
            return f"{self.metric} {self.value:.4f}, {compared}"
        sign = ">=" if self.value >= self.required else "<"
        text = f"{self.metric} {self.value:.4f} {sign} {self.required:.4f} required"
        if self.served is None or self.production_value is None or self.value >= self.required:
            return text
        least, lowest = -self.margin * self.served.earned, self.production_value * (1.0 - self.served_margin)
        signs = [">=" if left >= right else "<" for left, right in ((self.served.gain, least), (self.value, lowest))]
        return (
            f"{text}; clicks per served slate {self.served.gain:+.4f} ({self.served.low:+.4f} to"
            f" {self.served.high:+.4f}) {signs[0]} {least:+.4f} with {self.metric} {signs[1]} {lowest:.4f}"
        )

    def __str__(self) -> str:
        """`promote v2: ndcg@10 0.1312 >= 0.1301 required`."""
        kept = self.production or "no version"
        verb = f"promote {self.version}" if self.promote else f"keep {kept}, not {self.version}"
        if self.hold and self.passed:
            verb = f"try {self.version} as a canary"
        parts = [self.inequality]
        if self.interval is not None:
            parts.append(f"95 % interval {self.interval.low:.4f} to {self.interval.high:.4f}")
        if self.baseline_value is not None:
            parts.append(f"best baseline {self.baseline} {self.baseline_value:.4f}")
        certain = [one.slice.replace("_", " ") for one in self.behind_baselines if one.certain]
        if certain:
            parts.append("behind a baseline in " + ", ".join(certain))
        if self.unanswered:
            parts.append("no answer to " + ", ".join(repr(query) for query in self.unanswered))
        return f"{verb}{' by force' if self.forced else ''}: {'; '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON object for the manifest."""
        derived = ("required", "passed", "passed_as_served", "promote", "forced")
        behind = [one.to_dict() for one in self.behind_baselines]
        fields = {**asdict(self), "unanswered": list(self.unanswered), "behind_baselines": behind}
        fields["data_warnings"] = list(self.data_warnings)
        return {**fields, **{name: getattr(self, name) for name in derived}, "decision": str(self)}
