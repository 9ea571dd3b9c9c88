"""Drift of daily figures: what a day looks like next to the days before it, with alarms calibrated by resampling.

A day is a set of counts per group of users (`Days.counts`), so that every figure of the day follows from sums over
groups: volumes, ratios, and how far the mix of categories, queries, prices, hours or scores is from the usual one
(population stability index, PSI). Each figure is compared with its median over the reference days, in units of its
usual deviation.

The thresholds are no folk values. Quiet days are made by resampling groups of users of each reference day, and compared
with the other reference days as a new day would be. Each figure has the threshold that the same share of quiet days
exceeds, and that share is as large as it may be while all figures together alarm on `alpha` of them. A share that is
too small to be counted among the resampled days is extrapolated by an exponential tail (peaks over threshold, Pickands
1975).

Several days in a row can be judged as one (`Layout.span`): the more traffic, the smaller the changes that stand out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.005
"""Share of quiet days with a false alarm that thresholds are set for."""
RESAMPLES = 4_000
TAIL = 40
"""Most unusual resampled days of a figure that the tail of its deviations is estimated from."""
MIN_REFERENCE = 8
"""Reference days without which nothing can be called unusual."""
MIN_GROUPS = 8
"""Groups of users without which a day is too small to be judged."""
_MAD = 1.4826  # median absolute deviation to standard deviation of a normal variable
_FLOOR = 0.01  # least scale of a figure, in log units: smaller deviations are of no interest
_PSI_PRIOR = 0.5  # count added to every bin
_NOISE = 0.5  # share of a full resampling's noise: reference days have their own already, this makes them many
_LEAST = 4.0  # least threshold, for figures that never differ among the reference days


Side = Literal["both", "above", "below"]
_SIGNS: dict[Side, int] = {"both": 0, "above": 1, "below": -1}


@dataclass(frozen=True)
class Ratio:
    """A share of a day: the sum of one count over another.

    Attributes:
        count: name of the one.
        of: name of the other.
        side: on which side of its usual value it is unusual.
    """

    count: str
    of: str
    side: Side = "both"


@dataclass(frozen=True)
class Layout:
    """Figures made of the counts.

    Attributes:
        volumes: counts whose size is a figure.
        ratios: name -> ratio of two counts.
        mixes: name -> prefix of the counts whose mix is a figure; bins are those that any day has.
        span: days in a row whose sums are compared as one.
    """

    volumes: tuple[str, ...]
    ratios: Mapping[str, Ratio]
    mixes: Mapping[str, str]
    span: int = 1


@dataclass(frozen=True, eq=False)
class Days:
    """Counts of D consecutive days by G groups of users.

    Attributes:
        names: F names of counts; those of a mix begin with its prefix.
        counts: (D, G, F).
        days: (D,) number of the day since 1970.
    """

    names: tuple[str, ...]
    counts: Floats
    days: NDArray[np.int64]

    @cached_property
    def totals(self) -> Floats:
        """(D, F) counts of the days."""
        return np.asarray(self.counts.sum(axis=1))

    def take(self, rows: Sequence[int] | NDArray[np.int64] | slice) -> "Days":
        """Some of the days."""
        return Days(self.names, self.counts[rows], self.days[rows])

    def spans(self, length: int) -> "Days":
        """Sums of every `length` days in a row, as (D - length + 1) days of the number of their first one."""
        return Days(self.names, _spans(self.counts, length), self.days[: len(self.days) - length + 1])


@dataclass(frozen=True)
class Finding:
    """A figure of a day, compared with its usual value.

    Attributes:
        figure: e.g. `volume of purchase`, `mix of query`.
        value: on that day: a count, a share or a PSI.
        usual: its median over the reference days.
        deviation: in units of the usual deviation.
        threshold: that the deviation of an unusual figure exceeds.
    """

    figure: str
    value: float
    usual: float
    deviation: float
    threshold: float

    @property
    def unusual(self) -> bool:
        """True where the deviation exceeds the threshold."""
        return self.deviation > self.threshold

    def __str__(self) -> str:
        """`volume of purchase 0 (usually 212): deviation 41.0 > 6.3`."""
        return (
            f"{self.figure} {self.value:.4g} (usually {self.usual:.4g}): deviation {self.deviation:.1f}"
            f" > {self.threshold:.1f}"
        )


class Reference:
    """Reference of usual days, and the distance that a quiet day may have from it.

    Args:
        days: the reference, at least `enough(layout.span)` days.
        layout: the figures.
        alpha: share of quiet days that raise a false alarm.
        size: of the days that are compared, as a share of a reference day, 0 to 1; small days vary more.
        seed: of the resampling.

    Raises:
        ValueError: too few reference days, or a day of `size` is too small to be judged.
    """

    def __init__(self, days: Days, layout: Layout, alpha: float = ALPHA, size: float = 1.0, seed: int = 0) -> None:
        if len(days.days) < enough(layout.span):
            raise ValueError(f"{len(days.days)} reference days; at least {enough(layout.span)} are needed")
        self.layout = layout
        self.names = days.names
        self._figures = _Figures(days.names, layout)
        self._totals = days.totals
        self.thresholds = self._calibrated(days, alpha, size, seed)

    def findings(self, totals: Floats) -> tuple[Finding, ...]:
        """The unusual figures of a day with these counts (F,), most unusual first."""
        return tuple(one for one in self.readings(totals) if one.unusual)

    def readings(self, totals: Floats) -> tuple[Finding, ...]:
        """All figures of a day with these counts (F,), most unusual first."""
        shown, labels = self._figures.shown(totals[None], self._totals)
        deviation, usual = self._figures.deviations(totals[None], self._totals)
        columns = zip(labels, shown[0], usual, deviation[0], self.thresholds, strict=True)
        all_ = [Finding(label, *(float(value) for value in values)) for label, *values in columns]
        return tuple(sorted(all_, key=lambda one: one.threshold - one.deviation))

    def _calibrated(self, days: Days, alpha: float, size: float, seed: int) -> Floats:
        """(figures,) thresholds."""
        rng = np.random.default_rng(seed)
        size, span = min(size, 1.0), self.layout.span
        spans = days.spans(span).counts
        num, groups = spans.shape[:2]
        each = -(-RESAMPLES // num)
        quiet = []
        for first in range(num):
            times = size * _resampled(groups, each, 1 / size - 1 + _NOISE**2, rng)
            others = np.delete(days.totals, slice(first, first + span), axis=0)
            quiet.append(self._figures.deviations(times @ spans[first], others)[0])
        return _thresholds(np.concatenate(quiet), alpha)


def enough(span: int) -> int:
    """Reference days that a comparison of `span` days needs."""
    return max(MIN_REFERENCE, 4 * span)


def psi(counts: Floats, reference: Floats) -> Floats:
    """Population stability index of (..., K) counts against a reference mix (K,).

    sum((p - q) * log(p / q)) over the bins, with half a count added to each.
    """
    p = counts + _PSI_PRIOR
    p = p / p.sum(axis=-1, keepdims=True)
    q = reference + _PSI_PRIOR
    q = q / q.sum(axis=-1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _thresholds(deviations: Floats, alpha: float) -> Floats:
    """(figures,) thresholds that a share `alpha` of quiet days (B, figures) exceeds in any figure, at least _LEAST.

    Each figure is exceeded by equally many days. Where that are fewer than TAIL, the deviations beyond the TAIL-th are
    taken to fall off exponentially.
    """
    rank = np.argsort(np.argsort(-deviations, axis=0), axis=0)  # 0 = the most unusual day for a figure
    ordered = -np.sort(-deviations, axis=0)
    allowed = int(np.quantile(rank.min(axis=1), alpha))  # days of a smaller rank in any figure are `alpha` of all
    if allowed >= TAIL:
        return np.asarray(np.maximum(ordered[allowed], _LEAST))
    excess = (ordered[:TAIL] - ordered[TAIL]).mean(axis=0)
    share = float((rank.min(axis=1) < TAIL).mean())
    return np.asarray(np.maximum(ordered[TAIL] + excess * np.log(share / alpha), _LEAST))


def _resampled(groups: int, num: int, variance: float, rng: np.random.Generator) -> Floats:
    """(num, groups) random times that each group counts: mean 1, of a share of the variance of a full resampling.

    Raises:
        ValueError: the variance is that of fewer than MIN_GROUPS groups.
    """
    if variance <= 1:
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=num) - 1.0
        return np.asarray(1 + variance**0.5 * times)
    drawn = int(groups / variance)
    if drawn < MIN_GROUPS:
        raise ValueError(f"too small to be judged: as much as {drawn} of {groups} groups of users of a usual day")
    return np.asarray(rng.multinomial(drawn, np.full(groups, 1 / groups), size=num) * (groups / drawn))


class _Figures:
    """The figures of days from their counts, in units in which deviations can be compared.

    Args:
        names: of the counts.
        layout: the figures; with a span, `totals` are sums over its days, and `reference` are single days.
    """

    def __init__(self, names: tuple[str, ...], layout: Layout) -> None:
        self._span = layout.span
        place = {name: number for number, name in enumerate(names)}
        self._volumes = [place[name] for name in layout.volumes]
        self._ratios = [(place[ratio.count], place[ratio.of]) for ratio in layout.ratios.values()]
        signs = (0,) * len(layout.volumes), (_SIGNS[ratio.side] for ratio in layout.ratios.values())
        self._sign = np.array([*signs[0], *signs[1], *(1 for _ in layout.mixes)])  # a mix cannot be too usual
        self._mixes = [[place[name] for name in names if name.startswith(prefix)] for prefix in layout.mixes.values()]
        self.labels = (
            *(f"volume of {name}" for name in layout.volumes),
            *layout.ratios,
            *(f"mix of {name}" for name in layout.mixes),
        )

    def deviations(self, totals: Floats, reference: Floats) -> tuple[Floats, Floats]:
        """(B, figures) deviations of days (B, F) from reference days (D, F), and the usual values to be shown."""
        own = np.concatenate([self._logs(totals), self._psis(totals, reference.sum(axis=0))], axis=1)
        spans = _spans(reference, self._span)
        usual = self._usual(spans, reference.sum(axis=0))
        center, spread = np.median(usual, axis=0), _deviation(usual)
        if self._span > 1:  # spans are few and overlap, so that their spread alone may be too small by chance
            spread = np.maximum(spread, _deviation(self._usual(reference, reference.sum(axis=0))) / self._span**0.5)
        scale = np.sqrt(np.maximum(spread**2, self._chance(np.median(spans, axis=0))) + _FLOOR**2)
        distance = (own - center) / scale
        distance = np.where(self._sign == 0, np.abs(distance), self._sign * distance)
        return distance, np.median(self.shown(spans, reference)[0], axis=0)

    def shown(self, totals: Floats, reference: Floats) -> tuple[Floats, tuple[str, ...]]:
        """(B, figures) values as people read them: counts, shares, PSI."""
        shares = [totals[:, count] / np.maximum(totals[:, of], 1) for count, of in self._ratios]
        columns = [totals[:, one] for one in self._volumes] + shares
        logs = np.stack(columns, axis=1) if columns else np.zeros((len(totals), 0))
        return np.concatenate([logs, self._psis(totals, reference.sum(axis=0))], axis=1), self.labels

    def _chance(self, usual: Floats) -> Floats:
        """(figures,) variance of the logarithm of a count or share by chance alone; the least that days differ by."""
        volumes = 1 / (usual[self._volumes] + 1)
        shares = [max(1 - usual[count] / max(usual[of], 1), 0) / (usual[count] + 1) for count, of in self._ratios]
        return np.concatenate([volumes, np.array(shares), np.zeros(len(self._mixes))])

    def _logs(self, totals: Floats) -> Floats:
        volumes = [np.log(totals[:, one] + 1) for one in self._volumes]
        shares = [np.log((totals[:, count] + 0.5) / (totals[:, of] + 1)) for count, of in self._ratios]
        return np.stack([*volumes, *shares], axis=1) if volumes or shares else np.zeros((len(totals), 0))

    def _psis(self, totals: Floats, reference: Floats) -> Floats:
        columns = [np.sqrt(psi(totals[:, bins], reference[bins])) for bins in self._mixes]
        return np.stack(columns, axis=1) if columns else np.zeros((len(totals), 0))

    def _usual(self, spans: Floats, whole: Floats) -> Floats:
        """(D, figures) of reference spans, the mix of each against that of the other days."""
        rows = [self._psis(one[None], whole - one)[0] for one in spans]
        return np.concatenate([self._logs(spans), np.stack(rows)], axis=1)


def _spans(days: Floats, length: int) -> Floats:
    """(D - length + 1, ...) sums of every `length` rows of (D, ...)."""
    return np.asarray(sum(days[first : len(days) - length + 1 + first] for first in range(length)))


def _deviation(values: Floats) -> Floats:
    """(figures,) standard deviations of (D, figures) values by their median absolute deviation."""
    return np.asarray(_MAD * np.median(np.abs(values - np.median(values, axis=0)), axis=0))
