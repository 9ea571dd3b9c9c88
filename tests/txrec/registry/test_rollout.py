"""Who is answered by which version."""

from pathlib import Path

import pytest

from txrec.errors import BundleError, ConflictError, UnknownVersionError
from txrec.registry.registry import POINTER
from txrec.registry.rollout import Report, Rollout, Rollouts


def registry(folder: Path, *versions: str) -> Rollouts:
    for version in versions:
        (folder / version).mkdir(parents=True)
    (folder / POINTER).symlink_to(versions[0])
    return Rollouts(folder)


def test_a_share_of_the_users_gets_the_canary_and_always_the_same_ones() -> None:
    rollout = Rollout("v1", canary="v2", share=0.2)
    users = [f"user-{number}" for number in range(10_000)]
    chosen = {user for user in users if rollout.variant(user) == "canary"}
    assert 0.18 < len(chosen) / len(users) < 0.22
    assert chosen == {user for user in users if Rollout("v1", canary="v3", share=0.2).variant(user) == "canary"}
    wider = {user for user in users if Rollout("v1", canary="v2", share=0.5).variant(user) == "canary"}
    assert chosen < wider


def test_without_a_canary_everybody_gets_production() -> None:
    assert Rollout("v1", share=1.0).variant("anybody") == "production"
    assert Rollout("v1", canary="v2", share=1.0).variant("") == "canary"


def test_a_version_has_one_role() -> None:
    trials = Rollout("v1").assign("canary", "v2", 0.1).assign("shadow", "v3")
    assert trials.versions == ("v1", "v2", "v3")
    assert trials.assign("shadow", "v2") == Rollout("v1", shadow="v2")
    assert trials.assign("production", "v2") == Rollout("v2", shadow="v3")
    assert trials.unassign("v3").roles("v3") == ()
    with pytest.raises(ConflictError, match="v1 is in production"):
        trials.assign("canary", "v1", 0.1)


def test_what_is_written_is_read_by_others_and_survives(tmp_path: Path) -> None:
    first = registry(tmp_path, "v1", "v2", "v3")
    with first.locked() as rollout:
        written = first.write(rollout.assign("canary", "v2", 0.25).assign("shadow", "v3"))
    assert Rollouts(tmp_path).read() == written == Rollout("v1", "v2", 0.25, "v3", None, 1)


def test_trials_of_versions_that_left_or_became_production_are_over(tmp_path: Path) -> None:
    rollouts = registry(tmp_path, "v1", "v2", "v3")
    rollouts.write(rollouts.read().assign("canary", "v2", 0.25).assign("shadow", "v3"))
    (tmp_path / "v3").rmdir()
    (tmp_path / POINTER).unlink()
    (tmp_path / POINTER).symlink_to("v2")
    assert rollouts.read() == Rollout("v2", serial=1)


def test_two_cannot_change_it_at_the_same_time(tmp_path: Path) -> None:
    rollouts = registry(tmp_path, "v1")
    with rollouts.locked(), pytest.raises(ConflictError, match="under way"), Rollouts(tmp_path).locked():
        pass
    with Rollouts(tmp_path).locked():
        pass


def test_reports_belong_to_one_number(tmp_path: Path) -> None:
    rollouts = registry(tmp_path, "v1")
    first = rollouts.write(rollouts.read())
    rollouts.report(first.serial, Report("a", "ranker"))
    rollouts.report(first.serial, Report("a", "ranker", "damaged"))
    assert rollouts.reports(first.serial) == [Report("a", "ranker", "damaged")]
    second = rollouts.write(rollouts.read())
    assert rollouts.reports(second.serial) == rollouts.reports(first.serial) == []


def test_unknown_versions_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownVersionError, match="registered: v1"):
        registry(tmp_path, "v1").require("v9")
    with pytest.raises(BundleError, match="no version in production"):
        Rollouts(tmp_path / "empty").read()
