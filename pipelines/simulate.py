"""`txrec simulate`: users of the generated shop visit a running server, or the production bundle in this process."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.runs.bundles import bundle_folder
from txrec.client import Client, Json
from txrec.config import Config
from txrec.errors import ConfigError
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.recommender.retrieval.request_history import resolve_history
from txrec.recommender.types import Event, Request, Slate
from txrec.simulator import Shop
from txrec.simulator.drive import HttpShop, Shopfront, Shown, Simulation, Tally, Visitor
from txrec.simulator.world import World
from txrec.simulator.world_log import ANSWER_US, START_US

BATCH = 256


class Recommends(Protocol):
    """The part of `Recommender` that a simulated shop uses."""

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Slates for a batch of requests."""
        ...

    def history(self, user_id: str) -> tuple[Event, ...]:
        """Stored events of a user."""
        ...


@dataclass(frozen=True)
class Plan:
    """The visits of a simulation, and a change of the world during it.

    Attributes:
        visits: in all.
        days: of the world's time.
        top_k: products per slate.
        threads: requests at the same time.
        drift_after: visits before the change; 0 = at the beginning.
        drift_tastes: share of the users whose taste changes, 0 to 1.
        new_products: share of the products that are not wanted before the change, 0 to 1.
        seed: of everything drawn.
    """

    visits: int = 10_000
    days: float = 7.0
    top_k: int = 10
    threads: int = 16
    drift_after: int = 0
    drift_tastes: float = 0.0
    new_products: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class SimulationSummary:
    """Totals of a simulation, before and after a change of the world."""

    before: Tally | None
    after: Tally

    def headline(self) -> str:
        """One line."""
        return str(self.after)

    def render(self) -> str:
        """Before and after the change, and the first errors."""
        lines = [] if self.before is None else [f"before the change: {self.before}"]
        lines.append(str(self.after) if self.before is None else f"after the change:  {self.after}")
        errors = [*(self.before.errors if self.before else ()), *self.after.errors]
        return "\n".join([*lines, *(f"failed: {error}" for error in errors[:5])])


def run(config: Config, plan: Plan, url: str = "", key: str = "", progress: Progress = silent) -> SimulationSummary:
    """Lets the users of the configuration's generated shop visit.

    Args:
        config: of the run; `data.shop` describes the world.
        plan: visits and changes.
        url: of a server; empty = the production bundle answers in this process.
        key: API key of the server.
        progress: told how many visits are done.

    Raises:
        ConfigError: the configuration has no generated shop, whose users' tastes are known.
        BundleError: no URL was named and no bundle is in production.
    """
    if config.data.shop is None:
        raise ConfigError(
            "txrec simulate: data.shop is not set; only the generated shop has users whose taste is known"
        )
    world = World(Shop.generate(config.data.shop), seed=plan.seed)
    fresh = world.rng.choice(len(world.on_sale), math.floor(plan.new_products * len(world.on_sale)), replace=False)
    world.retire(fresh)
    if not url:
        return _run(world, plan, LocalShop(Recommender.open(bundle_folder(config, "production"))), fresh, progress)
    with Client(url, key=key) as client:
        shop = HttpShop(client, plan.threads)
        try:
            return _run(world, plan, shop, fresh, progress)
        finally:
            shop.close()


def _run(world: World, plan: Plan, shop: Shopfront, fresh: NDArray[np.int64], progress: Progress) -> SimulationSummary:
    simulation = Simulation(world, shop, plan.top_k, BATCH)
    changes = bool(plan.drift_tastes or len(fresh))
    first = min(plan.drift_after, plan.visits) if changes else 0
    before = Tally() if first else None
    if before is not None:
        _visits(simulation, before, first, plan, progress)
    if changes:
        world.drift_tastes(plan.drift_tastes)
        world.launch(fresh, appeal=3.0)
    after = Tally()
    _visits(simulation, after, plan.visits - first, plan, progress)
    return SimulationSummary(before, after)


def _visits(simulation: Simulation, tally: Tally, num: int, plan: Plan, progress: Progress) -> None:
    done = 0
    while done < num:
        size = min(4 * BATCH, num - done)
        simulation.run(size, plan.days * size / plan.visits, tally)
        done += size
        progress("visits", done, num)


class LocalShop:
    """A recommender in this process that remembers what users did since its log.

    Args:
        recommender: that answers.
        start_us: time of the world's second 0, microseconds since 1970 UTC.
    """

    def __init__(self, recommender: Recommends, start_us: int = START_US) -> None:
        self.recommender = recommender
        self._start_us = start_us
        self._live: dict[str, list[Event]] = {}
        self._next_us: dict[str, int] = {}
        self._requests = 0
        self.answered: list[Slate] = []
        """The latest batch of slates, as the recommender answered them."""

    def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
        """Ranks for all visits in one batch."""
        for visitor in visitors:
            self._next_us[visitor.user_id] = self._start_us + visitor.second * 1_000_000
        requests = [self._request(visitor, top_k) for visitor in visitors]
        slates = self.answered = self.recommender.recommend(requests)
        first, self._requests = self._requests, self._requests + len(visitors)
        return [
            Shown(tuple(item.item_id for item in slate.items), f"r{first + number}")
            for number, slate in enumerate(slates)
        ]

    def report(self, events: Sequence[Json]) -> list[str]:
        """Keeps events for the next answers."""
        self.keep(events)
        return []

    def keep(self, events: Sequence[Json]) -> list[tuple[str, Event]]:
        """Events with their users, some seconds after the visit and after each other; also in the next answers."""
        kept = []
        for fields in events:
            user = fields["user_id"]
            ts = self._next_us[user]
            self._next_us[user] = ts + ANSWER_US
            event = Event(fields["event"], fields.get("item_id"), fields.get("query"), ts, fields.get("value"))
            self._live.setdefault(user, []).append(event)
            kept.append((user, event))
        return kept

    def _request(self, visitor: Visitor, top_k: int) -> Request:
        now_us = self._start_us + visitor.second * 1_000_000
        request = Request(visitor.user_id, query=visitor.query, top_k=top_k, now_us=now_us)
        live = self._live.get(visitor.user_id)
        if not live:
            return request
        return replace(request, events=resolve_history(self.recommender.history(visitor.user_id), live, ()))
