import numpy as np
import pytest

from txrec.config import ObjectiveConfig
from txrec.recommender.catalogue import usual_price
from txrec.recommender.ranking.objective import expected_worth

CHANCES = {"click": np.array([0.5, 0.4, 0.1], np.float32), "purchase": np.array([0.01, 0.03, 0.02], np.float32)}
PRICES = np.array([10.0, np.nan, 300.0], np.float32)


def test_worth_is_the_sum_of_what_each_event_is_worth_and_a_product_without_a_price_has_the_usual_one() -> None:
    worth = expected_worth(ObjectiveConfig(click=0.1, purchase=1, revenue=0.02), CHANCES, PRICES, 20.0)
    assert worth is not None
    expected = [0.05 + 0.01 + 0.02 * 0.1, 0.04 + 0.03 + 0.02 * 0.6, 0.01 + 0.02 + 0.02 * 6.0]
    assert worth.values.tolist() == pytest.approx(expected)
    assert worth.estimates["revenue"].tolist() == pytest.approx([0.1, 0.6, 6.0])
    assert not worth.notes


def test_what_is_not_estimated_is_named_and_alone_gives_no_worth() -> None:
    worth = expected_worth(ObjectiveConfig(click=1, cart=2), CHANCES, PRICES, 20.0)
    assert worth is not None
    assert worth.values.tolist() == pytest.approx(CHANCES["click"].tolist())
    assert worth.notes == ("objective: cart has no effect, the model does not estimate it",)
    assert expected_worth(ObjectiveConfig(cart=2), CHANCES, PRICES, 20.0) is None


def test_the_usual_price_is_the_median_of_the_known_ones() -> None:
    assert usual_price(np.array([np.nan, 1.0, 3.0, 100.0], np.float32)) == 3.0
    assert usual_price(np.array([np.nan], np.float32)) == 0.0
