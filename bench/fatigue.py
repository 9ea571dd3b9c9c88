"""Fatigue on the live world: clicks per slate by the number of showings after which a product sinks.

    python bench/fatigue.py [--days 28] [--visits 1000] [--boredom 0.7]

Users click a product less each time that it was shown to them without a click. One fixed ranking serves all worlds; the
library's own `fatigued_items` and `sink` change its order. `learned` multiplies the ranking's click probabilities by
the factors that the library learns from the slates and clicks of another world without fatigue, whose position bias it
estimates too. Visits of a day see the showings of the days before. Intervals of the change are 95 % over days. Prints a
table, and one JSON object as its last line.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.loop.attribution import attribution
from txrec.loop.off_policy import position_bias
from txrec.loop.off_policy.fatigue_effect import fatigue_factors
from txrec.model.history_features import History
from txrec.recommender.ranking.fatigue import fatigued_items, sink
from txrec.recommender.ranking.ranking import Ranked
from txrec.recommender.ranking.showings import fatigue_factor, num_showings
from txrec.schema import EventKind
from txrec.simulator import Shop, world_log
from txrec.simulator.world import Behaviour, Responses, Visits, World

SETTINGS = (0, 1, 2, 3, 5, 10)
POOL, PLACES = 100, 10
ERROR = 1.0
"""Standard deviation of the ranking's error on the log preference of a user and a product."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--visits", type=int, default=1_000, help="per day")
    parser.add_argument("--boredom", type=float, default=0.7)
    parser.add_argument("--items", type=int, default=480)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--small", action="store_true", help="two days of a tiny shop")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.days, arguments.visits, arguments.items, arguments.users = 2, 60, 120, 40
    shop = Shop.generate(ShopConfig(num_items=arguments.items, num_users=arguments.users, num_events=20_000))
    trial = Trial(shop, arguments.boredom, arguments.days, arguments.visits)
    factors = trial.learned()
    print("factors after 0, 1, 2 ... showings in vain: " + " ".join(f"{factor:.2f}" for factor in factors))
    clicks = {str(setting): trial.clicks(setting) for setting in SETTINGS} | {"learned": trial.clicks(0, factors)}
    print(f"{'max_showings':>12} {'clicks per slate':>17} {'change':>8}   interval")
    figures = {}
    for name, by_day in clicks.items():
        change = by_day / clicks["0"].mean() - clicks["0"] / clicks["0"].mean()
        error = 1.96 * change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.nan
        low, high = change.mean() - error, change.mean() + error
        figures[name] = {"clicks_per_slate": by_day.mean(), "change": change.mean(), "low": low, "high": high}
        print(f"{name:>12} {by_day.mean():>17.4f} {change.mean():>8.1%}   {low:+.1%} to {high:+.1%}")
    print(json.dumps({"boredom": arguments.boredom, "factors": factors, "figures": figures}))


@dataclass(frozen=True)
class Trial:
    """Worlds of one shop that differ in the treatment of repeated products alone."""

    shop: Shop
    boredom: float
    days: int
    num_visits: int

    def clicks(self, max_showings: int, factors: Sequence[float] = ()) -> NDArray[np.float64]:
        """(days,) mean true clicks per slate; `max_showings` 0 = no product sinks."""
        return np.array([day.clicks for day in self.run(max_showings, factors)])

    def learned(self) -> tuple[float, ...]:
        """Factors that the library learns from a log without fatigue, by another seed."""
        shown, happened, first = [], [], 0
        for day in self.run(0, (), seed=1):
            slates_of_day = world_log.slates(day.world, day.visits, day.items, first=first)
            shown.append(slates_of_day.append_column("scores", pa.array(day.scores.tolist())))
            happened.append(world_log.events(day.world, day.visits, day.items, day.responses, first))
            first += len(day.visits)
        slates_ = attribution.slates_of(pl.DataFrame(pl.from_arrow(pa.concat_tables(shown))))
        events = attribution.events_of(pl.DataFrame(pl.from_arrow(pa.concat_tables(happened))))
        credits_ = attribution.credit(slates_, events, attribution.Windows())
        bias = position_bias.estimate(slates_, credits_)
        if bias is None:
            raise SystemExit("too few slates to learn from; raise --days or --visits")
        print(bias)
        return fatigue_factors(slates_, credits_, bias)

    def run(self, max_showings: int, factors: Sequence[float], seed: int = 0) -> Iterator["Day"]:
        """Lives the days of one world."""
        world = World(self.shop, Behaviour(boredom=self.boredom, delight=1.0, disappointment=1.0), seed)
        error = ERROR * np.random.default_rng(7).standard_normal(world.browse.shape)
        histories: dict[int, list[tuple[int, bool]]] = {}
        for _ in range(self.days):
            visits = world.visits(self.num_visits, 1.0)
            items, scores = slates(world, visits, error, histories, (max_showings, factors))
            clicks = float(world.expected_clicks(visits, items).sum(axis=1).mean())
            responses = world.respond(visits, items)
            for user, shown, clicked in zip(
                visits.user.tolist(), items.tolist(), responses.clicked.tolist(), strict=True
            ):
                own = histories.setdefault(user, [])
                own += [(item, False) for item in shown]
                own += [(item, True) for item, one in zip(shown, clicked, strict=True) if one]
            yield Day(world, visits, items, scores, responses, clicks)


class Day(NamedTuple):
    """A day of a world: visits, slates and scores (B, PLACES), the responses, and the mean true clicks per slate."""

    world: World
    visits: Visits
    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    responses: Responses
    clicks: float


def slates(
    world: World,
    visits: Visits,
    error: NDArray[np.float64],
    histories: dict[int, list[tuple[int, bool]]],
    treatment: tuple[int, Sequence[float]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(B, PLACES) products and click probabilities: the best by a noisy preference, with shown products lowered.

    Args:
        world: of the visits.
        visits: B visits.
        error: (U, N) of the ranking, log.
        histories: user = products shown, and clicked.
        treatment: `max_showings`, 0 = none sink, and factors after 0, 1, 2 ... showings, empty = none.
    """
    max_showings, factors = treatment
    scores = np.log(world.preference(visits) + 1e-9) + error[visits.user]
    best = np.argsort(-scores, axis=1)[:, :POOL]
    relative = np.exp(np.take_along_axis(scores, best, axis=1) - np.take_along_axis(scores, best[:, :1], axis=1))
    setting = world.behaviour
    chance = setting.floor + (setting.ceiling - setting.floor) * relative**setting.sharpness
    if not max_showings and not factors:
        return best[:, :PLACES], chance[:, :PLACES]
    shown_items, places = (np.empty((len(visits), PLACES), np.int64) for _ in range(2))
    for row, user in enumerate(visits.user.tolist()):
        history, candidates = _history(histories.get(user, [])), (best[row] + 1).astype(np.int32)
        if factors:
            lowered = chance[row] * fatigue_factor(num_showings(history), candidates, factors)
            order = np.argsort(-lowered, kind="stable")
        else:
            ranked = Ranked(np.arange(POOL), np.zeros(POOL, np.float32), by_ranker=False)
            order = sink(ranked, candidates, fatigued_items(history, max_showings)).order
        places[row] = order[:PLACES]
        shown_items[row] = best[row][places[row]]
    return shown_items, np.take_along_axis(chance, places, axis=1)


def _history(events: list[tuple[int, bool]]) -> History:
    """Showings and clicks of products as a history; dense indices begin at 1."""
    size = len(events)
    items = np.array([item + 1 for item, _ in events], np.int32)
    kinds = np.array([EventKind.CLICK if one else EventKind.IMPRESSION for _, one in events], np.int8)
    return History(items, np.zeros(size, np.int32), kinds, np.zeros(size, np.int64))


if __name__ == "__main__":
    main()
