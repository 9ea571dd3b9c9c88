"""The gate's verdict: metric beside production's, and served slates where clicks favour production."""

import pytest

from txrec.registry.gate import Decision, ServedGain

BETTER = ServedGain("examination", earned=0.5, gain=0.01, low=-0.02, high=0.04, slates=900)


def decided(value: float, served: ServedGain | None = None) -> Decision:
    return Decision(
        "v2",
        "ndcg@10",
        value,
        margin=0.05,
        num_cases=400,
        production="v1",
        production_value=0.76,
        served=served,
        served_margin=0.2,
    )


def test_a_metric_below_the_margin_alone_is_refused() -> None:
    made = decided(0.71)
    assert not made.passed
    assert made.inequality == "ndcg@10 0.7100 < 0.7220 required"


def test_served_slates_let_a_version_pass_that_production_s_own_clicks_refuse() -> None:
    made = decided(0.71, BETTER)
    assert made.passed
    assert made.passed_as_served
    assert made.inequality == (
        "ndcg@10 0.7100 < 0.7220 required; clicks per served slate +0.0100 (-0.0200 to +0.0400) >= -0.0250 with"
        " ndcg@10 >= 0.6080"
    )
    assert made.to_dict()["passed_as_served"] is True


@pytest.mark.parametrize(
    ("value", "served", "sign"),
    [(0.60, BETTER, "ndcg@10 < 0.6080"), (0.71, ServedGain("position", 0.5, -0.03, -0.05, -0.01, 900), "< -0.0250")],
    ids=["the metric is far below", "the order would have earned less"],
)
def test_served_slates_do_not_help_a_version_that(value: float, served: ServedGain, sign: str) -> None:
    made = decided(value, served)
    assert not made.passed
    assert sign in made.inequality


def test_served_slates_decide_nothing_where_the_metric_passes_or_nothing_is_in_production() -> None:
    loses = ServedGain("examination", 0.5, -0.2, -0.3, -0.1, 900)
    assert decided(0.75, loses).passed
    assert not decided(0.75, loses).passed_as_served
    first = Decision("v1", "ndcg@10", 0.1, 0.05, 400, served=loses)
    assert first.passed
