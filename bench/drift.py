"""Data checks on the live world: false alarms on quiet days, and the delay until injected faults are found.

    python bench/drift.py [--quiet 200] [--visits 1500] [--users 3000] [--items 600] [--live-quiet 100] [--every 1]
                          [--part both] [--small]

Two comparisons. *Preparation*: every day is checked against the four weeks before it, as a preparation of that morning
would be. *Live traffic*: a bundle is trained every two weeks (its traffic profile is made by a real preparation), and
every `--every` hours the last days are compared with it, as the server does; a quiet day counts as alarmed when any
look of it alarms, and delays are hours from the beginning of a fault, at noon, to the first alarm. Faults, each put
into copies of several quiet days:

- `source missing`: purchases are gone;          - `prices in cents`: values and prices a hundred times as large;
- `stuck clock`: a third of the events at one time;  - `bot`: one user adds a tenth of all events;
- `no titles`: a feed without titles;            - `new category`: a tenth of the products is new and wanted at once;
- `taste drift`: 30 % of the users like something else.

Prints one JSON object as its last line.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from txrec.config import Config, ShopConfig
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.loop.drift.data_checks import LAYOUT, REFERENCE_DAYS, days_of
from txrec.loop.drift.drift import Days, Reference
from txrec.loop.drift.live_drift import HOUR_US, LiveDrift, TrafficDrift
from txrec.loop.drift.traffic import TrafficProfile
from txrec.schema import DAY_US
from txrec.simulator import Shop, world_log
from txrec.simulator.world import Behaviour, World

K = 10
MAX_DELAY = 3
STARTS = 8
LIVE_STARTS = 3
LOG_DAYS = 42
"""Days of the log that a bundle of the live comparison is trained on."""
LIFE_DAYS = 14
"""Days that a bundle of the live comparison stays in production."""
MAX_HOURS = 168
FIRST_US = 8 * DAY_US
"""Log that the first look reads; later ones remember it."""
NO_SLATES = pl.DataFrame(schema={"ts": pl.Int64, "key": pl.String})
"""The world has no scores."""
STEADY = Behaviour(delight=1.0, disappointment=1.0)
"""Behaviour of users who come as often as ever: quiet days are alike in the long run."""
WEEKDAY = np.array([1.0, 0.95, 0.95, 1.0, 1.1, 1.3, 1.2])
"""Traffic by day of the week."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = (("quiet", 200), ("visits", 1_500), ("users", 3_000), ("items", 600), ("live-quiet", 100), ("every", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--small", action="store_true", help="few and small days")
    parser.add_argument("--part", choices=("both", "preparation", "live"), default="both", help="comparison to run")
    arguments = parser.parse_args()
    if arguments.small:
        sizes_ = {"quiet": 50, "visits": 500, "users": 1_000, "items": 300, "live_quiet": 20, "every": 6}
        arguments = argparse.Namespace(**sizes_, part=arguments.part)
    shop = Shop.generate(
        ShopConfig(num_items=arguments.items, num_users=arguments.users, num_events=15 * arguments.users)
    )
    world = World(shop, STEADY)
    new = np.random.default_rng(1).choice(arguments.items, arguments.items // 10, replace=False)
    world.retire(new)
    quiet = pl.concat([live(world, arguments.visits, day) for day in range(REFERENCE_DAYS + arguments.quiet + 14)])
    figures: dict[str, object] = {}
    if arguments.part != "live":
        figures |= preparation_figures(world, quiet, new, arguments)
        print(json.dumps(figures), flush=True)
    if arguments.part != "preparation":
        figures["live"] = live_figures(world, quiet, new, arguments)
    print(json.dumps(figures))


def preparation_figures(
    world: World, quiet: pl.DataFrame, new: np.ndarray, arguments: argparse.Namespace
) -> dict[str, object]:
    """False alarms and delays of the checks of preparations."""
    items = frame(world_log.catalogue(world))
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
    return {"quiet_days": arguments.quiet, "false_alarms": false, "delay_days": delays}


def live_figures(
    world: World, quiet: pl.DataFrame, new: np.ndarray, arguments: argparse.Namespace
) -> dict[str, object]:
    """False alarms and delays of the comparisons of live traffic; needs about 1.2 `--live-quiet` days of quiet log."""
    live_looks = Looks(quiet, world_log.catalogue(world), arguments.every)
    hours = live_faults(live_looks, world, quiet, new, arguments.visits)
    for name, delay in hours.items():
        print(f"live: {name:20} found after {delay} h" if delay else f"live: {name:20} not found within {MAX_HOURS} h")
    alarmed, num = live_looks.quiet_days(arguments.live_quiet)
    print(f"live: false alarms on {num} quiet days: {alarmed / max(num, 1):.4f}")
    return {"quiet_days": num, "false_alarms": alarmed / max(num, 1), "delay_h": hours}


class Looks:
    """Comparisons of the last day with a profile, at fixed times of the day, a bundle per week.

    Args:
        log: a quiet log, `ts` in microseconds.
        items: catalogue, schema.ITEMS.
        every: hours between two looks.
    """

    def __init__(self, log: pl.DataFrame, items: pa.Table, every: int) -> None:
        self.log = log
        self.first = log.select(pl.col("ts").min()).item() // DAY_US
        self.last = log.select(pl.col("ts").max()).item() // DAY_US
        self._items, self._every = items, every

    def comparison(self, day: int) -> LiveDrift:
        """Comparison with a bundle trained on the six weeks before a day."""
        part = self.log.filter(pl.col("ts").is_between((day - LOG_DAYS) * DAY_US, day * DAY_US, closed="left"))
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            pq.write_table(self._items, root / "items.parquet")
            part.with_columns(pl.from_epoch("ts", time_unit="us").dt.replace_time_zone("UTC")).write_parquet(
                root / "events.parquet"
            )
            sources = {kind: [{"path": f"{kind}.parquet", "format": "parquet"}] for kind in ("events", "items")}
            config = Config.model_validate(
                {"name": "live", "runs_root": str(root / "runs"), "data": {"root": name, **sources}}
            )
            preparation.run(config, preparation.InProcess())
            profile = TrafficProfile.of(PreparedData.open(config.data_dir))
        if profile is None:
            raise ValueError(f"the {LOG_DAYS} days before day {day} give no profile")
        return LiveDrift(profile, "v1")

    def quiet_days(self, num: int) -> tuple[int, int]:
        """Days with an alarm, and days that were looked at."""
        alarmed = count = 0
        for start in range(self.first + LOG_DAYS, self.last, LIFE_DAYS):
            comparison = self.comparison(start)
            self.look(comparison, self.log, (start + 1) * DAY_US, FIRST_US)
            for day in range(start + 1, min(start + LIFE_DAYS, self.last)):
                if count == num:
                    return alarmed, count
                results = [self.look(comparison, self.log, day * DAY_US + hour * HOUR_US) for hour in self._hours()]
                count += 1
                alarmed += any(one.findings for one in results)
                for one in results:
                    if one.findings:
                        print(f"  {one}")
            print(f"live: alarms on {alarmed} of {count} quiet days", flush=True)
        return alarmed, count

    def look(self, comparison: LiveDrift, log: pl.DataFrame, now_us: int, span_us: int = 2 * DAY_US) -> TrafficDrift:
        """One comparison, with the events that had happened by then, `span_us` long."""
        known = log.filter(pl.col("ts").is_between(now_us - span_us, now_us, closed="left"))
        return comparison.look(NO_SLATES, known, now_us)

    def delay(self, comparison: LiveDrift, log: pl.DataFrame, start_us: int) -> int:
        """Hours from the beginning of a fault to the first alarm; 0 = not within MAX_HOURS."""
        comparison = comparison.forgetful()
        self.look(comparison, log, start_us, FIRST_US)
        for hour in range(1, MAX_HOURS + 1):
            if self.look(comparison, log, start_us + hour * HOUR_US).findings:
                return hour
        return 0

    def _hours(self) -> range:
        return range(self._every, 25, self._every)


def live_faults(looks: Looks, world: World, quiet: pl.DataFrame, new: np.ndarray, visits: int) -> dict[str, int]:
    """Hours until live traffic raises an alarm for each fault, the largest of several beginnings; 0 = not in time."""
    delays: dict[str, list[int]] = {}
    for number in range(LIVE_STARTS):
        day = looks.last - MAX_HOURS // 24 - 2 - 7 * number
        comparison, start = looks.comparison(day), day * DAY_US + 12 * HOUR_US + DAY_US
        after = pl.col("ts") >= start
        for name, change in spoils(number).items():
            log = pl.concat([quiet.filter(~after), change(quiet.filter(after))])
            delays.setdefault(name, []).append(looks.delay(comparison, log, start))
    comparison = looks.comparison(looks.last)
    start = (looks.last + 1) * DAY_US
    for name, change_world in world_changes(new).items():
        changed = copy.deepcopy(world)
        change_world(changed)
        later = [live(changed, visits, number) for number in range(MAX_HOURS // 24)]
        delays[name] = [looks.delay(comparison, pl.concat([quiet, *later]), start)]
    return {name: 0 if 0 in waits else max(waits) for name, waits in delays.items()}


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
    day = pl.col("ts") // DAY_US
    last = quiet.select(pl.col("ts").max()).item() // DAY_US
    delays: dict[str, int] = {}
    for name, change in spoils(2).items():
        waits = []
        for start in range(STARTS):
            first = last - MAX_DELAY - start
            log = quiet.filter(day <= first + MAX_DELAY)
            days = days_of(pl.concat([log.filter(day < first), change(log.filter(day >= first))]), items)
            waits.append(delay(days, first))
        delays[name] = 0 if 0 in waits else max(waits)
    for name, change_world in world_changes(new).items():
        changed = copy.deepcopy(world)
        change_world(changed)
        later = pl.concat([live(changed, visits, number) for number in range(MAX_DELAY)])
        delays[name] = delay(days_of(pl.concat([quiet, later]), items), last + 1)
    return delays


def spoils(seed: int) -> dict[str, Callable[[pl.DataFrame], pl.DataFrame]]:
    """Faults of the data: name -> change of a log."""
    rng = np.random.default_rng(seed)

    def stuck(log: pl.DataFrame) -> pl.DataFrame:
        noon = (pl.col("ts") // DAY_US * DAY_US) + 43_200_000_000
        return log.with_columns(
            ts=pl.when(pl.Series(rng.random(log.height) < 1 / 3)).then(noon).otherwise(pl.col("ts"))
        )

    def bot(log: pl.DataFrame) -> pl.DataFrame:
        added = log.sample(fraction=0.1, seed=3).with_columns(user_id=pl.lit("u00001"))
        return pl.concat([log, added])

    def no_titles(log: pl.DataFrame) -> pl.DataFrame:
        lost = pl.Series(rng.random(log.height) < 0.3)
        return log.with_columns(item_id=pl.when(lost).then(pl.lit("UNKNOWN")).otherwise(pl.col("item_id")))

    return {
        "source missing": lambda log: log.filter(pl.col("event") != "purchase"),
        "prices in cents": lambda log: log.with_columns(pl.col("value") * 100),
        "stuck clock": stuck,
        "bot": bot,
        "no titles": no_titles,
    }


def world_changes(new: np.ndarray) -> dict[str, Callable[[World], object]]:
    """Changes of what people want: name -> change of the world."""
    return {
        "new category": lambda changed: changed.launch(new, appeal=3.0),
        "taste drift": lambda changed: changed.drift_tastes(0.3),
    }


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
