"""Fatigue on the live world: clicks per slate by the number of showings after which a product sinks.

    python bench/fatigue.py [--days 28] [--visits 1000] [--boredom 0.7]

Users click a product less each time that it was shown to them without a click. One fixed ranking serves all worlds; the
library's own `fatigued_items` and `sink` change its order. Visits of a day see the showings of the days before. Prints
a table, and one JSON object as its last line.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.model.history_features import History
from txrec.recommender.fatigue import fatigued_items, sink
from txrec.recommender.ranking import Ranked
from txrec.schema import EventKind
from txrec.simulator import Shop
from txrec.simulator.world import Behaviour, Visits, World

SETTINGS = (0, 1, 2, 3, 5, 10)
POOL, PLACES = 100, 10
ERROR = 1.0
"""Standard deviation of the ranking's error on the log preference of a user and a product."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--visits", type=int, default=1_000, help="per day")
    parser.add_argument("--boredom", type=float, default=0.7)
    arguments = parser.parse_args()
    shop = Shop.generate(ShopConfig(num_items=480, num_users=500, num_events=20_000))
    figures = {
        str(setting): clicks_per_slate(shop, setting, arguments.boredom, arguments.days, arguments.visits)
        for setting in SETTINGS
    }
    print(f"{'max_showings':>12} {'clicks per slate':>17} {'change':>8}")
    for name, value in figures.items():
        print(f"{name:>12} {value:>17.4f} {value / figures['0'] - 1:>8.1%}")
    print(json.dumps({"boredom": arguments.boredom, "clicks_per_slate": figures}))


def clicks_per_slate(shop: Shop, max_showings: int, boredom: float, days: int, num_visits: int) -> float:
    """Mean true clicks per slate over all days; `max_showings` 0 = no product sinks."""
    world = World(shop, Behaviour(boredom=boredom, delight=1.0, disappointment=1.0))
    error = ERROR * np.random.default_rng(7).standard_normal(world.browse.shape)
    histories: dict[int, list[tuple[int, bool]]] = {}
    clicks = []
    for _ in range(days):
        visits = world.visits(num_visits, 1.0)
        items = slates(world, visits, error, histories, max_showings)
        clicks.append(world.expected_clicks(visits, items).sum(axis=1).mean())
        clicked = world.respond(visits, items).clicked
        for user, shown, chosen in zip(visits.user.tolist(), items.tolist(), clicked.tolist(), strict=True):
            own = histories.setdefault(user, [])
            own += [(item, False) for item in shown] + [
                (item, True) for item, one in zip(shown, chosen, strict=True) if one
            ]
    return float(np.mean(clicks))


def slates(
    world: World,
    visits: Visits,
    error: NDArray[np.float64],
    histories: dict[int, list[tuple[int, bool]]],
    max_showings: int,
) -> NDArray[np.int64]:
    """(B, PLACES) products: the best by a noisy preference, those that were shown too often behind the others."""
    scores = np.log(world.preference(visits) + 1e-9) + error[visits.user]
    best = np.argsort(-scores, axis=1)[:, :POOL]
    if not max_showings:
        return best[:, :PLACES]
    shown_items = np.empty((len(visits), PLACES), np.int64)
    for row, user in enumerate(visits.user.tolist()):
        fatigued = fatigued_items(_history(histories.get(user, [])), max_showings)
        ranked = Ranked(np.arange(POOL), np.zeros(POOL, np.float32), by_ranker=False)
        order = sink(ranked, (best[row] + 1).astype(np.int32), fatigued).order
        shown_items[row] = best[row][order[:PLACES]]
    return shown_items


def _history(events: list[tuple[int, bool]]) -> History:
    """Showings and clicks of products as a history; dense indices begin at 1."""
    size = len(events)
    items = np.array([item + 1 for item, _ in events], np.int32)
    kinds = np.array([EventKind.CLICK if one else EventKind.IMPRESSION for _, one in events], np.int8)
    return History(items, np.zeros(size, np.int32), kinds, np.zeros(size, np.int64))


if __name__ == "__main__":
    main()
