"""Estimates of purchases in a trained bundle: calibrated, used by an objective, and without one nothing changes."""

from pathlib import Path

import numpy as np
import pytest

from tests import outcome_bundle
from txrec.config import Config, ObjectiveConfig
from txrec.data.prepared import PreparedData
from txrec.evals.outcome_figures import outcome_figures
from txrec.evals.protocol import eval_requests
from txrec.recommender.recommender import Recommender, Request
from txrec.schema import Split

pytestmark = pytest.mark.slow
QUERIES = [Request(query=query, top_k=20) for query in ("kettle", "lamp", "drill", "tent")]
USERS = [Request(user_id=f"user-{number:03d}", top_k=20) for number in range(12)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Recommender]:
    """The same bundle with and without estimates of purchases."""
    folders = [tmp_path_factory.mktemp(name) for name in ("with", "without")]
    paths = [outcome_bundle.write(folder, outcomes) for folder, outcomes in zip(folders, (True, False), strict=True)]
    return Recommender.open(paths[0]), Recommender.open(paths[1])


def test_the_bundle_holds_heads_by_name_and_without_an_objective_every_slate_is_the_same(
    bundles: tuple[Recommender, Recommender],
) -> None:
    having, lacking = bundles
    assert having.ranker is not None
    assert having.ranker.outcomes is not None
    assert having.ranker.outcomes.kinds == ("purchase",)
    assert lacking.ranker is not None
    assert lacking.ranker.outcomes is None
    requests = [*QUERIES, *USERS]
    for one, other in zip(having.recommend(requests), lacking.recommend(requests), strict=True):
        assert [(item.item_id, item.score) for item in one.items] == [(i.item_id, i.score) for i in other.items]
        assert not any(item.estimates for item in one.items)


def test_probabilities_of_purchases_are_calibrated_on_the_test_part(
    bundles: tuple[Recommender, Recommender], tmp_path: Path
) -> None:
    data = PreparedData.open(outcome_bundle.data(tmp_path).path)
    config = Config(name="tiny")
    figures = outcome_figures(config, data, bundles[0], eval_requests(data, Split.TEST, config.evaluate))
    assert set(figures) == {"click", "purchase"}
    assert 0 < figures["purchase"]["rate"] < figures["click"]["rate"]
    for kind in figures.values():
        assert kind["calibration_error"] < 0.03
        assert kind["auc"] > 0.7
    assert outcome_figures(config, data, bundles[1], eval_requests(data, Split.TEST, config.evaluate)) == {}


def test_an_objective_orders_by_expected_worth_and_estimates_are_told_with_each_item(
    bundles: tuple[Recommender, Recommender],
) -> None:
    goal = ObjectiveConfig(click=0.1, purchase=1.0, revenue=0.02)
    requests = [Request(user_id=one.user_id, top_k=20, objective=goal) for one in USERS]
    changed = 0
    for plain, slate in zip(bundles[0].recommend(USERS), bundles[0].recommend(requests), strict=True):
        ranked = [item for item in slate.items if item.estimates]
        assert len(ranked) == 20
        for item in ranked:
            own, price = item.estimates, 9.0 + int(item.item_id[4:])
            assert own["revenue"] == pytest.approx(own["purchase"] * price, rel=1e-4)
            assert item.score == pytest.approx(0.1 * own["click"] + own["purchase"] + 0.02 * own["revenue"], rel=1e-4)
        changed += [item.item_id for item in plain.items] != [item.item_id for item in slate.items]
    assert changed


def test_products_that_are_bought_have_a_higher_probability_of_a_purchase_given_a_click(
    bundles: tuple[Recommender, Recommender],
) -> None:
    given_click: dict[bool, list[float]] = {True: [], False: []}
    for slate in bundles[0].recommend(
        [Request(query=one.query, objective=ObjectiveConfig(click=1)) for one in QUERIES]
    ):
        for item in slate.items:
            kind = (int(item.item_id[4:]) - 1) // 10
            if kind < 6 and item.estimates:
                given_click[kind % 2 == 0].append(item.estimates["purchase"] / item.estimates["click"])
    assert np.mean(given_click[True]) > 2 * np.mean(given_click[False])


def test_a_model_without_estimates_says_that_the_objective_has_no_effect(
    bundles: tuple[Recommender, Recommender],
) -> None:
    goal = ObjectiveConfig(purchase=1.0)
    plain, slate = bundles[1].recommend([QUERIES[0], Request(query="kettle", top_k=20, objective=goal)])
    assert [item.item_id for item in plain.items] == [item.item_id for item in slate.items]
    assert slate.notes == ("objective: purchase has no effect, the model does not estimate it",)
