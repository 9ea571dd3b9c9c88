"""`txrec loop` over a tiny run: every step done twice by crashes, canary decided by the log, triggers, webhook."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest

from pipelines.closed_loop import loop
from tests.traffic import LAST_DAY, LAST_US, as_served, profile_of
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.errors import StageError
from txrec.loop.drift.traffic import FILE
from txrec.loop.rounds import Entry, Round, RoundStore
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.registry.registry import Registry
from txrec.registry.rollout import Rollouts
from txrec.schema import DAY_US

pytestmark = pytest.mark.slow

START_S = 1_700_000_000.0
HOUR_S = 3_600.0


class KilledError(Exception):
    """The process ends here."""


@dataclass
class Clock:
    """A clock that tests move."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Server:
    """A served application: roles as a real one keeps them."""

    registry: Path
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def activate(self, version: str, role: str = "production", share: float | None = None) -> Any:
        self.calls.append((role, version))
        rollouts = Rollouts(self.registry)
        now = rollouts.read()
        if role == "production":
            rollouts.registry.activate(version)
        rollouts.write(now.assign("canary" if role == "canary" else "production", version, share or 0.0))

    def deactivate(self, version: str) -> Any:
        self.calls.append(("none", version))
        rollouts = Rollouts(self.registry)
        rollouts.write(rollouts.read().unassign(version))

    def models(self) -> Any:
        rollouts = Rollouts(self.registry)
        roles = {name: rollouts.read().roles(name) for name in rollouts.registry.names()}
        return {"models": [{"version": name, "variant": next(iter(held), None)} for name, held in roles.items()]}


def traffic(config: Config, clock: Clock, clicking: str, canary: bool = True) -> None:
    """Two hundred users, half of them in the canary if there is one; seven of eight users of one variant click."""
    store = SqliteHistory(Path(config.serve.state))
    impressions, clicks = [], []
    for number in range(200):
        tried = canary and number % 2
        variant, version = ("canary", "v2") if tried else ("production", "v1")
        ts = int(clock() * 1e6) + number
        impressions.append(Impression(f"r{ts}", ts, variant, version, ("sku-012",), (0.5,), f"u{ts}"))
        if variant == clicking and number % 16 > 1:
            clicks.append(LoggedEvent(f"e{ts}", f"u{ts}", Event("click", "sku-012", None, ts + 1), None, f"r{ts}"))
    store.log_impressions(impressions)
    store.append(clicks)
    store.close()


def tools_of(config: Config, clock: Clock, told: list[Entry]) -> tuple[loop.Tools, Server, list[tuple[Config, str]]]:
    server, stages = Server(config.registry_dir), []
    tools = loop.Tools(lambda settings, name: stages.append((settings, name)), server, clock, told.append)
    return tools, server, stages


def test_every_step_done_twice_by_crashes_leaves_one_version_and_one_journal(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, told = Clock(), list[Entry]()
    tools, server, stages = tools_of(config, clock, told)
    store = RoundStore(config.run_dir / "loop")
    record, died = RoundStore.record, set[str]()

    def dying(self: RoundStore, entry: Entry) -> bool:
        if entry.step not in died:
            died.add(entry.step)
            raise KilledError(entry.step)
        return record(self, entry)

    monkeypatch.setattr(RoundStore, "record", dying)
    traffic(config, clock, "production", canary=False)
    clock.now_s += 1
    standing: Round | None = None
    for _ in range(8):
        try:
            standing = loop.step(config, tools, store)
        except KilledError:
            continue
    assert standing is not None
    assert standing.step == "decide", "the canary waits for users"
    clock.now_s += HOUR_S
    traffic(config, clock, "canary")
    clock.now_s += 2 * HOUR_S
    for _ in range(3):
        try:
            standing = loop.step(config, tools, store)
        except KilledError:
            continue
    assert standing is not None
    assert standing.finished
    assert Registry(config.registry_dir).names() == ["v1", "v2"]
    assert Registry(config.registry_dir).production == "v2"
    assert server.calls[-1] == ("production", "v2")
    steps = [name for name, _ in loop.Steps(config, tools).all()]
    assert [one.step for one in store.journal()] == steps
    assert died == set(steps)
    texts = {one.step: one.text for one in store.journal()}
    assert texts["train"].startswith("full training; ")
    assert stages[0][0].train.start_from == "production"
    assert "try v2 as a canary: ndcg@10" in texts["publish"]
    assert "is in production" in texts["decide"]
    export = next((config.run_dir / "loop" / "exports").glob("events-*.parquet"))
    assert stages[0][0].data.slates.endswith("slates-*.parquet")
    assert stages[0][0].data.events[-1].path.endswith("events-*.parquet")
    assert [name for _, name in stages] == ["prepare", "prepare", "train", "train", "evaluate", "evaluate"]
    assert pl.read_parquet(export)["request_id"].n_unique() == 174
    assert loop.step(config, tools, store) is None, "the next round is not due"


def test_a_canary_that_loses_is_taken_back_with_the_inequality(config: Config) -> None:
    clock, told = Clock(), list[Entry]()
    tools, server, _ = tools_of(config, clock, told)
    loop.run(config, tools, once=True)
    traffic(config, clock, "production")
    clock.now_s += 2 * HOUR_S
    loop.run(config, tools, once=True)
    decision = next(one for one in told if one.step == "decide")
    assert decision.outcome == "end"
    assert "gain of at most -0" in decision.text
    assert server.calls == [("canary", "v2"), ("none", "v2")]
    assert Registry(config.registry_dir).production == "v1"


def test_a_canary_without_users_is_taken_back_in_the_end(config: Config) -> None:
    clock, told = Clock(), list[Entry]()
    tools, server, _ = tools_of(config, clock, told)
    loop.run(config, tools, once=True)
    clock.now_s += 73 * HOUR_S
    loop.run(config, tools, once=True)
    assert "73.0 h >= 72 h without a decision" in next(one.text for one in told if one.step == "decide")
    assert server.calls[-1] == ("none", "v2")


@pytest.mark.parametrize(("most", "role"), [(0.0, "none"), (0.01, "none"), (0.9, "production")])
def test_a_canary_that_is_surely_not_much_worse_is_promoted_in_the_end(config: Config, most: float, role: str) -> None:
    clock, told = Clock(), list[Entry]()
    config = with_overrides(config, {"loop.canary_max_loss": most})
    tools, server, _ = tools_of(config, clock, told)
    loop.run(config, tools, once=True)
    for clicking in ("canary", "production"):  # equally often
        traffic(config, clock, clicking)
        clock.now_s += 1
    clock.now_s += 73 * HOUR_S
    loop.run(config, tools, once=True)
    assert server.calls[-1] == (role, "v2")
    text = next(one.text for one in told if one.step == "decide")
    assert ("promote v2: loss of at most" in text) == (role == "production")


def test_without_a_server_the_gate_promotes_and_old_versions_go(config: Config) -> None:
    clock, told = Clock(), list[Entry]()
    tools = replace(tools_of(config, clock, told)[0], server=None)
    for _ in range(3):
        loop.run(config, tools, once=True)
        clock.now_s += 25 * HOUR_S
    registry = Registry(config.registry_dir)
    assert registry.production == "v4"
    assert registry.names() == ["v3", "v4"]
    assert [one.text for one in told if one.step == "prune"][1:] == ["removed v1", "removed v2"]
    assert next(iter(RoundStore(config.run_dir / "loop").journal())).step == "export"


def test_exports_are_removed_once_all_their_rows_are_old(config: Config) -> None:
    clock, told = Clock(), list[Entry]()
    short = with_overrides(config, {"loop.export_days": 30})
    tools = replace(tools_of(short, clock, told)[0], server=None)
    folder = config.run_dir / "loop" / "exports"
    traffic(short, clock, "production", canary=False)
    clock.now_s += 1
    loop.run(short, tools, once=True)
    assert sorted(file.name for file in folder.iterdir()) == ["events-000001.parquet", "slates-000001.parquet"]
    clock.now_s += 31 * 24 * HOUR_S
    traffic(short, clock, "production", canary=False)
    clock.now_s += 1
    loop.run(short, tools, once=True)
    assert sorted(file.name for file in folder.iterdir()) == ["events-000002.parquet", "slates-000002.parquet"]
    assert "removed events-000001.parquet, slates-000001.parquet" in told[-1].text


def test_a_round_is_due_by_time_or_by_new_events(config: Config) -> None:
    last = Round(1, "first round", int(START_S * 1e6), "finished", {"export": {"until_us": int(START_S * 1e6)}})
    later = int((START_S + 23 * HOUR_S) * 1e6)
    assert loop.due(config, None, later) == "first round"
    assert loop.due(config, last, later) == ""
    assert "25.0 h since the last start >= 24 h" in loop.due(config, last, later + int(2 * HOUR_S * 1e6))
    eager = with_overrides(config, {"loop.min_events": 40})
    assert loop.due(eager, last, later) == ""
    traffic(config, Clock(START_S + 1), "canary")
    assert loop.due(eager, last, later).startswith("new events: ")


def test_a_round_is_due_when_live_traffic_drifts_and_not_when_its_data_is_broken(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (config.registry_dir / "v1" / FILE).write_bytes(profile_of(tmp_path).to_bytes())
    end = LAST_US + DAY_US
    last = Round(1, "first round", end - DAY_US // 2, "finished", {"export": {"until_us": end - DAY_US}})
    wanted = "p" + (15 + pl.int_range(pl.len()) % 5).cast(pl.String)
    drifted = LAST_DAY.with_columns(item_id=pl.when(pl.col("item_id").is_not_null()).then(wanted))
    for day, reason in ((LAST_DAY, ""), (LAST_DAY.with_columns(pl.col("value") * 100), ""), (drifted, "mix of item")):
        Path(config.serve.state).unlink()
        store = SqliteHistory(Path(config.serve.state))
        slates, events = as_served(day)
        store.log_impressions(slates)
        store.append(events)
        store.close()
        trigger = loop.due(config, last, end)
        assert bool(trigger) == bool(reason)
        assert reason in trigger
    assert "no round starts: live fault from v1: mean value of a purchase" in caplog.text
    assert loop.due(config, replace(last, trigger=trigger), end) == ""  # a day is what is compared
    assert loop.due(config, replace(last, trigger=trigger, started_us=end - DAY_US), end)
    assert loop.due(with_overrides(config, {"loop.drift": False}), last, end) == ""
    assert loop.due(with_overrides(config, {"loop.min_h": 13}), last, end) == ""


def test_a_round_after_the_state_was_removed_does_not_take_the_number_of_an_earlier_one(config: Config) -> None:
    store = RoundStore(config.run_dir / "loop")
    store.folder.mkdir(parents=True, exist_ok=True)
    store.record(Entry(4, "export", 5, "done", "export is done"))

    def nothing(_: Config, stage: str) -> None:
        raise StageError(f"{stage} is not tried")

    with pytest.raises(StageError, match="is not tried"):
        loop.step(config, loop.Tools(nothing, clock=Clock()), store)
    present = store.read()
    assert present is not None
    assert (present.number, present.step) == (5, "prepare")
    assert [entry.round for entry in store.journal()] == [4, 5]


def test_a_second_loop_is_refused(config: Config) -> None:
    store = RoundStore(config.run_dir / "loop")
    with store.locked(), pytest.raises(StageError, match="another `txrec loop`"):
        loop.run(config, tools_of(config, Clock(), [])[0], once=True)


@contextmanager
def receiver(bodies: list[Any]) -> Iterator[str]:
    """A web server on loopback that keeps what is posted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keeps quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_gets_every_entry_and_one_that_is_down_stops_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bodies, shown = list[Any](), list[Entry]()
    entry = Entry(3, "publish", 5, "done", "promote v2: 0.2 >= 0.1")
    with receiver(bodies) as url:
        monkeypatch.setenv(loop.WEBHOOK_VARIABLE, url)
        tools = loop.tools(config, lambda *_: None, shown.append)
        tools.notify(entry)
    assert bodies == [{"id": "3-publish", **entry.__dict__}]
    tools.notify(entry)
    assert "the webhook was not reached" in caplog.text
    assert shown == [entry, entry]
