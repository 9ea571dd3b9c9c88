"""Confidence sequences against brute force, and their error rate under continuous looking."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from txrec.loop.experiments.confidence import Moments, difference, fixed_horizon_users, radius, sample_ratio_p


@pytest.mark.parametrize("n", [20, 400, 9_000])
def test_the_radius_is_where_the_mixture_martingale_of_a_gaussian_walk_reaches_one_over_alpha(n: int) -> None:
    alpha, variance, tuned_for = 0.05, 2.5, 700.0
    prior_precision = tuned_for * variance / (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1))

    def log_martingale(total: float) -> float:
        width = 1 / np.sqrt(prior_precision + n * variance)  # of the integrand, around its mode
        mode = total * width**2

        def integrand(tilt: float) -> float:
            exponent = tilt * total - tilt**2 * (n * variance + prior_precision) / 2
            return float(np.exp(exponent - total**2 * width**2 / 2))

        mass = quad(integrand, mode - 12 * width, mode + 12 * width)[0]
        return float(np.log(mass * np.sqrt(prior_precision / (2 * np.pi))) + total**2 * width**2 / 2)

    crossing = brentq(lambda total: log_martingale(total) - np.log(1 / alpha), 1e-6, 1e6)
    assert radius(n, variance, alpha, tuned_for) == pytest.approx(crossing / n, rel=1e-6)


def test_the_radius_is_infinite_while_nothing_is_known() -> None:
    assert np.isinf(radius([0, 1, 5], [1.0, 1.0, np.nan], 0.05, 100)).all()


def test_adjusting_for_the_past_is_the_regression_with_one_slope_per_both_variants() -> None:
    rng = np.random.default_rng(0)
    past = [rng.gamma(2.0, 1.0, size) for size in (500, 640)]
    outcome = [0.8 * x + rng.normal(0, 0.3, len(x)) + shift for x, shift in zip(past, (0.0, 0.25), strict=True)]
    first, second = (Moments.of(y, x) for y, x in zip(outcome, past, strict=True))
    adjusted = difference(first, second)
    design = np.concatenate([np.stack([np.ones_like(x), np.full_like(x, arm), x], 1) for arm, x in enumerate(past)])
    solution = np.linalg.lstsq(design, np.concatenate(outcome), rcond=None)[0]
    assert adjusted.value == pytest.approx(solution[1], rel=1e-9)
    plain = difference(first, second, adjust=False)
    assert plain.value == pytest.approx(outcome[1].mean() - outcome[0].mean(), rel=1e-9)
    naive = outcome[0].var(ddof=1) / 500 + outcome[1].var(ddof=1) / 640
    assert plain.variance == pytest.approx(naive, rel=1e-9)
    assert adjusted.variance < 0.15 * plain.variance


def test_moments_of_days_add_up_to_the_moments_of_all_users() -> None:
    rng = np.random.default_rng(1)
    outcome, past = rng.normal(size=90), rng.normal(size=90)
    total = Moments.of(outcome[:40], past[:40]) + Moments.of(outcome[40:], past[40:])
    whole, watched = Moments.of(outcome, past), Moments.cumulative(outcome, past)
    for name in ("n", "y", "x", "yy", "xx", "xy"):
        assert getattr(total, name) == pytest.approx(getattr(whole, name))
        assert getattr(watched, name)[-1] == pytest.approx(getattr(whole, name))


def test_looking_after_every_user_leaves_the_interval_at_most_as_often_as_stated() -> None:
    rng = np.random.default_rng(2)
    runs, users, outside = 300, 3_000, 0
    for _ in range(runs):
        control, variant = (Moments.cumulative(rng.poisson(0.4, users)) for _ in range(2))
        found = difference(control, variant)
        low, high = found.interval(0.05, 2_000)
        outside += bool(((low > 0) | (high < 0))[100:].any())
    assert outside <= 0.05 * runs
    naive = sum(
        bool((np.abs(z) > 1.96).any())
        for z in (np.cumsum(rng.normal(size=users))[100:] / np.sqrt(np.arange(101, users + 1)) for _ in range(runs))
    )
    assert naive > 0.15 * runs  # the same looks with a fixed-horizon test


def test_a_true_difference_is_inside_and_nothing_else_in_the_end() -> None:
    rng = np.random.default_rng(3)
    found = difference(Moments.of(rng.poisson(0.4, 40_000)), Moments.of(rng.poisson(0.5, 40_000)))
    low, high = found.interval(0.05, 20_000)
    assert 0 < low < 0.1 < high


def test_the_sample_ratio_is_exact_under_continuous_looking_and_finds_a_broken_assignment() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        variant = rng.random(4_000) < 0.3
        counts = np.stack([np.cumsum(~variant), np.cumsum(variant)], axis=1)
        alarms += bool((sample_ratio_p(counts, [0.7, 0.3]) < 0.05).any())
    assert alarms <= 20
    broken = rng.random(20_000) < 0.33
    assert sample_ratio_p([(~broken).sum(), broken.sum()], [0.7, 0.3]) < 0.001


def test_the_fixed_horizon_is_the_textbook_sample_size() -> None:
    # two groups of 16 * variance / effect ** 2 each, to a few percent (Lehr)
    assert fixed_horizon_users(1.0, 0.1) == pytest.approx(2 * 16 / 0.01, rel=0.03)
