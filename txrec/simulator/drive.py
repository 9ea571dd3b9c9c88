"""Live traffic: users of the world visit a shop over HTTP or in process, and what they do there is reported back.

A shop is anything that answers visits with slates and takes events (`Shopfront`). `HttpShop` is a running server; the
world then behaves as its customers do: they search or browse, look at the first places most, click, put into the cart
and buy, and come back sooner when they found something. The expected clicks of every slate are known, and so is the
best that any slate could have earned: their difference is the regret.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from txrec.client import ApiError, Client, Json
from txrec.simulator.files import user_id
from txrec.simulator.world import NO_ITEM, Responses, Visits, World

MAX_EVENTS = 500
"""Events in one report."""
MAX_ERRORS = 20
"""Errors that are kept as text."""


@dataclass(frozen=True)
class Visitor:
    """A visit as a shop sees it.

    Attributes:
        user_id: raw id.
        query: the search as typed; None = browsing.
        second: time of the visit, seconds since the start of the shop's log.
    """

    user_id: str
    query: str | None
    second: int


@dataclass(frozen=True)
class Shown:
    """A slate.

    Attributes:
        item_ids: raw ids, best first.
        request_id: that the events of this slate carry.
        error: why there is no slate; empty = there is one.
    """

    item_ids: tuple[str, ...] = ()
    request_id: str | None = None
    error: str = ""


class Shopfront(Protocol):
    """A shop that the world's users can visit."""

    def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
        """A slate for each visit, in their order; a failure is a `Shown` with its error."""
        ...

    def report(self, events: Sequence[Json]) -> list[str]:
        """Takes events in the shape of `POST /v1/events`; returns errors."""
        ...


@dataclass
class Tally:
    """Totals of a simulation.

    Attributes:
        visits: of users, each asking for one slate.
        users: distinct users.
        searches: visits with a query.
        failed: requests that were not answered.
        clicks: on products.
        carts: additions to the cart.
        purchases: of products.
        revenue: of purchases, in the catalogue's currency.
        expected: clicks that were to be expected of the slates.
        best: clicks that were to be expected of the best slates.
        seconds: of wall-clock time.
        errors: the first ones, as text.
    """

    visits: int = 0
    users: int = 0
    searches: int = 0
    failed: int = 0
    clicks: int = 0
    carts: int = 0
    purchases: int = 0
    revenue: float = 0.0
    expected: float = 0.0
    best: float = 0.0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def satisfaction(self) -> float:
        """Expected clicks as a share of the best slates', 0 to 1."""
        return self.expected / self.best if self.best else 0.0

    @property
    def regret(self) -> float:
        """Expected clicks that the slates fell short of the best ones."""
        return self.best - self.expected

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "satisfaction": self.satisfaction, "regret": self.regret}

    def __str__(self) -> str:
        """`5,000 visits of 812 users ...`."""
        rate = 60 * self.visits / self.seconds if self.seconds else 0.0
        return (
            f"{self.visits:,} visits of {self.users:,} users in {self.seconds:,.0f} s ({rate:,.0f} per minute):"
            f" {self.clicks:,} clicks, {self.purchases:,} purchases, revenue {self.revenue:,.2f};"
            f" {self.satisfaction:.1%} of the clicks of the best slates; {self.failed:,} requests failed"
        )


class Simulation:
    """Visits of a world's users to a shop, batch by batch.

    Args:
        world: whose users; its tastes and catalogue may be changed between calls of `run`.
        shop: that they visit.
        top_k: products per slate.
        batch: visits at the same time; users see what they did in earlier batches reflected.
        clock: seconds, to measure the time taken.
    """

    def __init__(
        self,
        world: World,
        shop: Shopfront,
        top_k: int = 10,
        batch: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world
        self._shop = shop
        self._top_k, self._batch, self._clock = top_k, batch, clock
        self._ids = np.array([product.item_id for product in world.shop.catalogue.products], dtype=object)
        self._prices = np.array([product.price for product in world.shop.catalogue.products])
        self._number = {item: number for number, item in enumerate(self._ids.tolist())}
        self._seen: set[int] = set()

    def run(self, visits: int, days: float, tally: Tally | None = None) -> Tally:
        """The next visits.

        Args:
            visits: how many.
            days: of the world's time that they are spread over.
            tally: to be added to; None = a new one.
        """
        total, started = tally or Tally(), self._clock()
        left = visits
        while left > 0:
            size = min(self._batch, left)
            self._one_batch(self.world.visits(size, days * size / visits), total)
            left -= size
        total.users = len(self._seen)
        total.seconds += self._clock() - started
        return total

    def _one_batch(self, visits: Visits, total: Tally) -> None:
        texts = self.world.query_texts(visits)
        users = [user_id(user) for user in visits.user.tolist()]
        visitors = [Visitor(*row) for row in zip(users, texts, visits.second.tolist(), strict=True)]
        shown = self._shop.slates(visitors, self._top_k)
        items = np.full((len(visits), self._top_k), NO_ITEM)
        for row, slate in enumerate(shown):
            numbers = [self._number.get(item, NO_ITEM) for item in slate.item_ids[: self._top_k]]
            items[row, : len(numbers)] = numbers
        expected, best = self.world.expected_clicks(visits, items).sum(), self._best(visits)
        responses = self.world.respond(visits, items)
        events = self._events(visitors, shown, items, responses)
        errors = [one.error for one in shown if one.error]
        total.failed += len(errors)
        for start in range(0, len(events), MAX_EVENTS):
            refused = self._shop.report(events[start : start + MAX_EVENTS])
            total.failed += len(refused)
            errors += refused
        total.errors += errors[: MAX_ERRORS - len(total.errors)]
        self._seen.update(visits.user.tolist())
        total.visits += len(visits)
        total.searches += int(visits.searched.sum())
        total.clicks += int(responses.clicked.sum())
        total.carts += int(responses.carted.sum())
        total.purchases += int(responses.bought.sum())
        bought = items[responses.bought]
        total.revenue += float(self._prices[bought].sum())
        total.expected += float(expected)
        total.best += best

    def _best(self, visits: Visits) -> float:
        """Expected clicks of the best possible slates."""
        everything = np.broadcast_to(np.arange(len(self._ids)), (len(visits), len(self._ids)))
        attraction = self.world.attraction(visits, everything)
        depth = min(self._top_k, attraction.shape[1])
        top = -np.sort(-np.partition(attraction, -depth, axis=1)[:, -depth:], axis=1)
        return float((top * self.world.behaviour.examination(depth)).sum())

    def _events(
        self, visitors: Sequence[Visitor], shown: Sequence[Shown], items: NDArray[np.int64], responses: Responses
    ) -> list[Json]:
        """Searches, clicks, carts and purchases in the order of a visit; the till knows no request."""
        events: list[Json] = []
        for row, visitor in enumerate(visitors):
            if shown[row].error:
                continue
            base: Json = {"user_id": visitor.user_id, "request_id": shown[row].request_id}
            base |= {} if visitor.query is None else {"query": visitor.query}
            if visitor.query is not None:
                events.append({**base, "event": "search"})
            for place in np.flatnonzero(responses.clicked[row]).tolist():
                number = int(items[row, place])
                one = {**base, "item_id": str(self._ids[number])}
                events.append({**one, "event": "click"})
                if responses.carted[row, place]:
                    events.append({**one, "event": "cart"})
                if responses.bought[row, place]:
                    paid = {"event": "purchase", "value": float(self._prices[number])}
                    events.append({name: value for name, value in {**one, **paid}.items() if name != "request_id"})
        return events


class HttpShop:
    """A running server that several threads ask at once.

    Args:
        client: of the server; its connections are shared by the threads.
        threads: requests at the same time.
    """

    def __init__(self, client: Client, threads: int = 16) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="visitor")

    def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
        """A slate for each visit; what the server refuses or does not answer is a failure."""

        def visit(visitor: Visitor) -> Shown:
            about = {"user_id": visitor.user_id, "top_k": top_k}
            try:
                reply = (
                    self._client.recommend(**about)
                    if visitor.query is None
                    else self._client.search(visitor.query, **about)
                )
            except ApiError as error:
                return Shown(error=str(error))
            return Shown(tuple(item["item_id"] for item in reply["items"]), reply["request_id"])

        return list(self._pool.map(visit, visitors))

    def report(self, events: Sequence[Json]) -> list[str]:
        """Logs events; the server's clock gives their time."""
        try:
            self._client.log(*events)
        except ApiError as error:
            return [str(error)]
        return []

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
