"""Off-policy estimates on slates whose true value is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from txrec.loop.exploration.exploration import Bounds, draw, prefix_probability, utilities
from txrec.loop.off_policy.estimators import Estimator, Requirements, SlateLog, crossfit, estimate

BOUNDS = Bounds(share=0.5, num_places=2, pool=5, temperature=2.0)
EXAMINED = np.array([1.0, 0.6])
ALL: tuple[Estimator, ...] = ("slate", "cascade", "position", "doubly_robust")


class Shop:
    """Requests with five products each, ranked by noisy scores; the new ranking knows their appeal better."""

    def __init__(self, size: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.appeal = rng.beta(1, 4, (size, 5))
        scores = np.log(self.appeal) + rng.normal(0, 1.0, (size, 5))
        order = np.argsort(-scores, axis=1)
        self.appeal = np.take_along_axis(self.appeal, order, 1)
        self.scores = np.take_along_axis(scores, order, 1)
        self.target = np.argsort(-(np.log(self.appeal) + rng.normal(0, 0.7, (size, 5))), axis=1)[:, :2]
        self.utility = utilities(self.scores, BOUNDS)
        self.user = rng.integers(size // 3, size=size)
        self.truth = float((np.take_along_axis(self.appeal, self.target, 1) * EXAMINED).sum(axis=1).mean())

    def log(self, seed: int) -> SlateLog:
        rng = np.random.default_rng(seed)
        shown = draw(self.utility, BOUNDS, rng)
        chance = np.take_along_axis(self.appeal, shown.place, 1) * EXAMINED
        reward = (rng.random(chance.shape) < chance).astype(float)
        same = (shown.place == self.target).astype(float)
        score = np.take_along_axis(self.scores, shown.place, 1)
        predicted, direct = crossfit(score, np.take_along_axis(self.scores, self.target, 1), reward, self.user)
        support = (prefix_probability(self.utility, self.target, BOUNDS) > 0).mean(axis=1)
        return SlateLog(
            reward, shown.prefix, shown.marginal, np.cumprod(same, 1), same, self.user, support, predicted, direct
        )


SHOP = Shop(3_000, 0)


@cache
def shop_log(seed: int) -> SlateLog:
    """Served slates of the shop, drawn once per seed; do not write into them."""
    return SHOP.log(seed)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL)
def test_the_interval_holds_the_true_value_as_often_as_it_says(estimator: Estimator) -> None:
    runs = [estimate(log, estimator, Requirements(min_effective=30)) for log in map(shop_log, range(100))]
    covered = np.mean([run.low <= SHOP.truth <= run.high for run in runs])
    assert covered >= 0.9
    assert np.mean([run.value for run in runs]) == pytest.approx(SHOP.truth, rel=0.03)
    assert all(not run.refusal for run in runs)


@pytest.mark.slow
def test_assumptions_that_hold_make_intervals_narrower() -> None:
    widths = [
        np.mean([(one := estimate(log, name)).high - one.low for log in map(shop_log, range(20))]) for name in ALL
    ]
    assert widths[0] > widths[1] > widths[2] > widths[3]


def test_the_ranking_that_was_served_is_worth_what_was_earned() -> None:
    log = shop_log(0)
    same = replace(log, target_prefix=log.prefix, target_marginal=log.marginal, support=np.ones(len(log)))
    for name in ("slate", "cascade", "position"):
        found = estimate(same, name)
        assert found.value == pytest.approx(log.reward.sum(axis=1).mean())
        assert (found.gain, found.gain_high) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-3))


def test_a_better_ranking_has_a_gain_that_is_surely_positive() -> None:
    found = [estimate(log, "doubly_robust") for log in map(shop_log, range(20))]
    assert sum(one.gain_low > 0 for one in found) >= 15
    assert all(
        one.gain == pytest.approx(one.value - log.reward.sum(1).mean())
        for one, log in zip(found, map(shop_log, range(20)), strict=True)
    )


def test_wrong_propensities_are_refused() -> None:
    log = shop_log(0)
    found = estimate(replace(log, marginal=np.minimum(1.3 * log.marginal, 1.0)), "position")
    assert "standard errors from 1" in found.refusal
    assert "refused" in str(found)


def test_a_ranking_that_the_log_could_not_have_shown_is_refused() -> None:
    log = shop_log(0)
    found = estimate(replace(log, support=np.where(np.arange(len(log)) % 5, 1.0, 0.4)), "position")
    assert "support 0.880 < 0.98" in found.refusal


def test_too_few_slates_are_refused() -> None:
    log = shop_log(0)
    few = {name: value[:60] for name, value in vars(log).items()}
    assert "effective sample size" in estimate(SlateLog(**few), "slate").refusal


def test_users_with_many_slates_widen_the_interval() -> None:
    log = shop_log(0)
    once = estimate(replace(log, user=np.arange(len(log))), "position")
    copied = {name: np.repeat(value, 4, axis=0) for name, value in vars(replace(log, user=np.arange(len(log)))).items()}
    again = estimate(SlateLog(**copied), "position")
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.03)


def test_a_log_without_slates_or_without_a_reward_model_is_an_error() -> None:
    log = shop_log(0)
    with pytest.raises(ValueError, match="at least one slate"):
        estimate(SlateLog(**{name: value[:0] for name, value in vars(log).items()}), "position")
    with pytest.raises(ValueError, match="predicted and direct"):
        estimate(replace(log, predicted=None), "doubly_robust")
