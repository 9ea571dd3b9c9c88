"""Assignment to experiments, and their decisions."""

import numpy as np
import pytest

from txrec.errors import ConfigError
from txrec.loop.experiments.assignment import HOUR_US, Experiment, Ramp, Variant, assign, check
from txrec.loop.experiments.confidence import Moments
from txrec.loop.experiments.experiments import ExperimentDecision, Figure, Rules, decide
from txrec.loop.experiments.interleaving import (
    SHARED,
    InterleavingRules,
    decide_interleaving,
    team_draft,
    user_preferences,
)

USERS = [f"u{number}" for number in range(20_000)]
AB = (Variant("control"), Variant("v2"))
RULES = Rules(Figure("clicks"), (Figure("errors", 1.0, higher_is_better=False, margin=0.01),), max_users=100_000)


def decided(control: float, variant: float, users: int = 4_000, errors: float = 0.0) -> ExperimentDecision:
    rng = np.random.default_rng(0)
    clicks = {name: Moments.of(rng.poisson(mean, users)) for name, mean in (("control", control), ("v2", variant))}
    failed = {name: Moments.of(rng.random(users) < rate) for name, rate in (("control", 0.005), ("v2", 0.005 + errors))}
    counts = dict.fromkeys(clicks, users)
    shares = dict.fromkeys(clicks, 0.5)
    return decide("ranking", RULES, {"clicks": clicks, "errors": failed}, counts, shares)[0]


def test_a_user_keeps_their_variant_while_the_ramp_grows() -> None:
    experiment = Experiment("ranking", AB, ramp=(Ramp(0, 0.05), Ramp(24, 0.5), Ramp(48, 1.0)))
    first, second, third = (
        {user: variant.name for user in USERS if (variant := experiment.variant(user, hour * HOUR_US))}
        for hour in (1, 25, 49)
    )
    assert first.items() <= second.items() <= third.items()
    assert len(first) == pytest.approx(0.05 * len(USERS), rel=0.15)
    assert len(third) == len(USERS)
    assert sum(name == "v2" for name in third.values()) == pytest.approx(len(USERS) / 2, rel=0.05)


def test_nobody_takes_part_before_the_start() -> None:
    experiment = Experiment("ranking", AB, start_us=HOUR_US)
    assert experiment.variant("u1", HOUR_US - 1) is None
    assert experiment.variant("u1", HOUR_US) is not None


def test_experiments_of_one_layer_exclude_each_other_and_layers_are_independent() -> None:
    first, second = Experiment("a", AB, share=0.5), Experiment("b", AB, start=0.5, share=0.5)
    other = Experiment("c", AB, layer="texts", share=0.5)
    found = [assign((first, second, other), user, 0) for user in USERS]
    assert not any({"a", "b"} <= one.keys() for one in found)
    assert all({"a", "b"} & one.keys() for one in found)
    both = sum({"a", "c"} <= one.keys() for one in found) / len(found)
    assert both == pytest.approx(0.25, abs=0.015)
    same = sum("a" in one and "c" in one and one["a"] == one["c"] for one in found) / sum(
        {"a", "c"} <= one.keys() for one in found
    )
    assert same == pytest.approx(0.5, abs=0.03)


def test_weights_are_the_shares_of_the_variants() -> None:
    experiment = Experiment("ranking", (Variant("control", 8), Variant("v2", 1), Variant("v3", 1)))
    names = [variant.name for user in USERS if (variant := experiment.variant(user, 0))]
    assert names.count("v3") == pytest.approx(0.1 * len(USERS), rel=0.1)


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        ((Experiment("a", AB, share=0.6), Experiment("b", AB, start=0.5, share=0.5)), "0.5 to 1; segments"),
        ((Experiment("a", AB, start=0.5, share=0.6),), "a layer ends at 1"),
        ((Experiment("a", AB, share=0.1), Experiment("a", AB, start=0.5, share=0.1)), "2 times"),
    ],
)
def test_overlapping_segments_are_refused(experiments: tuple[Experiment, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(experiments)


def test_a_surely_better_variant_is_promoted_with_its_inequality() -> None:
    found = decided(0.4, 0.55)
    assert found.action == "promote"
    assert found.low > 0
    assert str(found).startswith(f"ranking: promote v2: clicks {found.difference:+.4g}")
    assert f"gain of at least {found.low:.4g} > 0" in found.inequality


def test_a_surely_worse_variant_is_rolled_back() -> None:
    assert decided(0.4, 0.3).action == "roll_back"


def test_an_unclear_difference_goes_on_and_ends_with_the_control() -> None:
    assert decided(0.4, 0.402).action == "continue"
    assert decided(0.4, 0.4, users=50_000).action == "keep_control"


def test_a_guard_stops_a_variant_that_earns_more() -> None:
    found = decided(0.4, 0.6, errors=0.05)
    assert (found.action, found.figure) == ("roll_back", "errors")
    assert "> 0.01" in found.inequality


def test_a_broken_assignment_decides_nothing() -> None:
    clicks = {"control": Moments.of(np.ones(9_000)), "v2": Moments.of(np.full(7_000, 2.0))}
    rules = Rules(Figure("clicks"))
    shares = dict.fromkeys(clicks, 0.5)
    (found,) = decide("ranking", rules, {"clicks": clicks}, {"control": 9_000, "v2": 7_000}, shares)
    assert (found.action, found.figure) == ("invalid", "sample_ratio")
    assert "sample_ratio p" in str(found)


def test_too_few_users_decide_nothing_however_clear_it_looks() -> None:
    rng = np.random.default_rng(0)
    clicks = {"control": Moments.of(rng.random(60)), "v2": Moments.of(5 + rng.random(60))}
    counts = dict.fromkeys(clicks, 60)
    (found,) = decide("ranking", Rules(Figure("clicks")), {"clicks": clicks}, counts, dict.fromkeys(clicks, 0.5))
    assert found.action == "continue"


def test_a_lower_is_better_figure_is_promoted_when_it_falls() -> None:
    rng = np.random.default_rng(0)
    latency = {"control": Moments.of(rng.gamma(4, 10, 3_000)), "v2": Moments.of(rng.gamma(4, 8, 3_000))}
    rules = Rules(Figure("latency_ms", higher_is_better=False))
    counts = dict.fromkeys(latency, 3_000)
    (found,) = decide("cache", rules, {"latency_ms": latency}, counts, dict.fromkeys(latency, 1.0))
    assert found.action == "promote"
    assert found.difference < 0


def test_a_team_draft_holds_both_rankings_in_their_orders_and_is_fair() -> None:
    rng = np.random.default_rng(0)
    first, second = ["s0", "a1", "a2", "b0", "a4"], ["s0", "b0", "a1", "b1", "b2"]
    drafts = [team_draft(first, second, 4, rng) for _ in range(4_000)]
    for draft in drafts[:100]:
        assert len(set(draft.items)) == 4
        assert (draft.items[0], draft.team[0]) == ("s0", SHARED)
        assert set(zip(draft.items[1:3], draft.team[1:3], strict=True)) == {("a1", 0), ("b0", 1)}
        assert draft.items[3] == ("a2" if draft.team[3] == 0 else "b1")
    for place in (1, 3):  # whoever clicks a place without looking credits both equally
        assert np.mean([draft.team[place] for draft in drafts]) == pytest.approx(0.5, abs=0.03)


def test_equal_rankings_make_the_ranking_itself() -> None:
    draft = team_draft(["a", "b", "c"], ["a", "b", "c"], 5, np.random.default_rng(0))
    assert draft.items == ("a", "b", "c")
    assert draft.team == (SHARED,) * 3


def test_the_longer_ranking_fills_up() -> None:
    assert set(team_draft(["a"], ["b", "c", "d"], 4, np.random.default_rng(0)).items) == {"a", "b", "c", "d"}


def test_credit_is_shared_by_user_not_by_click() -> None:
    user, team = np.array([0, 0, 0, 0, 0, 2]), np.array([1, 1, 1, 0, SHARED, 0])
    assert user_preferences(user, team, np.ones(6)).tolist() == [0.5, 0.0, -1.0]


def test_interleaving_is_decided_by_users_preferences() -> None:
    rng = np.random.default_rng(0)
    liked = np.where(rng.random(600) < 0.6, 1.0, -1.0)
    found = decide_interleaving("ranking", ("v1", "v2"), Moments.of(liked))
    assert found.action == "promote"
    assert decide_interleaving("ranking", ("v1", "v2"), Moments.of(-liked)).action == "roll_back"
    even = np.where(rng.random(600) < 0.5, 1.0, -1.0)
    assert decide_interleaving("ranking", ("v1", "v2"), Moments.of(even)).action == "continue"
    assert (
        decide_interleaving("ranking", ("v1", "v2"), Moments.of(even), InterleavingRules(max_users=600)).action
        == "keep_control"
    )
