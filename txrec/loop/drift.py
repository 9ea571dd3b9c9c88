"""Drift of daily figures: what a day looks like next to the days before it, with alarms calibrated by resampling.

A day is a set of counts per group of users (`Days.counts`), so that every figure of the day follows from sums over
groups: volumes, ratios, and how far the mix of categories, queries, prices, hours or scores is from the usual one
(population stability index, PSI). Each figure is compared with its median over the reference days, in units of its
usual deviation.

The thresholds are no folk values. Quiet days are made by resampling groups of users of each reference day, and compared
with the other reference days as a new day would be. Each figure has the threshold that the same share of quiet days
exceeds, and that share is as large as it may be while all figures together alarm on `alpha` of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.005
"""Share of quiet days with a false alarm that thresholds are set for."""
RESAMPLES = 2_000
MIN_REFERENCE = 8
"""Reference days without which nothing can be called unusual."""
MIN_GROUPS = 8
"""Groups of users without which a day is too small to be judged."""
_MAD = 1.4826  # median absolute deviation to standard deviation of a normal variable
_FLOOR = 0.01  # least scale of a figure, in log units: smaller deviations are of no interest
_PSI_PRIOR = 0.5  # count added to every bin
_NOISE = 0.5  # share of a full resampling's noise: reference days have their own already, this makes them many
_LEAST = 4.0  # least threshold, for figures that never differ among the reference days


@dataclass(frozen=True)
class Ratio:
    """A share of a day: the sum of one count over another."""

    count: str
    of: str


@dataclass(frozen=True)
class Layout:
    """Figures made of the counts.

    Attributes:
        volumes: counts whose size is a figure.
        ratios: name -> ratio of two counts.
        mixes: name -> prefix of the counts whose mix is a figure; bins are those that any day has.
    """

    volumes: tuple[str, ...]
    ratios: Mapping[str, Ratio]
    mixes: Mapping[str, str]


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


@dataclass(frozen=True)
class Finding:
    """A figure of a day beside its usual value.

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
        days: the reference, at least MIN_REFERENCE days.
        layout: the figures.
        alpha: share of quiet days that raise a false alarm.
        size: of the days that are compared, as a share of a reference day, 0 to 1; small days vary more.
        seed: of the resampling.

    Raises:
        ValueError: too few reference days, or a day of `size` is too small to be judged.
    """

    def __init__(self, days: Days, layout: Layout, alpha: float = ALPHA, size: float = 1.0, seed: int = 0) -> None:
        if len(days.days) < MIN_REFERENCE:
            raise ValueError(f"{len(days.days)} reference days; at least {MIN_REFERENCE} are needed")
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
        size = min(size, 1.0)
        num, groups = days.counts.shape[:2]
        each = -(-RESAMPLES // num)
        quiet = []
        for day in range(num):
            times = size * _resampled(groups, each, 1 / size - 1 + _NOISE**2, rng)
            others = np.delete(days.totals, day, axis=0)
            quiet.append(self._figures.deviations(times @ days.counts[day], others)[0])
        deviations = np.concatenate(quiet)  # (B, figures)
        rank = np.argsort(np.argsort(-deviations, axis=0), axis=0)  # 0 = the most unusual day for a figure
        allowed = int(np.quantile(rank.min(axis=1), alpha))  # days of a smaller rank in any figure are `alpha` of all
        ordered = -np.sort(-deviations, axis=0)
        return np.asarray(np.maximum(ordered[min(allowed, len(ordered) - 1)], _LEAST))


def psi(counts: Floats, reference: Floats) -> Floats:
    """Population stability index of (..., K) counts against a reference mix (K,).

    sum((p - q) * log(p / q)) over the bins, with half a count added to each.
    """
    p = counts + _PSI_PRIOR
    p = p / p.sum(axis=-1, keepdims=True)
    q = reference + _PSI_PRIOR
    q = q / q.sum(axis=-1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


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
    """The figures of days from their counts, in units in which deviations can be compared."""

    def __init__(self, names: tuple[str, ...], layout: Layout) -> None:
        place = {name: number for number, name in enumerate(names)}
        self._volumes = [place[name] for name in layout.volumes]
        self._ratios = [(place[ratio.count], place[ratio.of]) for ratio in layout.ratios.values()]
        self._mixes = [[place[name] for name in names if name.startswith(prefix)] for prefix in layout.mixes.values()]
        self.labels = (
            *(f"volume of {name}" for name in layout.volumes),
            *layout.ratios,
            *(f"mix of {name}" for name in layout.mixes),
        )

    def deviations(self, totals: Floats, reference: Floats) -> tuple[Floats, Floats]:
        """(B, figures) deviations of days (B, F) from reference days (D, F), and the usual values to be shown."""
        own = np.concatenate([self._logs(totals), self._psis(totals, reference.sum(axis=0))], axis=1)
        usual_logs = self._logs(reference)
        usual_psis = self._psis_without_each(reference)
        usual = np.concatenate([usual_logs, usual_psis], axis=1)
        center = np.median(usual, axis=0)
        spread = _MAD * np.median(np.abs(usual - center), axis=0)
        scale = np.sqrt(spread**2 + _FLOOR**2 + self._chance(np.median(reference, axis=0)))
        distance = (own - center) / scale
        distance[:, : usual_logs.shape[1]] = np.abs(distance[:, : usual_logs.shape[1]])  # a mix cannot be too usual
        return distance, np.median(self.shown(reference, reference)[0], axis=0)

    def shown(self, totals: Floats, reference: Floats) -> tuple[Floats, tuple[str, ...]]:
        """(B, figures) values as people read them: counts, shares, PSI."""
        shares = [totals[:, count] / np.maximum(totals[:, of], 1) for count, of in self._ratios]
        columns = [totals[:, one] for one in self._volumes] + shares
        logs = np.stack(columns, axis=1) if columns else np.zeros((len(totals), 0))
        return np.concatenate([logs, self._psis(totals, reference.sum(axis=0))], axis=1), self.labels

    def _chance(self, usual: Floats) -> Floats:
        """(figures,) variance of the logarithm of a count by chance alone; matters where counts are small."""
        counts = [usual[one] for one in (*self._volumes, *(count for count, _ in self._ratios))]
        return np.concatenate([1 / (np.array(counts) + 1), np.zeros(len(self._mixes))])

    def _logs(self, totals: Floats) -> Floats:
        volumes = [np.log(totals[:, one] + 1) for one in self._volumes]
        shares = [np.log((totals[:, count] + 0.5) / (totals[:, of] + 1)) for count, of in self._ratios]
        return np.stack([*volumes, *shares], axis=1) if volumes or shares else np.zeros((len(totals), 0))

    def _psis(self, totals: Floats, reference: Floats) -> Floats:
        columns = [np.sqrt(psi(totals[:, bins], reference[bins])) for bins in self._mixes]
        return np.stack(columns, axis=1) if columns else np.zeros((len(totals), 0))

    def _psis_without_each(self, reference: Floats) -> Floats:
        """(D, mixes) of each reference day against the others."""
        whole = reference.sum(axis=0)
        rows = [self._psis(day[None], whole - day)[0] for day in reference]
        return np.stack(rows)
