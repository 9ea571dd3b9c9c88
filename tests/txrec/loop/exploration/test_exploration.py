"""Exploration stays within its bounds, and its propensities are exact."""

from itertools import permutations

import numpy as np
import pytest

from txrec.loop.exploration.exploration import Bounds, draw, propensities, race_ranks, utilities

SCORES = np.array([[2.0, 1.4, 1.1, 0.2, -0.5, -3.0], [0.1, 0.0, 0.0, -0.1, -0.2, -0.3]])
BOUNDS = Bounds(share=0.3, first_place=1, num_places=2, pool=4)


def enumerated(utility: np.ndarray, bounds: Bounds) -> dict[tuple[int, ...], float]:
    """Probability of every slate of one request, by enumeration."""
    head = tuple(range(bounds.first_place))
    eligible = [column for column in range(len(utility)) if np.isfinite(utility[column])]
    result: dict[tuple[int, ...], float] = {}
    for order in permutations(eligible, bounds.num_places):
        left, chance = set(eligible), bounds.share
        for column in order:
            chance *= np.exp(utility[column]) / sum(np.exp(utility[one]) for one in left)
            left.remove(column)
        result[head + order] = chance
    plain = tuple(range(bounds.depth))
    result[plain] = result.get(plain, 0.0) + 1 - bounds.share
    return result


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [BOUNDS, Bounds(share=1.0, num_places=3, pool=5, temperature=0.4), Bounds(0.0)])
def test_propensities_are_those_of_enumeration(bounds: Bounds) -> None:
    utility = utilities(SCORES, bounds)
    for row in range(len(utility)):
        slates = enumerated(utility[row], bounds)
        assert sum(slates.values()) == pytest.approx(1.0)
        place = np.array(list(slates))
        prefix, marginal = propensities(np.tile(utility[row], (len(place), 1)), place, bounds)
        for number, slate in enumerate(slates):
            for depth in range(bounds.depth):
                same = sum(p for other, p in slates.items() if other[: depth + 1] == slate[: depth + 1])
                assert prefix[number, depth] == pytest.approx(same, abs=1e-9)
                here = sum(p for other, p in slates.items() if other[depth] == slate[depth])
                assert marginal[number, depth] == pytest.approx(here, abs=1e-7)


def test_ranks_are_exact_for_very_unequal_products() -> None:
    ranks = race_ranks(np.array([[0.0, -2.0, -9.0, -np.inf]]), 3)[0]
    weight = np.exp([0.0, -2.0, -9.0])
    assert ranks[:3, 0] == pytest.approx(weight / weight.sum(), rel=1e-6)
    assert ranks[:3].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-7)
    assert not ranks[3].any()


@pytest.mark.slow
def test_what_is_drawn_has_the_frequencies_of_its_propensities() -> None:
    utility = np.tile(utilities(SCORES[:1], BOUNDS), (40_000, 1))
    found = draw(utility, BOUNDS, np.random.default_rng(0))
    expected = enumerated(utility[0], BOUNDS)
    slates, counts = np.unique(found.place, axis=0, return_counts=True)
    for slate, count in zip(slates.tolist(), counts, strict=True):
        chance = expected[tuple(slate)]
        assert count == pytest.approx(40_000 * chance, abs=5 * np.sqrt(40_000 * chance))
    assert found.drawn.mean() == pytest.approx(BOUNDS.share, abs=0.02)


def test_the_places_above_and_the_products_outside_the_pool_stay() -> None:
    utility = np.tile(utilities(SCORES[1:], BOUNDS), (2_000, 1))
    found = draw(utility, BOUNDS, np.random.default_rng(0))
    assert (found.place[:, 0] == 0).all()
    assert set(np.unique(found.place[:, 1:])) == {1, 2, 3, 4}


def test_excluded_products_and_those_below_the_floor_are_never_drawn() -> None:
    excluded = np.zeros(SCORES.shape, bool)
    excluded[:, 2] = True
    bounds = Bounds(share=1.0, num_places=2, pool=6, floor=0.15)
    utility = utilities(SCORES, bounds, excluded=excluded)
    assert np.isfinite(utility).tolist() == [
        [True, True, False, True, False, False],
        [True, True, False, True, True, True],
    ]


def test_where_too_few_are_eligible_the_sorted_products_fill_up() -> None:
    bounds = Bounds(share=1.0, num_places=3, pool=6, floor=0.9)
    utility = utilities(SCORES[:1], bounds)
    assert np.flatnonzero(np.isfinite(utility[0])).tolist() == [0, 1, 2]


def test_new_products_are_drawn_more_often_until_they_have_been_seen() -> None:
    bounds = Bounds(share=1.0, num_places=1, pool=6, bonus=3.0, bonus_views=10)
    views = np.full(SCORES.shape, 1e6)
    chances = []
    for seen in (0.0, 10.0, 1_000.0):
        views[:, 3] = seen
        chances.append(race_ranks(utilities(SCORES, bounds, views), 1)[1, 3, 0])
    assert chances[0] > chances[1] + 0.2 > chances[2] + 0.4
    assert chances[2] == pytest.approx(1 / 6, abs=0.02)
