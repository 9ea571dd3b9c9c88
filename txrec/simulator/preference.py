"""True preferences of the generated shop's users, as probabilities; the log is drawn from them.

A user's next item is drawn from a mixture: the accessory or next volume of the last item; something of the same kind
within a session; otherwise the user's own stable taste (`browse`). A search is drawn the same way, and its clicks by
stable taste among the products that match the query.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.simulator.catalogue import ALL_BRANDS, Catalogue
from txrec.simulator.words import COLOURS, TYPES

FOLLOW_PROB = 0.45  # next item is a successor of the last one, where it has any
STAY_PROB = 0.4  # within a session: next item is of the last one's type
NEAR_MATCH = 0.03  # weight of items of the searched type that miss a searched brand, colour or model
NOVELTY = 1.5  # log weight of a product launched during the log
CHINESE_USERS_FRAC = 0.1

ANY = -1
"""Any value, in a concept."""


@dataclass(frozen=True, eq=False)
class Tastes:
    """Tastes of U users, stable over time."""

    type: NDArray[np.float64]  # (U, types) log share of interest
    brand: NDArray[np.float64]  # (U, brands)
    colour: NDArray[np.float64]  # (U, colours)
    price_level: NDArray[np.float64]  # (U,) preferred level, as Catalogue.price_level
    chinese: NDArray[np.bool_]  # (U,) prefers Chinese titles and searches in Chinese
    group: NDArray[np.int64] | None = None  # (U,) group of users with like tastes; None = there are no groups


def generate_tastes(cfg: ShopConfig, rng: np.random.Generator) -> Tastes:
    """A few favourite types and brands, a colour and a price level for each user."""
    num = cfg.num_users
    shares = rng.dirichlet(np.full(len(TYPES), 0.08), num)
    own = Tastes(
        type=np.log(shares + 2e-4),
        brand=1.2 * rng.standard_normal((num, len(ALL_BRANDS))),
        colour=0.8 * rng.standard_normal((num, len(COLOURS))),
        price_level=rng.normal(0, 0.5, num),
        chinese=rng.random(num) < CHINESE_USERS_FRAC,
    )
    return _grouped(cfg, own, shares) if cfg.taste_groups else own


def _grouped(cfg: ShopConfig, own: Tastes, shares: NDArray[np.float64]) -> Tastes:
    """Tastes mixed with those of the users' groups; drawn apart, so that everything else stays as without groups."""
    rng = np.random.default_rng((cfg.seed, 6))
    group = rng.integers(cfg.taste_groups, size=cfg.num_users)
    common = rng.dirichlet(np.full(len(TYPES), 0.08), cfg.taste_groups)[group]
    colour = 0.8 * rng.standard_normal((cfg.taste_groups, len(COLOURS)))[group]
    price_level = rng.normal(0, 0.5, cfg.taste_groups)[group]
    part = cfg.taste_share
    return replace(
        own,
        type=np.log(part * common + (1 - part) * shares + 2e-4),
        colour=part * colour + (1 - part) * own.colour,
        price_level=part * price_level + (1 - part) * own.price_level,
        group=group,
    )


@dataclass(frozen=True, eq=False)
class Preference:
    """The truth: P(next item) for any user, time, last item and query. Rows sum to one over all N items."""

    catalogue: Catalogue
    browse: NDArray[np.float32]  # (U, N) weight of each item by stable taste alone

    def next_items(
        self,
        users: NDArray[np.int64],
        last: NDArray[np.int64],
        in_session: NDArray[np.bool_],
        day: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """P(next item) without a query.

        Args:
            users: (B,) user indexes.
            last: (B,) index of the item engaged with last, -1 = none yet.
            in_session: (B,) the last item belongs to the running session.
            day: (B,) time since the start of the log, days.

        Returns:
            (B, N) float32 probabilities.
        """
        on_sale = self.on_sale(day)
        taste = _normalised(self.browse[users] * on_sale)
        staying = in_session & (last >= 0)
        if staying.any():
            alike = self.catalogue.type[None, :] == self.catalogue.type[last[staying], None]
            taste[staying] = (1 - STAY_PROB) * taste[staying] + STAY_PROB * _normalised(taste[staying] * alike)
        return self._followed(taste, last, on_sale)

    def clicks(
        self, users: NDArray[np.int64], concepts: NDArray[np.int64], day: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """P(clicked item) for searches.

        Args:
            users: (B,) user indexes.
            concepts: (B, 4) concepts of the search: type, brand, colour, item; `ANY` = any value.
            day: (B,) time since the start of the log, days.

        Returns:
            (B, N) float32 probabilities.
        """
        return _normalised(self.browse[users] * self.on_sale(day) * self.match(concepts))

    def window(self, users: NDArray[np.int64], last: NDArray[np.int64], day: float) -> NDArray[np.float32]:
        """Expected share of each item among a user's events over the days after `day`, (B, N).

        Stable taste and its successors; the last item's successors weigh as one event among a handful.
        """
        days = np.full(len(users), day)
        taste = _normalised(self.browse[users] * self.on_sale(days))
        stationary = taste + FOLLOW_PROB * self._flow(taste)
        return _normalised(stationary + 0.3 * self.next_items(users, last, np.zeros(len(users), bool), days))

    def match(self, concepts: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, N) match of each item with a search: 1 in all, `NEAR_MATCH` in type only, else 0."""
        type_, brand, colour, item = (concepts[:, [column]] for column in range(4))
        same_type = self.catalogue.type == type_
        fits = (brand == ANY) | (self.catalogue.brand == brand)
        fits &= (colour == ANY) | (self.catalogue.colour == colour)
        fits &= (item == ANY) | (np.arange(len(self.catalogue)) == item)
        weights: NDArray[np.float32] = same_type * np.where(fits, np.float32(1), np.float32(NEAR_MATCH))
        return weights

    def on_sale(self, day: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(B, N): launched by then."""
        return self.catalogue.launch_day <= day[:, None]

    def _followed(
        self, taste: NDArray[np.float32], last: NDArray[np.int64], on_sale: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        successors = np.where(last[:, None] >= 0, self.catalogue.successors[last], -1)
        row, column = np.nonzero((successors >= 0) & np.take_along_axis(on_sale, successors.clip(0), 1))
        counts = np.bincount(row, minlength=len(last))
        taste[counts > 0] *= 1 - FOLLOW_PROB
        np.add.at(taste, (row, successors[row, column]), (FOLLOW_PROB / counts[row]).astype(np.float32))
        return taste

    def _flow(self, taste: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distribution of the successors of events distributed as `taste`."""
        flow = np.zeros_like(taste)
        has_successor = self.catalogue.successors >= 0
        counts = has_successor.sum(1)
        for column in range(has_successor.shape[1]):
            items = np.flatnonzero(has_successor[:, column])
            np.add.at(flow.T, self.catalogue.successors[items, column], (taste[:, items] / counts[items]).T)
        return flow


def generate(cfg: ShopConfig, catalogue: Catalogue, tastes: Tastes, rng: np.random.Generator) -> Preference:
    """(B, N) tastes for the traits of each item, plus a little general popularity and unexplained individual taste."""
    quality = 0.5 * rng.standard_normal(len(catalogue)) + NOVELTY * (catalogue.launch_day > 0)
    utility = 0.8 * rng.standard_normal((cfg.num_users, len(catalogue)), dtype=np.float32)
    utility += (tastes.type[:, catalogue.type] + tastes.brand[:, catalogue.brand] + quality).astype(np.float32)
    coloured = catalogue.colour >= 0
    utility[:, coloured] += tastes.colour[:, catalogue.colour[coloured]].astype(np.float32)
    distance = catalogue.price_level - tastes.price_level[:, None]
    utility -= (1.5 * distance**2).astype(np.float32)
    utility += np.where(tastes.chinese[:, None] == catalogue.chinese, 0, -2.0).astype(np.float32)
    utility -= utility.max(1, keepdims=True)
    return Preference(catalogue, np.exp(utility))


def _normalised(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = weights / np.maximum(weights.sum(1, keepdims=True), 1e-30)
    return result


def draw(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """One index per row, (B,), with probabilities in proportion to the weights (B, N).

    First a run of about sqrt(N) items is drawn, then an item within it: much less to add up one by one.
    """
    num = weights.shape[1]
    width = math.isqrt(num)
    starts = np.arange(0, num, width)
    run, place = _inverse(np.add.reduceat(weights, starts, axis=1), rng.random(len(weights)))
    columns = starts[run][:, None] + np.arange(width)
    inside = np.take_along_axis(weights, columns.clip(max=num - 1), 1) * (columns < num)
    return starts[run] + _inverse(inside, place)[0]


def _inverse(weights: NDArray[np.float32], place: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The column in which a place in [0, 1) of each row's total weight lies, and its place within that column."""
    ends = np.cumsum(weights, axis=1, dtype=np.float64)
    target = place * ends[:, -1]
    last = (ends < ends[:, -1:]).sum(1)  # rounding must not lead past the last column that has any weight
    column: NDArray[np.int64] = np.minimum((ends <= target[:, None]).sum(1), last)
    rows = np.arange(len(weights))
    width = weights[rows, column]
    return column, 1 - (ends[rows, column] - target) / width
