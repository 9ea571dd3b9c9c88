"""Eight weeks of a drifting shop: a fixed model, nightly full retraining, and `txrec loop`, on the same world.

    python bench/loop.py [--weeks 8] [--visits 300] [--users 400] [--items 200] [--seed 0] [--small]
                         [--explore 0.1] [--every 168] [--out FOLDER] [--arm fixed|nightly|loop]

The world lives five weeks under its old ranking (true preference with noise); a model is trained on that log. Then each
arm serves the same world on its own: a share of the users changes taste every week, a tenth of the products comes into
fashion after three weeks, another twentieth goes out of the shop after six. Every night

- `fixed` does nothing;
- `nightly` trains in full on everything and serves the result;
- `loop` takes the steps of `txrec loop`: a round every `--every` hours, or when live traffic drifts from its log;
  warm from production or in full, evaluated, and published by the gate; a share of its slates (`--explore`) is drawn
  within the bounds of `EXPLORATION`, so that products that the model does not know have their first views.

Satisfied preference is the share of the clicks of the best possible slates that the served ones are expected to get,
regret what they fall short by; compute is processor time of preparation, training, evaluation and publishing. Leaves
each arm's figures below `--out` as they are done, so that a later call with the same sizes runs the missing arms alone
(`--arm`: only that one); then writes `loop.json` and `loop.svg`. Prints one JSON object as its last line.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch

from bench.loop_plot import kept, plot
from pipelines import evaluate
from pipelines.closed_loop import loop
from pipelines.simulate import LocalShop
from pipelines.training.warm_start import Start, start_of
from txrec.client import Json
from txrec.config import Config, ShopConfig
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.loop.drift import traffic
from txrec.loop.drift.traffic import TrafficProfile
from txrec.loop.exploration.exploration import Bounds
from txrec.loop.exploration.exploration_log import explore
from txrec.loop.rounds import Round, RoundStore
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender import bundle
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Request
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry
from txrec.simulator import Shop, world_log
from txrec.simulator.drive import Shown, Simulation, Tally, Visitor
from txrec.simulator.world import World
from txrec.simulator.world_log import START_US
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.setup import trainer_for
from txrec.train.text import pretrain
from txrec.train.warm_start import Lineage, shortened, shortfall

K = 10
BEFORE_DAYS = 35
ARMS = ("fixed", "nightly", "loop")
DRIFT_EACH_WEEK = 0.15
EXPLORATION = Bounds(first_place=2, num_places=4, pool=30, bonus=2.0)
SETTINGS: dict[str, Any] = {
    "text": {"encoder": "none"},
    "model": {"dim": 32, "num_layers": 1, "num_heads": 2, "max_length": 32, "use_text": False},
    "train": {"max_epochs": 8, "batch_size": 64, "lr": 5e-3},
    "ranker": {"mode": "off", "max_examples": 200},
    "prepare": {"split": {"test_days": 2, "validation_days": 1}},
    "evaluate": {"bootstrap": 50},
    "publish": {"margin": 0.05},
    "loop": {"every_h": 168, "min_h": 24},
}


@dataclass
class Arm:
    """A world, what serves it, and what that cost.

    Attributes:
        name: of ARMS.
        config: of its run.
        world: its own copy.
        days: a tally per day.
        compute_s: processor time of all retraining, seconds.
        rounds: what was done, as text.
    """

    name: str
    config: Config
    world: World
    days: list[Tally] = field(default_factory=list)
    compute_s: float = 0.0
    rounds: list[str] = field(default_factory=list)


def main() -> None:
    """Runs the arms one after another and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("weeks", 8), ("visits", 300), ("users", 400), ("items", 200), ("every", 168)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--explore", type=float, default=0.1, help="share of the slates of the loop that are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the shop and of everything that its users do")
    parser.add_argument("--small", action="store_true", help="two weeks of 150 visits per day")
    parser.add_argument("--out", type=Path, default=None, help="folder of the figures and of loop.svg")
    parser.add_argument("--arm", choices=ARMS, default=None, help="one arm alone")
    args = parser.parse_args()
    if args.small:
        args.weeks, args.visits = 2, 150
    torch.set_flush_denormal(True)
    sizes: dict[str, float] = {
        "weeks": args.weeks,
        "visits_per_day": args.visits,
        "users": args.users,
        "items": args.items,
    }
    sizes |= {"seed": args.seed, "explore": args.explore, "every_h": args.every}
    SETTINGS["loop"]["every_h"] = args.every
    figures = kept(args.out, ARMS, sizes)
    missing = [arm for arm in ((args.arm,) if args.arm else ARMS) if arm not in figures]
    if missing:
        shop = Shop.generate(
            ShopConfig(num_items=args.items, num_users=args.users, num_events=10 * args.users, days=14, seed=args.seed)
        )
        with tempfile.TemporaryDirectory() as name:
            first = beginning(shop, Path(name), args.visits)
            for arm in missing:
                figures[arm] = summary(lived(arm, shop, Path(name), first, args))
                if args.out is not None:
                    args.out.mkdir(parents=True, exist_ok=True)
                    row = json.dumps({"sizes": sizes, "figures": figures[arm]}, indent=1)
                    (args.out / f"arm-{arm}.json").write_text(row, encoding="utf-8")
    for arm, values in figures.items():
        print(f"{arm:8}" + "".join(f"{key} {values[key]:>12,.3f}  " for key in SHOWN))
    if args.out is not None and len(figures) == len(ARMS):
        (args.out / "loop.json").write_text(json.dumps({**sizes, "arms": figures}, indent=1), encoding="utf-8")
        plot(figures, args.out / "loop.svg")
    print(json.dumps({**sizes, "arms": figures}))


SHOWN = ("satisfaction", "regret", "revenue", "compute_s", "trainings")


def beginning(shop: Shop, root: Path, visits: int) -> World:
    """Lives the weeks before and trains the first version; returns the world as it stands then."""
    world = World(shop)
    world.retire(fashion(shop)[0])
    logs = []
    for day in range(BEFORE_DAYS):
        seen = world.visits(visits, 1.0)
        score = np.log(world.preference(seen) + 1e-9)
        score += 2.0 * world.rng.standard_normal(score.shape, dtype=np.float32)
        items = np.argsort(-score, axis=1)[:, :K]
        logs.append(world_log.events(world, seen, items, world.respond(seen, items), day * visits))
    (root / "log").mkdir()
    pq.write_table(
        pl.concat([pl.DataFrame(pl.from_arrow(one)) for one in logs]).to_arrow(), root / "log/events.parquet"
    )
    pq.write_table(world_log.catalogue(World(shop)), root / "log/items.parquet")
    config = configured(root, "first")
    in_process(config, "prepare")
    in_process(config, "train")
    promote(config)
    return world


def fashion(shop: Shop) -> tuple[np.ndarray, np.ndarray]:
    """Products that come into fashion, and products that go out."""
    order = np.random.default_rng(1).permutation(len(shop.catalogue))
    tenth = len(order) // 10
    return order[:tenth], order[tenth : tenth + tenth // 2]


def configured(root: Path, name: str) -> Config:
    """The configuration of an arm's run."""
    sources = {kind: [{"path": f"{kind}.parquet", "format": "parquet"}] for kind in ("events", "items")}
    fields = {"runs_root": str(root / "runs"), "data": {"root": str(root / "log"), **sources}}
    return Config.model_validate({"name": name, **fields, **SETTINGS, "serve": {"state": str(root / f"{name}.sqlite")}})


def lived(name: str, shop: Shop, root: Path, first: World, args: argparse.Namespace) -> Arm:
    """Lets an arm live its weeks."""
    started = time.perf_counter()
    config = configured(root, name)
    shutil.copytree(configured(root, "first").run_dir, config.run_dir, symlinks=True)
    world = World(shop, seed=1)
    for part in ("browse", "on_sale", "rate", "last", "second"):
        value = getattr(first, part)
        setattr(world, part, value.copy() if isinstance(value, np.ndarray) else value)
    arm = Arm(name, config, world)
    served = Recommender.open(Registry(config.registry_dir).folder())
    explored = replace(EXPLORATION, share=args.explore if name == "loop" else 0.0)
    front = LoggedShop(served, Path(config.serve.state), explored)
    simulation = Simulation(world, front, K, batch=64)
    nights: dict[str, Callable[[Arm, int], str]] = {
        "fixed": lambda *_: "",
        "nightly": nightly,
        "loop": Rounds(config, START_US + world.second * 1_000_000),
    }
    retrain = nights[name]
    launched, retired = fashion(shop)
    for day in range(7 * args.weeks):
        if day == 21:
            world.launch(launched, appeal=3.0)
        if day == 42:
            world.retire(retired)
        if day % 7 == 0:
            world.drift_tastes(DRIFT_EACH_WEEK)
        front.off_sale = frozenset(shop.catalogue.products[one].item_id for one in np.flatnonzero(~world.on_sale))
        arm.days.append(simulation.run(args.visits, 1.0))
        before = time.process_time()
        done = retrain(arm, START_US + world.second * 1_000_000)
        arm.compute_s += time.process_time() - before
        if done:
            arm.rounds.append(f"day {day + 1}: {done}")
            front.recommender = Recommender.open(Registry(config.registry_dir).folder())
            front.version = Registry(config.registry_dir).require_production()
        if (day + 1) % 7 == 0:
            week = sum(one.expected for one in arm.days[-7:]) / sum(one.best for one in arm.days[-7:])
            seconds = time.perf_counter() - started
            print(f"{name}: week {(day + 1) // 7}, satisfied preference {week:.4f}, {seconds:,.0f} s", flush=True)
    for line in arm.rounds if name == "loop" else ():
        print(f"  {line}", flush=True)
    front.close()
    return arm


class LoggedShop(LocalShop):
    """A recommender in this process that keeps slates and events as a server does, and explores as one.

    Args:
        recommender: that answers.
        state: file of the store.
        bounds: of exploration.
    """

    def __init__(self, recommender: Recommender, state: Path, bounds: Bounds) -> None:
        super().__init__(recommender)
        self._bounds, self._views, self._rng = bounds, Counter[str](), np.random.default_rng(0)
        self._store = SqliteHistory(state)
        self._events = self._answers = 0
        self.off_sale: frozenset[str] = frozenset()
        self.version = "v1"

    def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
        """Answers, explores, and logs the impressions."""
        explored = self._bounds.share > 0
        super().slates(visitors, self._bounds.first_place + self._bounds.pool if explored else top_k)
        shown: list[Shown] = []
        impressions: list[Impression] = []
        for visitor, slate in zip(visitors, self.answered, strict=True):
            scores, views = [item.score for item in slate.items], [self._views[item.item_id] for item in slate.items]
            order, record = explore(scores, views, self._bounds, self._rng, top_k)
            items, hidden = ([slate.items[place] for place in part] for part in (order[:top_k], order[top_k:]))
            if record is not None:
                ids, below = tuple(item.item_id for item in hidden), tuple(item.score for item in hidden)
                record = replace(record, hidden=ids, hidden_scores=below)
            self._views.update(item.item_id for item in items)
            request = f"r{self._answers}"
            self._answers += 1
            shown.append(Shown(tuple(item.item_id for item in items), request))
            ts, scores_ = START_US + visitor.second * 1_000_000, tuple(item.score for item in items)
            about = (request, ts, "production", self.version, shown[-1].item_ids, scores_)
            explored_as = record.to_json() if record else None
            impressions.append(Impression(*about, visitor.user_id, visitor.query, exploration=explored_as))
        self._store.log_impressions(impressions)
        return shown

    def report(self, events: Sequence[Json]) -> list[str]:
        """Keeps events for the next answers, and in the store."""
        kept = self.keep(events)
        first, self._events = self._events, self._events + len(kept)
        self._store.append(
            [
                LoggedEvent(f"e{first + number}", user, event, None, source.get("request_id"))
                for number, ((user, event), source) in enumerate(zip(kept, events, strict=True))
            ]
        )
        return []

    def _request(self, visitor: Visitor, top_k: int) -> Request:
        return replace(super()._request(visitor, top_k), exclude=self.off_sale)

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def nightly(arm: Arm, now_us: int) -> str:
    """Full training on everything there is; the result serves."""
    steps = loop.Steps(arm.config, loop.Tools(in_process, clock=lambda: now_us / 1e6))
    steps.export(Round(1, "night", now_us, "export"))
    full = steps.training.model_copy(update={"train": arm.config.train})
    in_process(full, "prepare")
    in_process(full, "train")
    promote(arm.config)
    return "full training"


class Rounds:
    """The steps of `txrec loop`, once per night.

    Args:
        config: of the run.
        start_us: when the first model began to serve, microseconds since 1970 UTC.
    """

    def __init__(self, config: Config, start_us: int) -> None:
        self._store = RoundStore(config.run_dir / "loop")
        self._store.save(Round(0, "the first model", start_us, "finished", {"export": {"until_us": start_us}}))

    def __call__(self, arm: Arm, now_us: int) -> str:
        """Goes on with a round or starts one that is due; what it did."""
        notes: list[str] = []
        tools = loop.Tools(
            in_process, clock=lambda: now_us / 1e6, notify=lambda entry: notes.append(f"{entry.step}: {entry.text}")
        )
        done = loop.step(arm.config, tools, self._store)
        lines = [note for note in notes if note.startswith(("train:", "off_policy:", "publish:"))]
        return "" if done is None else f"{done.trigger}; {'; '.join(lines)}"


def in_process(config: Config, stage: str) -> None:
    """A stage in this process, without Ray; those before it are up to date."""
    if stage == "prepare":
        preparation.run(config, preparation.InProcess())
    elif stage == "train":
        train(config)
    elif stage == "evaluate":
        evaluate.run(config)


def train(config: Config) -> None:
    """Trains from the start that the configuration asks for, and in full where a warm start falls short."""
    data = PreparedData.open(config.data_dir)
    start = start_of(config, data)
    model, lineage = fitted(config, data, start)
    why = shortfall(config, lineage, lineage.reached) if start.earlier is not None else ""
    if why:
        model, lineage = fitted(config, data, Start(None, f"a warm start from {start.version} was tried: {why}"))
    profile = TrafficProfile.of(data)
    files = {} if profile is None else {traffic.FILE: profile.to_bytes()}
    text = None if config.text.encoder == "none" else config.checkpoints_dir / "text"
    ranking = replace(fit_ranker(config, data, model, text), lineage=asdict(lineage), files=files)
    bundle.write(config.candidate_dir, config, data, model, text, ranking)


def fitted(config: Config, data: PreparedData, start: Start) -> tuple[Any, Lineage]:
    """A history model trained from a start, and its origin."""
    started = time.perf_counter()
    settings = config if start.earlier is None else shortened(config)
    text = None if config.text.encoder == "none" else config.checkpoints_dir / "text"
    if text is not None:
        pretrain.fit(settings, data, text, earlier=None if start.earlier is None else start.earlier.path / "text")
    trainer = trainer_for(settings, data, text, earlier=start.earlier)
    trainer.run(lambda *_: None)
    return trainer.objective.model.cpu().eval(), start.lineage(trainer.state.best, time.perf_counter() - started)


def promote(config: Config) -> None:
    """Puts the candidate into production, without a gate."""
    registry = Registry(config.registry_dir)
    with registry.locked() as version:
        registry.add(config.candidate_dir, {}, Decision(version, "ndcg@10", 0.0, 0.0, 1, force=True))
    registry.activate(version, "bench")


def summary(arm: Arm) -> dict[str, Any]:
    """Figures of an arm, and its satisfied preference and regret by week."""
    weeks = [arm.days[start : start + 7] for start in range(0, len(arm.days), 7)]
    expected, best = (sum(getattr(day, part) for day in arm.days) for part in ("expected", "best"))
    by_week = [sum(day.expected for day in week) / sum(day.best for day in week) for week in weeks]
    return {
        "satisfaction": expected / best,
        "regret": best - expected,
        "revenue": sum(day.revenue for day in arm.days),
        "clicks": sum(day.clicks for day in arm.days),
        "compute_s": arm.compute_s,
        "trainings": len(arm.rounds),
        "satisfaction_by_week": [round(value, 4) for value in by_week],
        "regret_by_week": [round(sum(day.regret for day in week), 2) for week in weeks],
        "regret_by_day": [round(day.regret, 3) for day in arm.days],
        "rounds": arm.rounds if arm.name == "loop" else [],
    }


if __name__ == "__main__":
    main()
