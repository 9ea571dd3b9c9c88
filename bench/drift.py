"""Data checks on the live world: false alarms on quiet days, and the delay until injected faults are found.

    python bench/drift.py [--quiet 200] [--visits 1500] [--users 3000] [--items 600]

Every day is checked against the four weeks before it, as a preparation of that morning would be. Faults, each put into
copies of several quiet days:

- `source missing`: purchases are gone;          - `prices in cents`: values and prices a hundred times as large;
- `stuck clock`: a third of the events at one time;  - `bot`: one user adds a tenth of all events;
- `no titles`: a feed without titles;            - `new category`: a tenth of the products is new and wanted at once;
- `taste drift`: 30 % of the users like something else.

Prints one JSON object as its last line.
"""

import argparse
import copy
import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pyarrow as pa

from txrec.config import ShopConfig
from txrec.loop.checks import LAYOUT, REFERENCE_DAYS, days_of
from txrec.loop.drift import Days, Reference
from txrec.simulator import Shop, world_log
from txrec.simulator.world import World

K = 10
MAX_DELAY = 3
STARTS = 8
WEEKDAY = np.array([1.0, 0.95, 0.95, 1.0, 1.1, 1.3, 1.2])
"""Traffic by day of the week."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("quiet", 200), ("visits", 1_500), ("users", 3_000), ("items", 600)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    shop = Shop.generate(
        ShopConfig(num_items=arguments.items, num_users=arguments.users, num_events=15 * arguments.users)
    )
    world = World(shop)
    new = np.random.default_rng(1).choice(arguments.items, arguments.items // 10, replace=False)
    world.retire(new)
    items = frame(world_log.catalogue(world))
    quiet = pl.concat([live(world, arguments.visits, day) for day in range(REFERENCE_DAYS + arguments.quiet + 14)])
    days = days_of(quiet, items).take(slice(14, None))  # the first two weeks still meet their users
    alarms = [
        Reference(days.take(slice(day - REFERENCE_DAYS, day)), LAYOUT).findings(days.totals[day])
        for day in range(REFERENCE_DAYS, REFERENCE_DAYS + arguments.quiet)
    ]
    false = float(np.mean([bool(findings) for findings in alarms]))
    print(f"false alarms on {arguments.quiet} quiet days: {false:.4f}")
    for findings in alarms:
        for finding in findings:
            print(f"  {finding}")
    delays = faults(world, quiet, items, new, arguments.visits)
    for name, delay in delays.items():
        print(f"{name:20} found after {delay} days" if delay else f"{name:20} not found within {MAX_DELAY} days")
    print(json.dumps({"quiet_days": arguments.quiet, "false_alarms": false, "delay_days": delays}))


def frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def live(world: World, visits: int, day: int) -> pl.DataFrame:
    """A day of the world, ranked by true preference with noise."""
    num = int(world.rng.poisson(visits * WEEKDAY[day % 7] * np.exp(0.03 * world.rng.standard_normal())))
    seen = world.visits(num, 1.0)
    score = np.log(world.preference(seen) + 1e-9)
    score += 2.0 * world.rng.standard_normal(score.shape, dtype=np.float32)
    items = np.argsort(-score, axis=1)[:, :K]
    events = frame(world_log.events(world, seen, items, world.respond(seen, items)))
    return events.with_columns(pl.col("ts").dt.epoch("us"))


def faults(world: World, quiet: pl.DataFrame, items: pl.DataFrame, new: np.ndarray, visits: int) -> dict[str, int]:
    """Days until a check finds each fault, the largest over several beginnings; 0 = not within MAX_DELAY."""
    day = pl.col("ts") // 86_400_000_000
    last = quiet.select(pl.col("ts").max()).item() // 86_400_000_000
    rng = np.random.default_rng(2)

    def stuck(log: pl.DataFrame) -> pl.DataFrame:
        noon = (day * 86_400_000_000) + 43_200_000_000
        return log.with_columns(
            ts=pl.when(pl.Series(rng.random(log.height) < 1 / 3)).then(noon).otherwise(pl.col("ts"))
        )

    def bot(log: pl.DataFrame) -> pl.DataFrame:
        added = log.sample(fraction=0.1, seed=3).with_columns(user_id=pl.lit("u00001"))
        return pl.concat([log, added])

    spoil: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "source missing": lambda log: log.filter(pl.col("event") != "purchase"),
        "prices in cents": lambda log: log.with_columns(pl.col("value") * 100),
        "stuck clock": stuck,
        "bot": bot,
        "no titles": lambda log: log.with_columns(
            item_id=pl.when(pl.Series(rng.random(log.height) < 0.3))
            .then(pl.lit("UNKNOWN"))
            .otherwise(pl.col("item_id"))
        ),
    }
    delays: dict[str, int] = {}
    for name, change in spoil.items():
        waits = []
        for start in range(STARTS):
            first = last - MAX_DELAY - start
            log = quiet.filter(day <= first + MAX_DELAY)
            days = days_of(pl.concat([log.filter(day < first), change(log.filter(day >= first))]), items)
            waits.append(delay(days, first))
        delays[name] = 0 if 0 in waits else max(waits)
    changes: dict[str, Callable[[World], object]] = {
        "new category": lambda changed: changed.launch(new, appeal=3.0),
        "taste drift": lambda changed: changed.drift_tastes(0.3),
    }
    for name, change_world in changes.items():
        changed = copy.deepcopy(world)
        change_world(changed)
        later = pl.concat([live(changed, visits, number) for number in range(MAX_DELAY)])
        delays[name] = delay(days_of(pl.concat([quiet, later]), items), last + 1)
    return delays


def delay(days: Days, first: int) -> int:
    """Days from the beginning of a fault to the first finding; 0 = not within MAX_DELAY."""
    start = int(np.searchsorted(days.days, first))
    reference = Reference(days.take(slice(start - REFERENCE_DAYS, start)), LAYOUT)
    for number in range(MAX_DELAY):
        if reference.findings(days.totals[start + number]):
            return number + 1
    return 0


if __name__ == "__main__":
    main()
