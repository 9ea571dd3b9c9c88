"""Position bias estimated from served slates of the live world, whose true examination is known."""

import numpy as np
import polars as pl
import pytest

from txrec.config import ShopConfig
from txrec.loop.attribution.attribution import Windows, credit, events_of, slates_of
from txrec.loop.exploration.exploration import Bounds
from txrec.loop.exploration.exploration_log import explore
from txrec.loop.off_policy.position_bias import PositionBias, estimate, impressions, maximum_likelihood
from txrec.simulator import Shop
from txrec.simulator.world import Behaviour, World

PLACES = 6


@pytest.fixture(scope="module")
def world() -> World:
    cfg = ShopConfig(num_items=150, num_users=400, num_events=4_000, days=20)
    return World(Shop.generate(cfg), Behaviour(bias=1.0, ceiling=0.9, floor=0.1, sharpness=0.3), seed=1)


def served(world: World, size: int, noise: float, bounds: Bounds | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Slates sorted by a noisy estimate of each product's attraction, as a server logs them, and their clicks."""
    rng = np.random.default_rng(0)
    visits = world.visits(size, days=30)
    some = rng.random((size, world.browse.shape[1])).argsort(axis=1)[:, :12]
    score = world.attraction(visits, some) * np.exp(noise * rng.standard_normal(some.shape))
    order = np.argsort(-score, axis=1)[:, :PLACES]
    records: list[str | None] = [None] * size
    if bounds is not None:
        sorted_scores = np.take_along_axis(score, order, axis=1).clip(1e-6, 0.99).tolist()
        drawn = [explore(one, [0.0] * PLACES, bounds, rng) for one in sorted_scores]
        order = np.stack([row[list(shown)] for row, (shown, _) in zip(order, drawn, strict=True)])
        records = [record.to_json() if record else None for _, record in drawn]
    items = np.take_along_axis(some, order, axis=1)
    response = world.respond(visits, items)
    slates = pl.DataFrame(
        {
            "request_id": [f"r{row}" for row in range(size)],
            "variant": ["production"] * size,
            "ts": visits.second * 1_000_000,
            "user_id": [f"u{user}" for user in visits.user.tolist()],
            "query": ["search" if one else None for one in visits.searched.tolist()],
            "item_ids": [[f"p{item}" for item in row] for row in items.tolist()],
            "scores": np.take_along_axis(score, order, axis=1).clip(1e-6, 0.99).tolist(),
            "exploration": pl.Series(records, dtype=pl.String),
        }
    )
    row, place = np.nonzero(response.clicked)
    events = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in visits.user[row].tolist()],
            "ts": visits.second[row] * 1_000_000 + 1_000,
            "event": ["click"] * len(row),
            "item_id": [f"p{item}" for item in items[row, place].tolist()],
            "request_id": [f"r{one}" for one in row.tolist()],
            "value": [0.0] * len(row),
        }
    )
    return slates, events


def bias_of(slates: pl.DataFrame, events: pl.DataFrame) -> PositionBias | None:
    shown = slates_of(slates)
    return estimate(shown, credit(shown, events_of(events), Windows()))


def test_the_estimate_matches_the_true_examination_of_the_world(world: World) -> None:
    found = bias_of(*served(world, 15_000, noise=0.0))
    assert found is not None
    assert found.grouped_by == "score"
    assert found.examination == pytest.approx(world.behaviour.examination(PLACES), abs=0.05)
    assert found.at(np.array([0, 3, 40])).tolist() == pytest.approx([1.0, found.examination[3], found.examination[-1]])


def test_exploration_gives_the_true_examination_whatever_the_scores_are_worth(world: World) -> None:
    slates, events = served(world, 6_000, noise=1.0, bounds=Bounds(share=1.0, num_places=4, pool=6, temperature=5.0))
    found = bias_of(slates, events)
    assert found is not None
    assert found.num_explored == 6_000
    assert found.examination[:4] == pytest.approx(world.behaviour.examination(4), abs=0.06)


def test_click_rates_alone_would_overstate_the_bias(world: World) -> None:
    slates, events = served(world, 6_000, noise=0.2)
    shown = slates_of(slates)
    rates = (
        impressions(shown, credit(shown, events_of(events), Windows())).group_by("place").agg(pl.col("clicked").mean())
    )
    naive = rates.sort("place")["clicked"].to_numpy()
    truth = world.behaviour.examination(PLACES)
    assert (naive / naive[0])[3] < truth[3] - 0.03


def test_without_scores_the_same_query_and_product_at_different_places_tell_the_bias() -> None:
    rng = np.random.default_rng(2)
    attraction = rng.uniform(0.1, 0.6, 60)
    examined = np.array([1.0, 0.6, 0.3])
    items = np.array([rng.choice(60, 3, replace=False) for _ in range(20_000)])
    clicked = rng.random(items.shape) < attraction[items] * examined
    slates = pl.DataFrame(
        {
            "request_id": [str(row) for row in range(len(items))],
            "query": ["lamp"] * len(items),
            "item_ids": [[f"p{item}" for item in row] for row in items.tolist()],
        }
    )
    row, place = np.nonzero(clicked)
    credits_ = pl.DataFrame({"request_id": row.astype(str), "place": place, "event": ["click"] * len(row)})
    found = estimate(slates, credits_)
    assert found is not None
    assert found.grouped_by == "query and product"
    assert found.examination == pytest.approx(examined, abs=0.03)


def test_too_few_impressions_tell_nothing(world: World) -> None:
    assert bias_of(*served(world, 100, noise=0.5)) is None


def test_the_likelihood_is_at_its_maximum_for_exact_counts() -> None:
    examined, attraction = np.array([1.0, 0.5, 0.25]), np.array([0.8, 0.3, 0.1])
    place, group = (values.ravel() for values in np.meshgrid(np.arange(3), np.arange(3)))
    shown = np.full(9, 1_000.0)
    found = maximum_likelihood(place, group, shown, shown * examined[place] * attraction[group])
    assert found == pytest.approx(examined, abs=1e-3)
