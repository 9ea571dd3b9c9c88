import numpy as np
import polars as pl
import pytest

from txrec.loop.off_policy.fatigue_effect import fatigue_factors
from txrec.loop.off_policy.position_bias import PositionBias

BIAS = PositionBias((1.0, 0.5, 0.25, 0.125), 10_000, 100, "score")
TRUTH = (1.0, 0.6, 0.36)
PLACES, SLATES, USERS = 4, 60, 150


def log(factors: tuple[float, ...], with_scores: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Slates of random products, clicked by place, attraction of the product and showings in vain."""
    rng = np.random.default_rng(0)
    slates, clicks = [], []
    for user in range(USERS):
        shown = np.zeros(8, int)
        for number in range(SLATES):
            items = rng.permutation(8)[:PLACES]
            attraction = 0.2 + 0.05 * items
            worn = np.array(factors)[np.minimum(shown[items], len(factors) - 1)]
            clicked = rng.random(PLACES) < attraction * np.array(BIAS.examination) * worn
            request_id = f"{user}-{number}"
            own = {"request_id": request_id, "user_id": f"u{user}", "ts": number, "item_ids": [f"i{i}" for i in items]}
            slates.append({**own, **({"scores": attraction.tolist()} if with_scores else {})})
            clicks += [
                {"request_id": request_id, "place": int(place), "event": "click"} for place in np.flatnonzero(clicked)
            ]
            shown[items] += 1
            shown[items[clicked]] = 0
    return pl.DataFrame(slates), pl.DataFrame(clicks)


@pytest.mark.parametrize("with_scores", [True, False])
def test_the_decline_of_clicks_with_showings_in_vain_is_found_whatever_the_places(with_scores: bool) -> None:
    found = fatigue_factors(*log(TRUTH, with_scores), BIAS)
    assert found[0] == 1.0
    assert found[1:3] == pytest.approx(TRUTH[1:], abs=0.06)
    assert list(found) == sorted(found, reverse=True)
    assert len(found) > 3
    assert min(found) > 0.25


def test_where_repetition_bores_nobody_factors_stay_near_one() -> None:
    assert min(fatigue_factors(*log((1.0,), with_scores=True), BIAS)) > 0.85


def test_slates_without_users_or_without_repeats_teach_nothing() -> None:
    slates, clicks = log(TRUTH, with_scores=True)
    nobody = slates.with_columns(user_id=pl.lit(None, pl.String))
    assert fatigue_factors(nobody, clicks, BIAS) == ()
    once = slates.with_columns(user_id=pl.col("request_id"))
    assert fatigue_factors(once, clicks, BIAS) == ()
