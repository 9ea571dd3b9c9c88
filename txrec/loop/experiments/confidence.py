"""Confidence sequences: intervals for means and differences that stay valid however often somebody looks.

A fixed-horizon interval holds at one sample size chosen in advance. A confidence sequence holds at all sample sizes at
once, with probability 1 - alpha: an experiment may be looked at after every user and stopped whenever it decides.

- `radius`: the normal-mixture boundary of Robbins (1970), with the estimated variance an asymptotic confidence sequence
  (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2024).
- `difference`: two variants' means, with variance reduction by each user's past (CUPED; Deng, Xu, Kohavi, Walker 2013).
- `sample_ratio_p`: a sequential multinomial test of the assignment (Lindon, Malek 2022); exact at every sample size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri

Floats = NDArray[np.float64]

SAMPLE_RATIO_CONCENTRATION = 1_000.0
"""Prior strength of the sample-ratio test in users: how small a deviation the alternative has in mind."""


@dataclass(frozen=True)
class Moments:
    """Sums over one variant's users; every estimate follows from them, and they add up over days and machines.

    Each field is an array of one shape: `()` for one moment, `(N,)` for every look of a continuous watch.

    Attributes:
        n: users.
        y: sum of outcomes.
        x: sum of the covariate, the same figure before the experiment; 0 where there is no past.
        yy: sum of squared outcomes.
        xx: sum of squared covariates.
        xy: sum of products.
    """

    n: Floats
    y: Floats
    x: Floats
    yy: Floats
    xx: Floats
    xy: Floats

    @classmethod
    def of(cls, outcome: ArrayLike, past: ArrayLike | None = None) -> "Moments":
        """Sums of (N,) outcomes and (N,) covariates."""
        return cls(*(np.asarray(column.sum()) for column in _columns(outcome, past)))

    @classmethod
    def cumulative(cls, outcome: ArrayLike, past: ArrayLike | None = None) -> "Moments":
        """The sums after each of (N,) users, in their order."""
        return cls(*(np.cumsum(column) for column in _columns(outcome, past)))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(left + right for left, right in zip(_fields(self), _fields(other), strict=True)))

    @property
    def mean(self) -> Floats:
        """Mean outcome."""
        return np.asarray(self.y / np.maximum(self.n, 1))


class Interval(NamedTuple):
    """Ends of a confidence sequence."""

    low: Floats
    high: Floats


@dataclass(frozen=True)
class Difference:
    """Estimated difference of two means, variant minus control, with the variance of that estimate."""

    value: Floats
    variance: Floats
    n: Floats
    """Users of both."""

    def interval(self, alpha: float, tuned_for: float) -> Interval:
        """Ends of the confidence sequence at level 1 - alpha; infinite without two users per variant."""
        with np.errstate(invalid="ignore"):
            spread = self.variance * self.n
        width = radius(self.n, spread, alpha, tuned_for)
        return Interval(self.value - width, self.value + width)


def radius(n: ArrayLike, variance: ArrayLike, alpha: float, tuned_for: float) -> Floats:
    """Half the width of the confidence sequence of a mean.

    Args:
        n: observations so far.
        variance: estimated variance of one observation.
        alpha: probability that the true mean is ever outside.
        tuned_for: sample size at which the sequence is narrowest; a matter of power, never of validity.

    Returns:
        In the unit of the mean; infinite where n < 2 or the variance is unknown.
    """
    size, spread = np.asarray(n, np.float64), np.asarray(variance, np.float64)
    prior = tuned_for / (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(spread * (size + prior) * np.log((size + prior) / (prior * alpha**2))) / size
    return np.where((size >= 2) & np.isfinite(width), width, np.inf)


def difference(control: Moments, variant: Moments, adjust: bool = True) -> Difference:
    """Variant's mean minus control's, each user's outcome less what their past predicts of it.

    Args:
        control: sums of the control.
        variant: sums of the variant.
        adjust: take the covariate into account; without a past it changes nothing.
    """
    both = (control, variant)
    with np.errstate(divide="ignore", invalid="ignore"):
        xx, xy = (
            sum(_centred(getattr(m, product), getattr(m, one), getattr(m, two), m.n) for m in both)
            for product, one, two in (("xx", "x", "x"), ("xy", "x", "y"))
        )
        slope = np.where(np.asarray(xx) > 0, xy / np.where(np.asarray(xx) > 0, xx, 1), 0.0) * adjust
        means = [m.y / m.n - slope * m.x / m.n for m in both]
        variances = [_residual(m, slope) / (m.n - 1) / m.n for m in both]
    return Difference(np.asarray(means[1] - means[0]), np.asarray(variances[0] + variances[1]), control.n + variant.n)


def sample_ratio_p(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Always-valid p-value of the hypothesis that users were assigned with these shares.

    Args:
        counts: (..., V) users seen per variant.
        shares: (V,) intended shares; they are normalised.

    Returns:
        (...) p-value; with probability at least 1 - alpha it is never below alpha while the assignment is right.
    """
    seen = np.asarray(counts, np.float64)
    expected = np.asarray(shares, np.float64) / np.sum(shares)
    prior = SAMPLE_RATIO_CONCENTRATION * expected
    total = seen.sum(axis=-1)
    log_factor = gammaln(prior.sum()) - gammaln(prior.sum() + total)
    log_factor = log_factor + (gammaln(prior + seen) - gammaln(prior) - seen * np.log(expected)).sum(axis=-1)
    return np.asarray(np.exp(-np.maximum(log_factor, 0.0)))


def fixed_horizon_users(variance: float, effect: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Users of both variants together that a two-sided z-test of equal halves needs, looked at once.

    Args:
        variance: of one user's outcome.
        effect: difference of the means to be found.
        alpha: two-sided false-positive rate.
        power: chance to find it.
    """
    return float(4 * variance * (ndtri(1 - alpha / 2) + ndtri(power)) ** 2 / effect**2)


def _columns(outcome: ArrayLike, past: ArrayLike | None) -> tuple[Floats, ...]:
    y = np.asarray(outcome, np.float64)
    x = np.zeros_like(y) if past is None else np.asarray(past, np.float64)
    return np.ones_like(y), y, x, y * y, x * x, x * y


def _fields(moments: Moments) -> tuple[Floats, ...]:
    return moments.n, moments.y, moments.x, moments.yy, moments.xx, moments.xy


def _centred(product: Floats, one: Floats, two: Floats, n: Floats) -> Floats:
    return np.asarray(product - one * two / n)


def _residual(m: Moments, slope: Floats) -> Floats:
    """Sum of squared deviations of outcome less slope times covariate."""
    yy, xy, xx = (_centred(*parts, m.n) for parts in ((m.yy, m.y, m.y), (m.xy, m.x, m.y), (m.xx, m.x, m.x)))
    return np.asarray(np.maximum(yy - 2 * slope * xy + slope**2 * xx, 0.0))
