"""Intervals and paired tests."""

import numpy as np
import pytest
from scipy import stats

from txrec.evals import bootstrap


def test_the_interval_of_a_mean_is_about_what_theory_says() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bootstrap.intervals({"x": values}, np.arange(400), 2_000)["x"]
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_cases_of_one_user_are_not_taken_for_independent() -> None:
    per_user = np.random.default_rng(2).normal(0, 1, 50)
    values, unit = np.repeat(per_user, 20), np.repeat(np.arange(50), 20)
    honest = bootstrap.intervals({"x": values}, unit, 500)["x"]
    naive = bootstrap.intervals({"x": values}, np.arange(1000), 500)["x"]
    assert honest.high - honest.low > 3 * (naive.high - naive.low)


def test_a_clear_difference_is_significant_and_none_is_not() -> None:
    rng = np.random.default_rng(3)
    first = rng.random(300)
    better = bootstrap.paired(first + 0.1 + rng.normal(0, 0.1, 300), first, np.arange(300), 1_000)
    same = bootstrap.paired(first + rng.normal(0, 0.1, 300), first, np.arange(300), 1_000)
    assert better.p_value < 0.01 < better.difference.low
    assert same.p_value > 0.05
    assert bootstrap.paired(first, first, np.arange(300), 100).p_value == 1


def test_the_p_value_of_a_difference_is_about_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(6)
    for shift in (0.0, 0.05, 0.1, 0.15):
        first, second = rng.normal(shift, 1, 500), rng.normal(0, 1, 500)
        found = bootstrap.paired(first, second, np.arange(500), 4_000)
        assert found.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.03)


def test_p_values_of_no_difference_are_spread_evenly() -> None:
    rng = np.random.default_rng(4)
    found = [bootstrap.paired(rng.normal(size=60), rng.normal(size=60), np.arange(60), 200).p_value for _ in range(200)]
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.11


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(5).random(30)
    first, second = (bootstrap.intervals({"x": values}, np.arange(30), 50, seed=9) for _ in range(2))
    assert first == second
