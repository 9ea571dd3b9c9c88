"""Exploration: Plackett-Luce slates within the shop's bounds, with exact propensities of everything shown.

A share of the slates is drawn instead of sorted: places `first_place` to `first_place + num_places - 1` are filled one
after another, each product with probability proportional to exp(score / temperature) among the eligible ones that are
left; everything above stays as it is. The logged probability of a slate covers both cases, sorted and drawn, so that
`off_policy` can weigh what was shown by what another ranking would have shown.

Eligible are the best `pool` products that reach `floor` of the best score's odds and are not excluded; products with
few views get a bonus, so that new products have their first views.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEP = 0.4  # of the quadrature in log time: probabilities are right to seven digits
_LOWEST, _HIGHEST = -20.0, 3.7  # of log time around the races' own scales; beyond, less than 2e-9 happens


@dataclass(frozen=True)
class Bounds:
    """Limits of exploration.

    Attributes:
        share: of the slates that are drawn, 0 to 1; 0 = no exploration.
        first_place: first place that may change, from 0.
        num_places: places that may change.
        pool: products that a draw chooses from.
        temperature: of the scores; higher = more equal chances.
        floor: least odds exp(score difference / temperature) relative to the best eligible product, 0 to 1.
        bonus: added to the score of a product without views; it falls off as 1 / (1 + views / `bonus_views`).
        bonus_views: views after which half of the bonus is left.
    """

    share: float = 0.05
    first_place: int = 0
    num_places: int = 5
    pool: int = 20
    temperature: float = 1.0
    floor: float = 0.0
    bonus: float = 0.0
    bonus_views: float = 20.0

    @property
    def depth(self) -> int:
        """Places whose propensities are known: the fixed ones above and those that may change."""
        return self.first_place + self.num_places


@dataclass(frozen=True, eq=False)
class Draws:
    """B slates of D = `Bounds.depth` places that exploration showed.

    Attributes:
        place: (B, D) column of the product in each place.
        drawn: (B,) whether the slate was drawn, not sorted.
        prefix: (B, D) probability of the products of places 0..d in this order.
        marginal: (B, D) probability of this product at this place, whatever stands in the others.
    """

    place: Ints
    drawn: NDArray[np.bool_]
    prefix: Floats
    marginal: Floats


def utilities(
    scores: Floats, bounds: Bounds, views: Floats | None = None, excluded: NDArray[np.bool_] | None = None
) -> Floats:
    """(B, C) log odds of the products in a draw, -inf for those that may not be drawn.

    Args:
        scores: (B, C) ranking scores, best first, at least `depth` of them; log odds where they are calibrated.
        bounds: of the shop.
        views: (B, C) times that each product has been shown; None = no bonus.
        excluded: (B, C) products that only the sorted ranking may show.
    """
    scored = scores / bounds.temperature
    if views is not None and bounds.bonus:
        scored = scored + bounds.bonus / (1 + views / bounds.bonus_views)
    column = np.arange(scores.shape[1])
    eligible = np.broadcast_to(
        (column >= bounds.first_place) & (column < bounds.first_place + bounds.pool), scores.shape
    )
    if excluded is not None:
        eligible = eligible & ~excluded
    best = np.where(eligible, scored, -np.inf).max(axis=1, keepdims=True)
    if bounds.floor > 0:
        eligible = eligible & (scored >= best + np.log(bounds.floor))
    short = eligible.sum(axis=1) < bounds.num_places  # too few to fill the places: the sorted ones are added
    sorted_ones = (column >= bounds.first_place) & (column < bounds.depth)
    eligible = eligible | (short[:, None] & sorted_ones)
    return np.where(eligible, scored, -np.inf)


def draw(utility: Floats, bounds: Bounds, rng: np.random.Generator, marginals: bool = True) -> Draws:
    """Draws slates from (B, C) log odds as `utilities` gives them, and their exact propensities.

    Args:
        utility: (B, C) log odds.
        bounds: of the exploration.
        rng: draws.
        marginals: off = `Draws.marginal` stays NaN; it takes the longest and can be computed later.
    """
    size = len(utility)
    drawn = rng.random(size) < bounds.share
    noise = rng.gumbel(size=utility.shape)
    order = np.argsort(-(utility + noise), axis=1)[:, : bounds.num_places]
    place = np.tile(np.arange(bounds.depth), (size, 1))
    place[drawn, bounds.first_place :] = order[drawn]
    prefix = prefix_probability(utility, place, bounds)
    marginal = marginal_probability(utility, place, bounds) if marginals else np.full_like(prefix, np.nan)
    return Draws(place, drawn, prefix, marginal)


class Propensities(NamedTuple):
    """Probabilities of slates under exploration, each (B, D), as in `Draws`."""

    prefix: Floats
    marginal: Floats


def propensities(utility: Floats, place: Ints, bounds: Bounds) -> Propensities:
    """Probabilities of any slates under exploration.

    Args:
        utility: (B, C) log odds, -inf = not eligible.
        place: (B, D) column of the product in each place.
        bounds: of the exploration.
    """
    return Propensities(prefix_probability(utility, place, bounds), marginal_probability(utility, place, bounds))


def prefix_probability(utility: Floats, place: Ints, bounds: Bounds) -> Floats:
    """(B, D) probability that exploration shows these products in places 0..d, in this order."""
    first = bounds.first_place
    sorted_prefix = np.cumprod(place == np.arange(place.shape[1]), axis=1).astype(np.float64)
    weight = _odds(utility)
    chosen = np.take_along_axis(weight, place[:, first:], axis=1)
    before = np.cumsum(chosen, axis=1) - chosen
    left = np.maximum(weight.sum(axis=1, keepdims=True) - before, chosen)
    with np.errstate(divide="ignore", invalid="ignore"):
        race = np.cumprod(np.where(chosen > 0, chosen / left, 0.0), axis=1)
    drawn = np.concatenate(
        [sorted_prefix[:, :first], sorted_prefix[:, first - 1 : first] * race if first else race], axis=1
    )
    return np.asarray((1 - bounds.share) * sorted_prefix + bounds.share * drawn)


def marginal_probability(utility: Floats, place: Ints, bounds: Bounds) -> Floats:
    """(B, D) probability that exploration shows each of these products at its place."""
    first = bounds.first_place
    alone = (place == np.arange(place.shape[1])).astype(np.float64)
    ranks = race_ranks(utility, bounds.num_places)  # (B, C, num_places)
    own = np.take_along_axis(ranks, place[:, first:, None], axis=1)  # (B, num_places, num_places)
    drawn = np.concatenate([alone[:, :first], np.diagonal(own, axis1=1, axis2=2)], axis=1)
    return np.asarray((1 - bounds.share) * alone + bounds.share * drawn)


def race_ranks(utility: Floats, num: int) -> Floats:
    """(B, C, num) exact probability that each product comes at each of the first ranks of a Plackett-Luce draw.

    Products arrive at exponential times with rates exp(utility), and the order of arrival is a Plackett-Luce order. A
    product that arrives at time t has rank r if r of the others arrived before: a Poisson-binomial probability, which
    is integrated over log t by the trapezoidal rule.
    """
    rate = _odds(utility)
    eligible = rate > 0
    slowest = np.log(np.where(eligible, rate, 1.0).min())
    log_time = np.arange(_LOWEST - np.log(rate.shape[1]), _HIGHEST - slowest + _STEP, _STEP)
    exponent = rate[:, :, None] * np.exp(log_time)  # (B, C, T)
    density = exponent * np.exp(-exponent) * _STEP
    arrived = -np.expm1(-exponent)
    result = np.zeros((*rate.shape, num))
    for item in np.flatnonzero(eligible.any(axis=0)):
        others = np.zeros((len(rate), num, len(log_time)))
        others[:, 0] = 1.0
        for other in np.flatnonzero(eligible.any(axis=0)):
            if other == item:
                continue
            moved = others * arrived[:, None, other]
            others -= moved
            others[:, 1:] += moved[:, :-1]
        result[:, item] = (others * density[:, None, item]).sum(axis=2)
    return result


def _odds(utility: Floats) -> Floats:
    """(B, C) odds with the best at 1; 0 for what is not eligible."""
    best = utility.max(axis=1, keepdims=True)
    return np.asarray(np.exp(utility - np.where(np.isfinite(best), best, 0.0)))
