"""Changing the served models, with replicas that are functions."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.models.switch import Switch
from serve.types import Model
from txrec.config import ServeConfig
from txrec.errors import ConflictError, UnavailableError, UnknownVersionError
from txrec.registry.registry import POINTER, MoveKind, Registry
from txrec.registry.rollout import HEARTBEAT_TTL_S, Report, Rollout, Rollouts

CONFIG = ServeConfig(num_retrievers=2, num_rankers=1)
KINDS = ("retriever", "retriever", "ranker")
Replica = Callable[[Rollout], str | None]


def _point_only(registry: Registry, version: str, why: str = "", kind: MoveKind = "activate") -> None:
    """`Registry.activate` without a real bundle behind the version."""
    registry._pointer.move(version, why, kind)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in ("v1", "v2", "v3"):
        (tmp_path / version).mkdir()
    (tmp_path / POINTER).symlink_to("v1")
    monkeypatch.setattr(Registry, "activate", _point_only)
    return tmp_path


class Ticking:
    """A clock that moves on by 30 s with every look."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 30.0
        return self.now_s


def ready(_: Rollout) -> str | None:
    return None


def refuses_v2(rollout: Rollout) -> str | None:
    return "v2/items.parquet: damaged" if rollout.staged == "v2" else None


async def follow(registry: Path, replicas: tuple[Replica, ...]) -> None:
    """Answers every rollout as real replicas do."""
    rollouts, answered = Rollouts(registry), -1
    while True:
        rollout = rollouts.read()
        if rollout.serial != answered:
            answered = rollout.serial
            for place, (replica, kind) in enumerate(zip(replicas, KINDS, strict=True)):
                rollouts.report(rollout.serial, Report(f"r{place}", kind, replica(rollout)))
        await asyncio.sleep(0.01)


def run(registry: Path, *steps: tuple[object, ...], replicas: tuple[Replica, ...] = (ready,) * 3) -> list[Rollout]:
    """Calls methods of a switch one after another: (name, arguments...)."""

    async def scenario() -> list[Rollout]:
        following = asyncio.create_task(follow(registry, replicas))
        switch = Switch(registry, CONFIG)
        try:
            return [await getattr(switch, str(name))(*arguments) for name, *arguments in steps]
        finally:
            following.cancel()

    return asyncio.run(scenario())


def test_a_version_goes_into_production_when_all_replicas_are_ready(registry: Path) -> None:
    (rollout,) = run(registry, ("activate", "v2", "production"))
    assert (rollout.production, rollout.staged) == ("v2", None)
    assert Registry(registry).production == "v2"
    assert Registry(registry).moves()[-1]["why"] == "activated over HTTP"


def test_one_replica_that_refuses_keeps_the_old_one(registry: Path) -> None:
    with pytest.raises(ConflictError, match=r"v2 is refused, v1 stays: v2/items\.parquet: damaged"):
        run(registry, ("activate", "v2", "production"), replicas=(ready, refuses_v2, ready))
    assert Rollouts(registry).read().versions == ("v1",)


def test_replicas_that_are_not_ready_in_time_keep_the_old_one(registry: Path) -> None:
    switch = Switch(registry, CONFIG, clock=Ticking())
    with pytest.raises(UnavailableError, match="0 of 2 retrievers and 0 of 1 rankers"):
        asyncio.run(switch.activate("v2", "production"))
    assert Rollouts(registry).read().versions == ("v1",)


def test_the_report_of_a_replica_that_died_does_not_count_for_its_successor(registry: Path) -> None:
    now_s = 1_000.0
    rollouts = Rollouts(registry, clock=lambda: now_s)
    switch = Switch(registry, CONFIG, clock=Ticking(), rollouts_clock=lambda: now_s)

    async def scenario() -> None:
        nonlocal now_s
        activation = asyncio.create_task(switch.activate("v2", "production"))
        await asyncio.sleep(0)
        staged = rollouts.read().serial
        for replica, kind in (("dead", "retriever"), ("first", "retriever"), ("ranker", "ranker")):
            if replica == "dead":
                rollouts.report(staged, Report(replica, kind))
                now_s += HEARTBEAT_TTL_S + 1.0
            else:
                rollouts.report(staged, Report(replica, kind))
        await activation

    with pytest.raises(UnavailableError, match="1 of 2 retrievers and 1 of 1 rankers"):
        asyncio.run(scenario())


def test_two_rankers_do_not_stand_in_for_a_retriever(registry: Path) -> None:
    async def scenario() -> None:
        activation = asyncio.create_task(Switch(registry, CONFIG, clock=Ticking()).activate("v2", "production"))
        await asyncio.sleep(0)
        for replica, kind in (("a", "retriever"), ("b", "ranker"), ("c", "ranker")):
            Rollouts(registry).report(Rollouts(registry).read().serial, Report(replica, kind))
        await activation

    with pytest.raises(UnavailableError, match="1 of 2 retrievers"):
        asyncio.run(scenario())


def test_trials_begin_end_and_give_way(registry: Path) -> None:
    steps = (("activate", "v2", "canary", 0.1), ("activate", "v3", "shadow"), ("deactivate", "v2"))
    canary, shadow, ended = run(registry, *steps)
    assert (canary.canary, canary.share) == ("v2", 0.1)
    assert shadow.versions == ("v1", "v2", "v3")
    assert ended.versions == ("v1", "v3")
    for name, version in (("deactivate", "v1"), ("deactivate", "v2")):
        with pytest.raises(ConflictError):
            run(registry, (name, version))
    with pytest.raises(ConflictError, match="in production"):
        run(registry, ("activate", "v1", "canary", 0.5))


def test_a_rollback_goes_to_the_version_before_and_no_further(registry: Path) -> None:
    *_, back = run(registry, ("activate", "v2", "production"), ("rollback",))
    assert back.production == "v1"
    with pytest.raises(ConflictError, match="no earlier version"):
        run(registry, ("rollback",))


def test_an_unknown_version_is_named(registry: Path) -> None:
    with pytest.raises(UnknownVersionError, match="no version 'v9'"):
        run(registry, ("activate", "v9", "production"))


def test_all_versions_are_listed_a_damaged_one_by_its_name(registry: Path) -> None:
    run(registry, ("activate", "v2", "canary", 0.25))
    (registry / "v3" / "manifest.json").write_text(json.dumps({"no": "manifest"}), encoding="utf-8")
    listed = Switch(registry, CONFIG).listed(Model("v1", num_items=7))
    assert [(one.model.version, one.roles, one.share) for one in listed] == [
        ("v1", ("production",), 0.75),
        ("v2", ("canary",), 0.25),
        ("v3", (), 0.0),
    ]
    assert listed[0].model.num_items == 7
