"""`txrec loop`: export, prepare, train, evaluate, off-policy, publish, canary, decide, prune; again and again.

Every step gives the same result when it is done twice (`txrec.loop.rounds` says why): files are replaced, stages are
recorded by what they follow from, a version that the round has registered already is found again, and roles of
versions are stated, not changed.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import polars as pl
import pyarrow.parquet as pq

from pipelines import publish
from pipelines.closed_loop import off_policy
from pipelines.closed_loop.live_drift import live_drift
from pipelines.closed_loop.served_log import ServedLog, served_log
from txrec import object_storage
from txrec.client import Client
from txrec.config import Config, SourceConfig
from txrec.data.prepared import PreparedData
from txrec.errors import DataError, StageError
from txrec.loop.attribution.attribution import HOUR_US, events_of, slates_of
from txrec.loop.decisions import canary_decision
from txrec.loop.experiments.experiments import ExperimentDecision
from txrec.loop.rounds import Entry, Round, RoundStore, Step, StepResult, advance
from txrec.recommender.bundle import Bundle
from txrec.registry.gate import ServedGain
from txrec.registry.registry import Registry
from txrec.registry.rollout import Rollouts
from txrec.schema import DAY_US
from txrec.storage import replace_file
from txrec.train.warm_start import Lineage

KEY_VARIABLE = "TXREC_API_KEY"
WEBHOOK_VARIABLE = "TXREC_LOOP_WEBHOOK"
WEBHOOK_TIMEOUT_S = 10.0
_BY_DRIFT = "live "  # begins the trigger of a round that drift started
_log = logging.getLogger(__name__)


class Server(Protocol):
    """The part of `txrec.client.Client` that the loop uses."""

    def activate(self, version: str, role: str = "production", share: float | None = None) -> Any:
        """Gives a version a role."""
        ...

    def deactivate(self, version: str) -> Any:
        """Ends a canary."""
        ...

    def models(self) -> Any:
        """Models and their roles."""
        ...


@dataclass(frozen=True)
class Tools:
    """Dependencies of the loop; tests bring their own.

    Attributes:
        run_stage: runs a stage and those before it, where they are not valid any more.
        server: of the configuration's `loop.url`; None = there is none.
        clock: seconds since 1970 UTC.
        notify: told of every step.
    """

    run_stage: Callable[[Config, str], None]
    server: Server | None = None
    clock: Callable[[], float] = time.time
    notify: Callable[[Entry], None] = lambda _: None


def run(config: Config, tools: Tools, once: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Runs rounds as they become due, until the process is stopped.

    Args:
        config: of the run.
        tools: what it works with.
        once: look once: goes on with a round, or starts one that is due, and returns where it waits or ends.
        sleep: waits between two looks.

    Raises:
        StageError: another loop of this run is under way.
    """
    store = RoundStore(config.run_dir / "loop")
    with store.locked():
        while True:
            step(config, tools, store)
            if once:
                return
            sleep(config.loop.poll_s)


def step(config: Config, tools: Tools, store: RoundStore) -> Round | None:
    """Goes on with the present round, or starts one that is due; None where nothing is."""

    def now_us() -> int:
        return int(tools.clock() * 1e6)

    present, entries = store.read(), store.journal()  # a file that cannot be used is reported before any work
    if present is None or present.finished:
        trigger = due(config, present, now_us())
        if not trigger:
            return None
        number = 1 + (present.number if present else max((one.round for one in entries), default=0))
        since = {"since_us": present.results.get("export", {}).get("until_us", 0)} if present else {}
        present = store.save(Round(number, trigger, now_us(), "export", {"last": since}))
    return advance(store, present, Steps(config, tools).all(), now_us, tools.notify)


def due(config: Config, last: Round | None, now_us: int) -> str:
    """Reason of a due round, with its inequality; empty = none is due."""
    if last is None:
        return "first round"
    hours = (now_us - last.started_us) / HOUR_US
    if 0 < config.loop.every_h <= hours:
        return f"schedule: {hours:.1f} h since the last start >= {config.loop.every_h:g} h"
    if hours < config.loop.min_h or not (config.loop.min_events or config.loop.drift):
        return ""
    try:
        log = served_log(config)
    except StageError:  # nothing has been served yet
        return ""
    return _due_by_traffic(config, last, log, now_us)


def _due_by_traffic(config: Config, last: Round, log: ServedLog, now_us: int) -> str:
    """Trigger of a round in the served log: new events, or drift; empty = there is none."""
    since = int(last.results.get("export", {}).get("until_us", 0))
    count = log.events.filter(pl.col("ts") >= since).select(pl.len()).collect().item()
    if 0 < config.loop.min_events <= count:
        return f"new events: {count:,} >= {config.loop.min_events:,}"
    again = last.trigger.startswith(_BY_DRIFT) and now_us - last.started_us < DAY_US  # the same day of traffic
    if not config.loop.drift or not count or again:
        return ""
    drift = live_drift(config, log, now_us)
    if drift.outcome == "fault":
        _log.warning("no round starts: live %s", drift)
    return f"{_BY_DRIFT}{drift}" if drift.outcome == "drift" else ""


class Steps:
    """The steps of a round.

    Args:
        config: of the run.
        tools: what they work with.
    """

    def __init__(self, config: Config, tools: Tools) -> None:
        self._config = config
        self._tools = tools
        self._folder = config.run_dir / "loop" / "exports"
        self._registry = Registry(config.registry_dir)

    def all(self) -> list[tuple[str, Step]]:
        """Names and functions in order."""
        names = ("export", "prepare", "train", "evaluate", "off_policy", "publish", "canary", "decide", "prune")
        return [(name, getattr(self, name)) for name in names]

    def export(self, round_: Round) -> StepResult:
        """Writes events and slates since the last export, overlapping by `late_h`; none is no error."""
        until = int(self._tools.clock() * 1e6)
        since = int(round_.results.get("last", {}).get("since_us", 0)) - int(self._config.loop.late_h * HOUR_US)
        try:
            log = served_log(self._config)
        except StageError as error:
            return StepResult("done", f"nothing to export: {error}", {"until_us": 0})
        span = (pl.col("ts") >= since) & (pl.col("ts") < until)
        counts = {
            name: self._write(frame.filter(span).collect(), f"{name}-{round_.number:06d}.parquet")
            for name, frame in (("events", log.events), ("slates", log.slates))
        }
        text = f"{counts['events']:,} events, {counts['slates']:,} slates"
        return StepResult("done", text, {"until_us": until, **counts})

    def _write(self, rows: pl.DataFrame, name: str) -> int:
        """Writes rows of the log to a file of the exports, none for no rows; how many."""
        if rows.height:
            table = rows.with_columns(pl.from_epoch("ts", time_unit="us").dt.replace_time_zone("UTC")).to_arrow()
            with replace_file(self._folder / name) as fresh:
                pq.write_table(table, fresh)
        return rows.height

    def prepare(self, _: Round) -> StepResult:
        """Prepares the log with everything exported; a break of its checks stops the loop until it is accepted."""
        return self._stage("prepare")

    def train(self, _: Round) -> StepResult:
        """Trains a candidate: warm from production where that is possible, or in full, with the reason."""
        self._stage("train")
        lineage = Lineage.of(Bundle.open(self._config.candidate_dir, verify=False))
        reason = f": {lineage.reason}" if lineage.reason else ""
        fields = {"start": lineage.start, "seconds": lineage.seconds}
        return StepResult("done", f"{lineage.start} training{reason}; {lineage.seconds:,.0f} s", fields)

    def evaluate(self, _: Round) -> StepResult:
        """Measures the candidate."""
        return self._stage("evaluate")

    def off_policy(self, _: Round) -> StepResult:
        """Estimates what the candidate would have earned on served slates; ends the round where it is surely less.

        Slates of the test part alone: the candidate was trained on the others.
        """
        fields: dict[str, Any] = {"versions": self._registry.names()}
        try:
            since = PreparedData.open(self._config.data_dir).meta.test_start_ts
            summary = off_policy.run(self.training, "candidate", since_us=since)
        except (DataError, StageError) as error:
            return StepResult("done", f"no estimate: {error}", fields)
        best = summary.evaluation.best
        if best.refusal:
            return StepResult("done", f"no estimate: {best.refusal}", fields)
        gain = ServedGain(best.estimator, best.value - best.gain, best.gain, best.gain_low, best.gain_high, best.slates)
        placements = {name: one.best for name, one in summary.named_placements.items() if not one.best.refusal}
        fields["placements"] = {name: [one.gain_low, one.gain_high] for name, one in placements.items()}
        fields["served"] = asdict(gain)
        parts = "".join(f"; {name} {one.gain_low:.4g} to {one.gain_high:.4g}" for name, one in placements.items())
        if best.gain_high < 0:
            return StepResult("end", f"clicks per slate gain of at most {best.gain_high:.4g} < 0{parts}", fields)
        text = f"clicks per slate gain {best.gain_low:.4g} to {best.gain_high:.4g}{parts}"
        return StepResult("done", text, fields)

    def publish(self, round_: Round) -> StepResult:
        """Registers the candidate; the round ends where the gate refuses it."""
        earlier = round_.results.get("off_policy", {})
        before = set(earlier.get("versions", ()))
        added = [name for name in self._registry.names() if name not in before]
        if added:  # this step was done before, and the process ended
            version, gate = added[-1], Bundle.open(self._registry.folder(added[-1]), verify=False).manifest.gate
        else:
            served = ServedGain(**earlier["served"]) if "served" in earlier else None
            decision = publish.run(self.training, hold=self._tools.server is not None, served=served).decision
            version, gate = decision.version, decision.to_dict()
        if gate["promote"] and self._registry.production != version:
            self._registry.activate(version, str(gate["decision"]))
        fields = {"version": version, "promoted": bool(gate["promote"])}
        return StepResult("done" if gate["passed"] else "end", str(gate["decision"]), fields)

    def canary(self, round_: Round) -> StepResult:
        """Gives the version a share of the users."""
        version = str(round_.result("publish", "version"))
        if self._tools.server is None or round_.result("publish", "promoted"):
            return StepResult("done", "no canary: the gate has decided", {"since_us": 0})
        share = self._config.loop.canary_share
        self._tools.server.activate(version, "canary", share)
        since = {"since_us": int(self._tools.clock() * 1e6)}
        return StepResult("done", f"{version} answers {share:.0%} of the users", since)

    def decide(self, round_: Round) -> StepResult:
        """Promotes the canary, takes it back, or waits for more users."""
        since = int(round_.result("canary", "since_us"))
        if self._tools.server is None or not since:
            return StepResult("done", "nothing left to decide")
        version = str(round_.result("publish", "version"))
        role = {one["version"]: one["variant"] for one in self._tools.server.models()["models"]}.get(version)
        if role == "production":  # this step was done before, and the process ended
            return StepResult("done", f"{version} is in production")
        if role != "canary":
            return StepResult("end", f"{version} is no canary any more")
        now_us = int(self._tools.clock() * 1e6)
        shown, happened = served_log(self._config, None, None)
        log = slates_of(shown.collect()), events_of(happened.collect())
        made = canary_decision(self._config.experiments, log, now_us, self._config.loop.canary_share)
        decision = next((one for one in made if one.experiment == f"canary {version}"), None)
        result = self._verdict(decision, version, (now_us - since) / HOUR_US)
        if result.outcome == "done":
            self._tools.server.activate(version)
        elif result.outcome == "end":
            self._tools.server.deactivate(version)
        return result

    def _verdict(self, made: ExperimentDecision | None, version: str, hours: float) -> StepResult:
        """Promotion (`done`), end or wait of a canary that has answered users for so many hours."""
        if made is not None and made.action != "continue":
            return StepResult("done" if made.action == "promote" else "end", str(made))
        limits = self._config.loop
        if hours < limits.canary_max_h:
            return StepResult("wait", "")
        if made is not None and limits.canary_max_loss:
            loss = -made.low if self._config.experiments.primary.higher_is_better else made.high
            if loss <= limits.canary_max_loss:
                most = f"loss of at most {loss:.4g} <= {limits.canary_max_loss:g} after {hours:.1f} h"
                return StepResult("done", f"promote {version}: {most}; {made}")
        return StepResult("end", f"take {version} back: {hours:.1f} h >= {limits.canary_max_h:g} h without a decision")

    def prune(self, _: Round) -> StepResult:
        """Removes old exports, and versions beyond `keep_versions`.

        Versions that are served and the one before production stay.
        """
        gone = [*self._old_exports(), *self._old_versions()]
        for path in gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        names = [path.name for path in gone]
        return StepResult("done", f"removed {', '.join(names)}" if names else "nothing to remove", {"removed": names})

    def _old_versions(self) -> list[Path]:
        """Versions to be removed; in object storage none, since its lifecycle rules do that."""
        registry = self._registry
        names = registry.names()
        if registry.production is None or object_storage.uri_of(self._config.registry_dir):
            return []
        kept = {*names[-self._config.loop.keep_versions :], *Rollouts(self._config.registry_dir).read().versions}
        kept |= {move["from"] for move in registry.moves() if move["to"] == registry.production}
        return [Path(registry.path) / name for name in names if name not in kept]

    def _old_exports(self) -> list[Path]:
        """Exports whose rows are all older than `export_days`."""
        if not self._config.loop.export_days:
            return []
        limit = int(self._tools.clock() * 1e6) - self._config.loop.export_days * DAY_US
        files = sorted(self._folder.glob("*-*.parquet"))
        latest = [pl.scan_parquet(file).select(pl.col("ts").max().dt.epoch("us")).collect().item() for file in files]
        return [file for file, ts in zip(files, latest, strict=True) if ts < limit]

    @property
    def training(self) -> Config:
        """The configuration with the exports as one more source of events and of slates, and the start of training."""
        config = self._config
        if config.loop.training == "auto" and not config.train.start_from:
            config = config.model_copy(update={"train": config.train.model_copy(update={"start_from": "production"})})
        if not self._folder.is_dir() or not any(self._folder.glob("events-*.parquet")):
            return config
        source = SourceConfig(path=str(self._folder.absolute() / "events-*.parquet"), format="parquet")
        changes: dict[str, Any] = {"events": (*config.data.events, source)}
        if not config.data.slates and any(self._folder.glob("slates-*.parquet")):
            changes["slates"] = str(self._folder.absolute() / "slates-*.parquet")
        return config.model_copy(update={"data": config.data.model_copy(update=changes)})

    def _stage(self, name: str) -> StepResult:
        self._tools.run_stage(self.training, name)
        return StepResult("done", f"{name} is up to date")


def webhook(url: str) -> Callable[[Entry], None]:
    """Notification by an HTTP POST of each entry as JSON, `id` naming round and step; one that fails is logged."""

    def notify(entry: Entry) -> None:
        body = {"id": f"{entry.round}-{entry.step}", **asdict(entry)}
        try:
            httpx.post(url, json=body, timeout=WEBHOOK_TIMEOUT_S).raise_for_status()
        except httpx.HTTPError as error:
            _log.warning("round %d, %s: the webhook was not reached: %s", entry.round, entry.step, type(error).__name__)

    return notify


def tools(config: Config, run_stage: Callable[[Config, str], None], show: Callable[[Entry], None]) -> Tools:
    """The tools of the command: the client of `loop.url`, and notifications on the terminal and by webhook."""
    url = os.environ.get(WEBHOOK_VARIABLE, "")
    post = webhook(url) if url else None

    def notify(entry: Entry) -> None:
        show(entry)
        if post is not None:
            post(entry)

    server = Client(config.loop.url, key=os.environ.get(KEY_VARIABLE, "")) if config.loop.url else None
    return Tools(run_stage, server, notify=notify)
