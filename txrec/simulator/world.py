"""The generated shop as a live world: users with known tastes come, see slates, click, buy and come back.

A visit is browsing or a search. Its user examines position k of the slate with a known probability and clicks an
examined product with a probability that follows from their true preference (a position-based click model), so that the
expected clicks of any slate are known exactly: `World.expected_clicks`. Users who find something come back more often.
Tastes and catalogue drift when `drift_tastes`, `launch` and `retire` are called.

Everything is vectorised over visits.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txrec.simulator import Shop, queries
from txrec.simulator.log import DAY_S
from txrec.simulator.preference import ANY, draw

NO_ITEM = -1
"""Filler of slates that are shorter than others, and `last` of users who have not engaged with anything."""


@dataclass(frozen=True)
class Behaviour:
    """Behaviour of the world's users.

    Attributes:
        bias: probability of examining position k (from 0) is (1 + k) ** -bias.
        ceiling: click probability of the best product for the visit once examined, 0 to 1.
        floor: click probability of any other product on sale once examined, 0 to 1.
        sharpness: exponent of a product's preference relative to the best one's; lower = more products attract.
        search_prob: share of visits that are searches.
        cart_prob: of a clicked product, to be put into the cart.
        purchase_prob: of a product in the cart, to be bought.
        boredom: factor on the click probability of a product for each time that it was shown to its user since they
            last clicked it; 1 = showings do not matter.
        delight: factor on a user's rate of visits after a slate with a click.
        disappointment: the same after a slate without one.
    """

    bias: float = 0.8
    ceiling: float = 0.5
    floor: float = 0.01
    sharpness: float = 0.5
    search_prob: float = 0.4
    cart_prob: float = 0.2
    purchase_prob: float = 0.5
    boredom: float = 1.0
    delight: float = 1.02
    disappointment: float = 0.98

    def examination(self, k: int) -> NDArray[np.float64]:
        """(k,) true probabilities of examining each position."""
        return np.asarray((1.0 + np.arange(k)) ** -self.bias)


@dataclass(frozen=True, eq=False)
class Visits:
    """B visits in time order.

    Attributes:
        user: (B,) user index.
        second: (B,) seconds since the start of the shop's log.
        concept: (B, 4) the search, `ANY` in all columns without one.
        last: (B,) product engaged with last, NO_ITEM = none.
    """

    user: NDArray[np.int64]
    second: NDArray[np.int64]
    concept: NDArray[np.int64]
    last: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def searched(self) -> NDArray[np.bool_]:
        """(B,) whether the visit is a search."""
        return np.asarray(self.concept[:, 0] != ANY)

    def take(self, rows: NDArray[np.int64] | slice) -> "Visits":
        """The visits of some rows."""
        return Visits(self.user[rows], self.second[rows], self.concept[rows], self.last[rows])


@dataclass(frozen=True, eq=False)
class Responses:
    """Reactions to B slates of K places; each (B, K) bool: a purchase implies a cart, a cart implies a click."""

    clicked: NDArray[np.bool_]
    carted: NDArray[np.bool_]
    bought: NDArray[np.bool_]


@dataclass(eq=False)
class World:
    """A shop that goes on living: its present tastes, its catalogue on sale and how often each user comes.

    Args:
        shop: generated; the world begins where its log ends.
        behaviour: of its users.
        seed: of everything drawn.
    """

    shop: Shop
    behaviour: Behaviour = field(default_factory=Behaviour)
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((self.shop.cfg.seed, 5, self.seed))
        self.second = int(self.shop.cfg.days * DAY_S)
        self.browse = self.shop.preference.browse.copy()  # (U, N)
        self.on_sale = np.ones(len(self.shop.catalogue), bool)
        actions = self.shop.actions
        self.rate = np.bincount(actions.user, minlength=self.shop.cfg.num_users).astype(np.float64)
        bored = self.behaviour.boredom != 1.0
        self.showings = np.zeros(self.browse.shape if bored else (0, 0), np.int16)  # since the last click
        self.last = np.full(self.shop.cfg.num_users, NO_ITEM)
        engaged = np.flatnonzero(actions.item >= 0)
        self.last[actions.user[engaged]] = actions.item[engaged]  # by time within a user: the last one stays

    def visits(self, num: int, days: float) -> Visits:
        """The next `num` visits, spread over `days` days from now on; users come in proportion to their rates."""
        user = self.rng.choice(len(self.rate), num, p=self.rate / self.rate.sum())
        second = np.sort(self.second + (self.rng.random(num) * days * DAY_S).astype(np.int64))
        self.second += int(days * DAY_S)
        concept = np.full((num, 4), ANY)
        searched = np.flatnonzero(self.rng.random(num) < self.behaviour.search_prob)
        for rows in np.array_split(searched, max(len(searched) // 512, 1)):
            intended = draw(self.browse[user[rows]] * self.on_sale, self.rng)
            concept[rows] = queries.concepts_of(intended, self.shop.catalogue, self.rng)
        return Visits(user, second, concept, self.last[user])

    def query_texts(self, visits: Visits) -> list[str | None]:
        """The search of each visit as its user types it; None for browsing."""
        chinese = self.shop.tastes.chinese[visits.user]
        concepts = zip(visits.concept.tolist(), chinese.tolist(), strict=True)
        return [
            queries.write(tuple(concept), script, self.shop.catalogue, self.rng) if concept[0] != ANY else None
            for concept, script in concepts
        ]

    def preference(self, visits: Visits) -> NDArray[np.float32]:
        """(B, N) true probability of each product for each visit; 0 for products not on sale."""
        weights = self.browse[visits.user] * self.on_sale
        weights *= np.where(visits.searched[:, None], self.shop.preference.match(visits.concept), np.float32(1))
        total = weights.sum(axis=1, keepdims=True)
        return np.asarray(weights / np.maximum(total, 1e-30), np.float32)

    def attraction(self, visits: Visits, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, K) click probability of products (B, K) once examined; 0 for NO_ITEM and for products not on sale."""
        preference = self.preference(visits)
        best = np.maximum(preference.max(axis=1, keepdims=True), 1e-30)
        relative = np.take_along_axis(preference, items.clip(0), axis=1) / best
        setting = self.behaviour
        chance = setting.floor + (setting.ceiling - setting.floor) * relative.astype(np.float64) ** setting.sharpness
        if self.showings.size:
            chance *= setting.boredom ** self.showings[visits.user[:, None], items.clip(0)]
        return np.where((items >= 0) & self.on_sale[items.clip(0)], chance, 0.0)

    def expected_clicks(self, visits: Visits, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, K) exact click probability at each place of slates (B, K)."""
        return self.attraction(visits, items) * self.behaviour.examination(items.shape[1])

    def respond(self, visits: Visits, items: NDArray[np.int64]) -> Responses:
        """Draws the events of users on slates (B, K), and keeps their last items and their satisfaction."""
        clicked = self.rng.random(items.shape) < self.expected_clicks(visits, items)
        carted = clicked & (self.rng.random(items.shape) < self.behaviour.cart_prob)
        bought = carted & (self.rng.random(items.shape) < self.behaviour.purchase_prob)
        any_click = clicked.any(axis=1)
        factor = np.where(any_click, self.behaviour.delight, self.behaviour.disappointment)
        np.multiply.at(self.rate, visits.user, factor)
        self.rate.clip(0.05, 200.0, out=self.rate)
        if self.showings.size:
            self._count_showings(visits, items, clicked)
        place = items.shape[1] - 1 - np.argmax(clicked[:, ::-1], axis=1)  # of the last click
        self.last[visits.user[any_click]] = items[any_click, place[any_click]]
        return Responses(clicked, carted, bought)

    def _count_showings(self, visits: Visits, items: NDArray[np.int64], clicked: NDArray[np.bool_]) -> None:
        """Counts the products of slates (B, K) as shown; a click begins the count again."""
        user = np.broadcast_to(visits.user[:, None], items.shape)
        np.add.at(self.showings, (user[items >= 0], items[items >= 0]), 1)
        self.showings[user[clicked], items[clicked]] = 0

    def drift_tastes(self, share: float, strength: float = 1.0) -> NDArray[np.int64]:
        """Moves the tastes of a share of the users towards those of others; returns the users.

        Args:
            share: of the users, 0 to 1.
            strength: 1 = their taste becomes that of the other user, 0 = nothing changes.
        """
        users = self.rng.choice(len(self.rate), round(share * len(self.rate)), replace=False)
        others = self.rng.permutation(len(self.rate))[: len(users)]
        target = self.shop.preference.browse[others]
        self.browse[users] = self.browse[users] ** (1 - strength) * target**strength
        return users

    def retire(self, items: NDArray[np.int64]) -> None:
        """Takes products out of the shop: no user clicks or searches for them."""
        self.on_sale[items] = False

    def launch(self, items: NDArray[np.int64], appeal: float = 1.0) -> None:
        """Puts retired products on sale (again), their appeal to all users multiplied by a factor."""
        self.on_sale[items] = True
        self.browse[:, items] *= np.float32(appeal)
