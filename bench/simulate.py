"""Visits per minute of the simulated shop's users at a running server, over HTTP.

    python bench/simulate.py [configs/demo.toml] [dotted.key=value ...] [--visits 4000] [--threads 16] [--small]

Generates the shop, trains a bundle of the configuration's architecture for a few steps (the quality does not matter
here, the cost of an answer does), serves it as `txrec serve` does, and sends what `txrec simulate --url` sends:
requests for slates; searches, clicks, carts and purchases, reported back. `server_share` is the part of the time in
which the simulator waited for the server. Prints one JSON object as its last line.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # as in a replica; NumPy reads it when imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has a serve.py too

from pipelines.distributed import cluster

cluster.set_environment()  # as `txrec serve` does, before anything imports Ray

from ray import serve as ray_serve  # noqa: E402

from bench.loop import in_process, promote  # noqa: E402
from pipelines import simulate  # noqa: E402
from serve import app  # noqa: E402
from txrec import simulator  # noqa: E402
from txrec.client import Client, Json  # noqa: E402
from txrec.config import Config  # noqa: E402
from txrec.config_loader import load  # noqa: E402
from txrec.simulator import Shop  # noqa: E402
from txrec.simulator.drive import HttpShop, Shown, Simulation, Tally, Visitor  # noqa: E402
from txrec.simulator.world import World  # noqa: E402

SHORT = "train.max_epochs=1 pretrain.max_steps=20 ranker.max_epochs=1 ranker.max_examples=1000 ranker.mode=on"
SMALL = "data.shop.num_items=200 data.shop.num_users=300 data.shop.num_events=8000 model.dim=16 text.dim=16"


def main() -> None:
    """Trains, serves, visits, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--visits", type=int, default=4_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--small", action="store_true", help="a tiny shop and model, 400 visits")
    args = parser.parse_args()
    settings = [*SHORT.split(), *(SMALL.split() if args.small else []), *args.overrides]
    visits = 400 if args.small else args.visits
    with tempfile.TemporaryDirectory() as name:
        config = trained(load(args.config, [*settings, f"runs_root={name}/runs", f"data.root={name}/raw"]))
        with cluster.connect():
            url = app.start(config.registry_dir, config.serve.model_copy(update={"port": port(), "console": False}))
            try:
                figures = visited(config, url, visits, args.threads)
            finally:
                ray_serve.shutdown()
    for key, value in figures.items():
        print(f"{key:32} {value:>12,.2f}")
    print(json.dumps(figures))


def trained(config: Config) -> Config:
    """Writes the shop's files, prepares them, and trains and registers a bundle."""
    if config.data.shop is None:
        raise SystemExit("the configuration has no generated shop: set data.shop")
    simulator.write(config.data.shop, Path(config.data.root))
    files = config.model_copy(update={"data": config.data.model_copy(update={"shop": None})})
    in_process(files, "prepare")
    in_process(files, "train")
    promote(files)
    return config


def port() -> int:
    """A free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class TimedShop(HttpShop):
    """A running server, with the time that it took to answer."""

    waited_s = 0.0

    def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
        """Slates as the server answers them."""
        started = time.perf_counter()
        shown = super().slates(visitors, top_k)
        self.waited_s += time.perf_counter() - started
        return shown

    def report(self, events: Sequence[Json]) -> list[str]:
        """Logs events."""
        started = time.perf_counter()
        errors = super().report(events)
        self.waited_s += time.perf_counter() - started
        return errors


def visited(config: Config, url: str, visits: int, threads: int) -> dict[str, float]:
    """Visits per minute, failures, and where the time went."""
    assert config.data.shop is not None
    world = World(Shop.generate(config.data.shop))
    with Client(url, timeout_s=60) as client:
        shop = TimedShop(client, threads)
        simulation = Simulation(world, shop, batch=simulate.BATCH)
        simulation.run(min(visits, simulate.BATCH), 0.1)  # connections and first requests
        shop.waited_s = 0.0
        tally: Tally = simulation.run(visits, 1.0)
        shop.close()
    return {
        "visits": tally.visits,
        "threads": threads,
        "seconds": tally.seconds,
        "visits_per_minute": 60 * tally.visits / tally.seconds,
        "users": tally.users,
        "failed": tally.failed,
        "events": tally.searches + tally.clicks + tally.carts + tally.purchases,
        "server_share": shop.waited_s / tally.seconds,
    }


if __name__ == "__main__":
    main()
