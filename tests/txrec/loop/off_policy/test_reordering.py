"""Reordering estimates: another order of served slates, valued without exploration, next to the truth."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from txrec.loop.attribution.attribution import Windows, credit, events_of, slates_of
from txrec.loop.off_policy.estimators import OffPolicyEstimate, Requirements
from txrec.loop.off_policy.off_policy_log import LoggedSlate
from txrec.loop.off_policy.position_bias import PositionBias
from txrec.loop.off_policy.reordering import reordered, shown_slates

EXAMINED = np.array([1.0, 0.6, 0.4, 0.25])
APPEAL = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7}
"""The served order, the wrong way round."""
BIAS = PositionBias(tuple(EXAMINED.tolist()), 10_000, 1_000, "score", 0)


def served(size: int, seed: int = 0) -> tuple[list[LoggedSlate], pl.DataFrame]:
    rng = np.random.default_rng(seed)
    ts = np.arange(size) * 7_200_000_000
    rows = {"request_id": [f"r{n}" for n in range(size)], "variant": "production", "ts": ts}
    users = [f"u{n // 2}" for n in range(size)]
    shown = pl.DataFrame({**rows, "user_id": users, "query": None, "item_ids": [list(APPEAL)] * size})
    clicked = np.argwhere(rng.random((size, 4)) < EXAMINED * np.array(list(APPEAL.values())))
    events = pl.DataFrame(
        {
            "user_id": [f"u{row // 2}" for row, _ in clicked.tolist()],
            "ts": [int(ts[row]) + 1 for row, _ in clicked.tolist()],
            "event": "click",
            "item_id": [list(APPEAL)[place] for _, place in clicked.tolist()],
            "request_id": [f"r{row}" for row, _ in clicked.tolist()],
            "value": None,
        }
    )
    slates = slates_of(shown)
    return shown_slates(slates), credit(slates, events_of(events), Windows())


def best_first(slate: LoggedSlate) -> list[str]:
    return sorted(slate.items, key=lambda item: -APPEAL[item])


def valued(size: int, seed: int = 0) -> OffPolicyEstimate:
    slates, credits_ = served(size, seed)
    return reordered(slates, best_first, credits_, "click", BIAS)


def test_the_interval_holds_what_the_other_order_would_have_earned() -> None:
    truth = float(EXAMINED @ np.array(sorted(APPEAL.values(), reverse=True)))
    now = float(EXAMINED @ np.array(list(APPEAL.values())))
    found = [valued(800, seed) for seed in range(20)]
    assert sum(one.low <= truth <= one.high for one in found) >= 17
    assert sum(one.gain_low <= truth - now <= one.gain_high for one in found) >= 17
    assert all(one.gain_low > 0 and not one.refusal for one in found)


def test_the_served_order_gains_nothing() -> None:
    slates, credits_ = served(600)
    found = reordered(slates, lambda slate: slate.items, credits_, "click", BIAS)
    assert (found.gain, found.gain_low, found.gain_high) == (0.0, 0.0, 0.0)


def test_products_that_the_other_order_does_not_name_follow_in_theirs() -> None:
    slates, credits_ = served(600)
    some = reordered(slates, lambda _: ["d", "unknown"], credits_, "click", BIAS)
    whole = reordered(slates, lambda _: ["d", "a", "b", "c"], credits_, "click", BIAS)
    assert replace(some, effective=0) == replace(whole, effective=0)
    assert some.effective == pytest.approx(whole.effective)


def test_few_clicks_are_refused_with_their_number() -> None:
    slates, credits_ = served(30)
    found = reordered(slates, best_first, credits_, "click", BIAS, Requirements(min_effective=100))
    assert "effective rewarded places < 100" in found.refusal
    nothing = reordered(slates, best_first, credits_.clear(), "click", BIAS)
    assert nothing.effective == 0
    assert nothing.refusal


def test_places_are_those_shown_where_exploration_had_changed_them() -> None:
    slates, credits_ = served(600)
    # the same slates told as sorted d, c, b, a and shown the other way round
    turned = [
        replace(slate, items=tuple(reversed(slate.items)), record=replace(slate.record, rank=(3, 2, 1, 0), drawn=True))
        for slate in slates
    ]
    found = reordered(turned, best_first, credits_, "click", BIAS)
    assert found.value == pytest.approx(reordered(slates, best_first, credits_, "click", BIAS).value)
