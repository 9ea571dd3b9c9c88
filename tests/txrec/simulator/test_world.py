"""The live world: its users behave as its exact expectations say."""

import numpy as np
import pytest

from txrec.config import ShopConfig
from txrec.simulator import Shop
from txrec.simulator.preference import ANY
from txrec.simulator.world import NO_ITEM, Behaviour, Visits, World

SHOP = Shop.generate(ShopConfig(num_items=150, num_users=60, num_events=1_500, days=20))


def best(world: World, visits: Visits, k: int = 5) -> np.ndarray:
    return np.argsort(-world.preference(visits), axis=1)[:, :k]


def test_clicks_by_position_are_examination_times_attraction() -> None:
    world = World(SHOP)
    visits = world.visits(20_000, 1.0)
    rng = np.random.default_rng(0)
    items = rng.permuted(np.tile(np.arange(150), (len(visits), 1)), axis=1)[:, :6]
    clicked = world.respond(visits, items).clicked
    expected = world.expected_clicks(visits, items)
    error = np.sqrt((expected * (1 - expected)).sum(axis=0))
    assert (np.abs(clicked.sum(axis=0) - expected.sum(axis=0)) < 4 * error).all()
    ratio = expected.mean(axis=0) / world.attraction(visits, items).mean(axis=0)
    assert ratio == pytest.approx(Behaviour().examination(6), rel=1e-6)


def test_a_search_attracts_only_to_what_matches_it() -> None:
    world = World(SHOP)
    visits = world.visits(400, 1.0)
    searched = np.flatnonzero(visits.searched)
    assert len(searched) / 400 == pytest.approx(Behaviour().search_prob, abs=0.1)
    texts = world.query_texts(visits)
    assert [text is not None for text in texts] == visits.searched.tolist()
    asked = visits.take(searched)
    assert (SHOP.catalogue.type[best(world, asked, 1)[:, 0]] == asked.concept[:, 0]).all()


def test_the_best_products_earn_more_clicks_than_any_others() -> None:
    world = World(SHOP)
    visits = world.visits(300, 1.0)
    top = world.expected_clicks(visits, best(world, visits)).sum()
    worst = world.expected_clicks(visits, np.argsort(world.preference(visits), axis=1)[:, :5]).sum()
    assert top > 3 * worst


def test_users_who_find_something_come_more_often_than_those_who_do_not() -> None:
    world = World(SHOP, Behaviour(ceiling=1.0, bias=0.0))
    before = world.rate.copy()
    visits = world.visits(200, 1.0)
    fine = visits.user % 2 == 0
    items = np.where(fine[:, None], best(world, visits), NO_ITEM)
    world.respond(visits, items)
    seen = np.unique(visits.user)
    change = world.rate[seen] / before[seen]
    assert (change[seen % 2 == 0] > 1).all()
    assert (change[seen % 2 == 1] < 1).all()


def test_the_last_clicked_product_is_remembered() -> None:
    world = World(SHOP, Behaviour(ceiling=1.0, bias=0.0, sharpness=0.0))
    visits = Visits(np.array([3]), np.array([0]), np.full((1, 4), ANY), np.array([NO_ITEM]))
    world.respond(visits, np.array([[7, 8, NO_ITEM]]))
    assert world.last[3] == 8


def test_drifted_users_want_something_else_and_others_do_not() -> None:
    world = World(SHOP)
    before = world.browse.copy()
    users = world.drift_tastes(0.25)
    changed = (world.browse != before).any(axis=1)
    assert set(np.flatnonzero(changed)) <= set(users.tolist())
    assert changed.sum() >= len(users) - 2  # somebody may be moved to themself
    assert len(users) == 15


def test_retired_products_are_neither_wanted_nor_clicked_until_they_are_launched() -> None:
    world = World(SHOP)
    gone = np.arange(75)
    world.retire(gone)
    visits = world.visits(200, 1.0)
    assert not world.preference(visits)[:, gone].any()
    assert not world.expected_clicks(visits, np.tile(gone[:5], (200, 1))).any()
    world.launch(gone, appeal=1e4)
    assert np.isin(best(world, visits, 1), gone).mean() > 0.9


def test_the_same_seed_lives_the_same_life() -> None:
    def life(seed: int) -> np.ndarray:
        world = World(SHOP, seed=seed)
        visits = world.visits(300, 2.0)
        return world.respond(visits, best(world, visits)).clicked

    assert (life(1) == life(1)).all()
    assert (life(1) != life(2)).any()
