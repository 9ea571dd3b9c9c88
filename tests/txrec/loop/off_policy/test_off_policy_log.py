"""Off-policy estimates from a served log: records of exploration and credited clicks, with a known truth."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from txrec.errors import DataError
from txrec.loop.attribution.attribution import Windows, credit, events_of, slates_of
from txrec.loop.exploration.exploration import Bounds
from txrec.loop.exploration.exploration_log import explore
from txrec.loop.off_policy.estimators import Requirements
from txrec.loop.off_policy.off_policy_log import Evaluation, LoggedSlate, by_placement, evaluate, logged_slates

EXAMINED = np.array([1.0, 0.7, 0.5, 0.3, 0.2])
APPEAL = {f"p{number}": 0.05 + 0.1 * number for number in range(5)}
"""The served ranking sorts the wrong way round."""
BOUNDS = Bounds(share=0.6, first_place=1, num_places=2, pool=4, temperature=2.0)
HOUR = 3_600_000_000


def served(size: int, seed: int, bounds: Bounds = BOUNDS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Slates as a server logs them, of five products (every tenth of three), and the clicks that followed."""
    rng = np.random.default_rng(seed)
    slates, clicks = [], []
    for number in range(size):
        sorted_items = [f"p{item}" for item in range(3 if number % 10 == 0 else 5)]
        scores = [0.5 - 0.05 * place for place in range(len(sorted_items))]
        order, record = explore(scores, [0.0] * len(scores), bounds, rng)
        shown = [sorted_items[place] for place in order]
        user = f"u{rng.integers(size // 2)}"
        slates.append(
            {
                "request_id": f"r{number}",
                "variant": "production",
                "ts": number * HOUR,
                "user_id": user,
                "query": None,
                "item_ids": shown,
                "scores": [scores[place] for place in order],
                "exploration": record.to_json() if record else None,
            }
        )
        for place, item in enumerate(shown):
            if rng.random() < EXAMINED[place] * APPEAL[item]:
                clicks.append(
                    {"user_id": user, "ts": number * HOUR + 1, "event": "click", "item_id": item,
                     "request_id": f"r{number}", "value": None}
                )  # fmt: skip
    schema = {"user_id": pl.String, "ts": pl.Int64, "event": pl.String, "item_id": pl.String, "request_id": pl.String}
    return pl.DataFrame(slates), pl.DataFrame(clicks, {**schema, "value": pl.Float64})


def best_first(slate: LoggedSlate) -> list[str]:
    return sorted(slate.pool, key=lambda item: -APPEAL[item])


def truth(slate: LoggedSlate, ranked: list[str]) -> float:
    shown = [slate.items[0], *ranked[: slate.record.num_places]]
    return float(sum(EXAMINED[place] * APPEAL[item] for place, item in enumerate(shown)))


def evaluated(size: int, seed: int) -> tuple[Evaluation, list[LoggedSlate]]:
    slates, clicks = served(size, seed)
    answered = slates_of(slates)
    logged = logged_slates(answered)
    found = evaluate(logged, best_first, credit(answered, events_of(clicks), Windows()), "click", Requirements(50))
    return found, logged


def test_slates_are_restored_as_they_were_before_exploration() -> None:
    slates, _ = served(60, 0)
    logged = logged_slates(slates_of(slates))
    assert any(slate.record.drawn for slate in logged)
    assert {slate.items for slate in logged} == {("p0", "p1", "p2"), ("p0", "p1", "p2", "p3", "p4")}
    assert all(list(slate.scores) == sorted(slate.scores, reverse=True) for slate in logged)
    assert all("p0" not in slate.pool for slate in logged)  # its place may not change


@pytest.mark.slow
def test_the_true_value_is_in_the_intervals_and_the_gain_is_found() -> None:
    covered = {"position": 0, "doubly_robust": 0, "cascade": 0, "slate": 0}
    for seed in range(12):
        found, logged = evaluated(1_200, seed)
        true = float(np.mean([truth(slate, best_first(slate)) for slate in logged]))
        for one in found.estimates:
            covered[one.estimator] += one.low <= true <= one.high
    assert covered["position"] >= 10
    assert covered["doubly_robust"] >= 10
    assert covered["cascade"] >= 9
    assert covered["slate"] >= 7  # few effective slates: intervals are rough there
    assert found.estimates[0].gain_low > 0


def test_the_cost_of_exploration_is_the_gain_of_the_sorted_ranking() -> None:
    found, logged = evaluated(4_000, 1)
    sorted_value = np.mean([truth(slate, list(slate.pool)) for slate in logged])
    assert found.exploration.low <= sorted_value <= found.exploration.high
    assert found.drawn == pytest.approx(BOUNDS.share, abs=0.05)
    assert 0 < found.from_below < 0.6


def test_a_product_that_the_other_ranking_does_not_know_keeps_its_place_at_the_end() -> None:
    slates, clicks = served(400, 2)
    answered = slates_of(slates)
    logged = logged_slates(answered)
    credits_ = credit(answered, events_of(clicks), Windows())
    some = evaluate(logged, lambda slate: best_first(slate)[:1], credits_, "click", Requirements(20))
    whole = evaluate(
        logged,
        lambda slate: [best_first(slate)[0], *(item for item in slate.pool if item != best_first(slate)[0])],
        credits_,
        "click",
        Requirements(20),
    )
    assert some.estimates == whole.estimates


def test_a_log_without_exploration_is_refused() -> None:
    slates, _ = served(50, 3, Bounds(share=0.0))
    with pytest.raises(DataError, match=r"serve.exploration.share"):
        logged_slates(slates_of(slates))


def test_slates_are_parted_by_placement_the_largest_first() -> None:
    slates, _ = served(90, 4)
    row = pl.int_range(pl.len())
    named = slates.with_columns(placement=pl.when(row < 20).then(pl.lit("mail")).when(row < 50).then(pl.lit("home")))
    found = by_placement(logged_slates(slates_of(named)))
    assert {name: len(part) for name, part in found.items()} == {"none": 40, "home": 30, "mail": 20}
    assert list(found) == ["none", "home", "mail"]


def test_the_best_estimate_is_the_first_that_was_not_refused() -> None:
    found, _ = evaluated(300, 5)
    first, second = (replace(one, refusal="") for one in found.estimates[:2])
    refused = replace(first, refusal="too few")
    assert replace(found, estimates=(refused, second)).best is second
    assert replace(found, estimates=(refused,)).best is refused
