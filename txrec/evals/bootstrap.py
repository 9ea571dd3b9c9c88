"""Bootstrap confidence intervals of means, and a paired test of two systems on the same requests.

The resampled unit is the user, not the case: one user's cases are not independent of each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Paired difference of two systems on the same cases."""

    difference: Interval
    p_value: float
    """Two-sided: how often a difference this large would come about if there were none."""

    def to_dict(self) -> dict[str, float]:
        """JSON object for metrics.json."""
        return {**vars(self.difference), "p_value": self.p_value}

    @classmethod
    def of(cls, plain: Mapping[str, float]) -> "Paired":
        """Reads the result of `plain`."""
        return cls(Interval(plain["mean"], plain["low"], plain["high"]), plain["p_value"])


def intervals(
    figures: Mapping[str, NDArray[np.float64]], unit: NDArray[np.int64], resamples: int, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of several figures over the same resamples.

    Args:
        figures: name = (C,) one value per case.
        unit: (C,) unit that is drawn with replacement: the user of each case.
        resamples: how often; at least 1.
        seed: of the resampling.
    """
    names = list(figures)
    sums, counts = _by_unit(np.stack([figures[name] for name in names], axis=1), unit)
    samples = _means(sums, counts, resamples, seed)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    center = sums.sum(axis=0) / max(counts.sum(), 1)
    return {name: Interval(float(center[i]), float(low[i]), float(high[i])) for i, name in enumerate(names)}


def paired(
    first: NDArray[np.float64], second: NDArray[np.float64], unit: NDArray[np.int64], resamples: int, seed: int = 0
) -> Paired:
    """Compares two systems on the same cases by the bootstrap of their difference, shifted to none for the p-value."""
    sums, counts = _by_unit((first - second)[:, None], unit)
    samples = _means(sums, counts, resamples, seed)[:, 0]
    observed = float(sums.sum() / max(counts.sum(), 1))
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    extreme = int((np.abs(samples - observed) >= abs(observed) - 1e-15).sum())
    return Paired(Interval(observed, float(low), float(high)), (extreme + 1) / (resamples + 1))


def _by_unit(values: NDArray[np.float64], unit: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(V, M) sums and (V,) counts of the cases of each unit."""
    _, place = np.unique(unit, return_inverse=True)
    counts: NDArray[np.float64] = np.bincount(place).astype(np.float64)
    sums: NDArray[np.float64] = np.stack([np.bincount(place, column, len(counts)) for column in values.T], axis=1)
    return sums, counts


def _means(sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """(resamples, M) means of resampled units."""
    rng = np.random.default_rng(seed)
    samples = np.empty((resamples, sums.shape[1]))
    for row in range(resamples):
        times = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)))
        samples[row] = times @ sums / max(float(times @ counts), 1.0)
    return samples
