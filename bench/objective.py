"""True clicks, purchases and revenue per slate by objective, on the generated shop.

    python bench/objective.py [CONFIG] [--visits 2000] [--small]

Makes one bundle as `bench/search.py` does, and answers visits of the live world, whose users click and buy with known
probabilities. Every visit is answered by every objective; figures are expectations, so that nothing is drawn but the
visits. Intervals of the differences to the order by relevance are 95 % bootstrap over users. Prints a table, and one
JSON object as its last line.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.search import SMALL, made, prepared
from txrec.config import Config, ObjectiveConfig
from txrec.config_loader import load
from txrec.errors import ConfigError
from txrec.evals import bootstrap
from txrec.recommender.recommender import Recommender, Request
from txrec.simulator import Shop
from txrec.simulator.files import user_id
from txrec.simulator.world import NO_ITEM, Visits, World
from txrec.simulator.world_log import START_US

PLACES, RESAMPLES, BATCH = 10, 1_000, 128
OBJECTIVES = {
    "relevance": ObjectiveConfig(),
    "purchases": ObjectiveConfig(purchase=1),
    "mixed": ObjectiveConfig(click=0.1, purchase=1, revenue=0.02),
    "revenue": ObjectiveConfig(revenue=1),
}
FIGURES = ("clicks", "purchases", "revenue")


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--visits", type=int, default=2_000)
    parser.add_argument("--small", action="store_true", help="a tiny generated shop, a few steps: a quick look")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, *(SMALL if arguments.small else ()), "ranker.mode=on"]
    print(json.dumps(run(load(arguments.config, overrides), arguments.visits)))


def run(config: Config, num_visits: int) -> dict[str, object]:
    """Figures of every objective."""
    if config.data.shop is None:
        raise ConfigError("data.shop: not set; expected the configuration of a generated shop")
    recommender = Recommender.open(made(config, prepared(config)))
    ranker = recommender.ranker
    kinds = ["click", *(ranker.outcomes.kinds if ranker is not None and ranker.outcomes is not None else ())]
    print(f"estimated: {', '.join(kinds)}")
    world = World(Shop.generate(config.data.shop))
    world.on_sale = np.array([product.in_stock for product in world.shop.catalogue.products])
    visits = world.visits(num_visits, 7.0)
    queries = requests(world, visits)
    values = {
        name: truth(world, visits, slates(recommender, world, queries, objective))
        for name, objective in OBJECTIVES.items()
    }
    figures_by_name: dict[str, object] = {"config": config.name, "visits": num_visits, "estimated": kinds}
    print(f"{'objective':>10}" + "".join(f"{name:>12}{'change':>27}" for name in FIGURES))
    for name, own in values.items():
        line, figures = f"{name:>10}", {}
        for figure in FIGURES:
            base, mean = values["relevance"][figure], float(own[figure].mean())
            gain = bootstrap.paired(own[figure], base, visits.user, RESAMPLES).difference
            low, mid, high = (100 * one / base.mean() for one in (gain.low, mean - base.mean(), gain.high))
            line += f"{mean:>12.4f}" + f"{mid:+.1f} % ({low:+.1f} to {high:+.1f})".rjust(27)
            figures[figure] = {"mean": mean, "change_percent": mid, "low": low, "high": high}
        figures_by_name[name] = figures
        print(line)
    return figures_by_name


def requests(world: World, visits: Visits) -> list[Request]:
    """The visits as requests to a server; histories are those of the bundle."""
    now = (START_US + visits.second * 1_000_000).tolist()
    texts = world.query_texts(visits)
    return [
        Request(user_id=user_id(user), query=text, top_k=PLACES, now_us=ts)
        for user, text, ts in zip(visits.user.tolist(), texts, now, strict=True)
    ]


def slates(
    recommender: Recommender, world: World, queries: list[Request], objective: ObjectiveConfig
) -> NDArray[np.int64]:
    """(B, PLACES) products of the world, NO_ITEM where a slate is short."""
    place = {product.item_id: number for number, product in enumerate(world.shop.catalogue.products)}
    item_rows = np.full((len(queries), PLACES), NO_ITEM)
    for start in range(0, len(queries), BATCH):
        part = [replace(one, objective=objective) for one in queries[start : start + BATCH]]
        for row, slate in enumerate(recommender.recommend(part), start=start):
            ids = [place[item.item_id] for item in slate.items]
            item_rows[row, : len(ids)] = ids
    return item_rows


def truth(world: World, visits: Visits, items: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Figure = (B,) expectation per slate."""
    prices = np.array([product.price for product in world.shop.catalogue.products])
    clicks = np.concatenate(
        [
            world.expected_clicks(visits.take(slice(start, start + 512)), items[start : start + 512])
            for start in range(0, len(visits), 512)
        ]
    )
    bought = clicks * world.behaviour.cart_prob * world.behaviour.purchase_prob
    revenue = (bought * prices[items.clip(0)]).sum(axis=1)
    return {"clicks": clicks.sum(axis=1), "purchases": bought.sum(axis=1), "revenue": revenue}


if __name__ == "__main__":
    main()
