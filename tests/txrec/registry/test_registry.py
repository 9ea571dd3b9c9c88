"""Versions, the pointer and the gate."""

import json
import shutil
import threading
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from txrec.errors import BundleError
from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.slice_warnings import SliceWarning
from txrec.recommender.bundle import Bundle
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry, state_file


def verdict(version: str, value: float = 0.2, **others: object) -> Decision:
    settings = {"metric": "ndcg@10", "margin": 0.01, "num_cases": 100} | others
    return Decision(version=version, value=value, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    registry = Registry(tmp_path_factory.mktemp("registry") / "registry")
    for value in (0.2, 0.3):
        with registry.locked() as version:
            registry.add(tiny_bundle, {"test": {"ndcg@10": value}}, verdict(version, value))
    return registry.path


@pytest.fixture
def registry(filled: Path, tmp_path: Path) -> Registry:
    shutil.copytree(filled, tmp_path / "registry", symlinks=True)
    return Registry(tmp_path / "registry")


def test_the_inequality_is_said_in_full() -> None:
    passed = verdict("v2", 0.1312, production="v1", production_value=0.1314)
    assert passed.promote
    assert str(passed) == "promote v2: ndcg@10 0.1312 >= 0.1301 required"
    failed = verdict("v2", 0.12, production="v1", production_value=0.1314)
    assert not failed.promote
    assert str(failed) == "keep v1, not v2: ndcg@10 0.1200 < 0.1301 required"


def test_slices_behind_a_baseline_are_in_the_record_and_decide_nothing() -> None:
    behind = SliceWarning("cold_item", "ndcg@10", 50, 0.1, "bm25", 0.3, Paired(Interval(-0.2, -0.3, -0.1), 0.001))
    chance = SliceWarning("tail_item", "ndcg@10", 50, 0.1, "bm25", 0.11, Paired(Interval(-0.01, -0.1, 0.1), 0.8))
    found = verdict("v1", 0.2, behind_baselines=(behind, chance))
    assert found.promote
    assert str(found).endswith("behind a baseline in cold item")
    assert [one["slice"] for one in found.to_dict()["behind_baselines"]] == ["cold_item", "tail_item"]


def test_the_best_baseline_and_the_interval_are_told_and_hold_nobody_back() -> None:
    found = verdict("v1", 0.1, interval=Interval(0.1, 0.08, 0.12), baseline="bm25", baseline_value=0.4)
    assert str(found) == (
        "promote v1: ndcg@10 0.1000, nothing in production to compare with; 95 % interval 0.0800 to 0.1200;"
        " best baseline bm25 0.4000"
    )
    assert found.to_dict()["interval"] == {"mean": 0.1, "low": 0.08, "high": 0.12}


def test_the_first_version_is_promoted_for_want_of_another() -> None:
    assert str(verdict("v1", 0.1)) == "promote v1: ndcg@10 0.1000, nothing in production to compare with"


def test_an_unanswered_smoke_query_stops_a_better_version() -> None:
    found = verdict("v2", 0.9, production="v1", production_value=0.1, unanswered=("halo",))
    assert not found.promote
    assert "no answer to 'halo'" in str(found)


def test_without_production_an_unanswered_query_keeps_no_version_at_all() -> None:
    unanswered = verdict("v1", 0.9, unanswered=("halo", "qi"))
    assert not unanswered.promote
    assert str(unanswered) == (
        "keep no version, not v1: ndcg@10 0.9000, nothing in production to compare with; no answer to 'halo', 'qi'"
    )
    assert unanswered.to_dict()["unanswered"] == ["halo", "qi"]


def test_a_production_version_that_cannot_be_opened_is_named_with_its_problem() -> None:
    unopened = verdict("v2", 0.1, production="v1", production_problem="manifest.json: damaged")
    assert unopened.promote
    assert "v1 in production cannot be opened, manifest.json: damaged" in str(unopened)


def test_several_slices_behind_a_baseline_are_listed() -> None:
    below = Paired(Interval(-0.2, -0.3, -0.1), 0.001)
    warnings = tuple(SliceWarning(name, "mrr", 9, 0.1, "bm25", 0.3, below) for name in ("cold_item", "new_user"))
    assert str(verdict("v1", behind_baselines=warnings)).endswith("behind a baseline in cold item, new user")


def test_the_record_has_every_field_of_the_decision_and_what_follows_from_them() -> None:
    record = verdict("v2", 0.12, production="v1", production_value=0.2).to_dict()
    derived = {"required", "passed", "passed_as_served", "promote", "forced", "decision"}
    assert set(record) == {field.name for field in fields(Decision)} | derived
    assert record["required"] == pytest.approx(0.198)
    assert record["decision"] == "keep v1, not v2: ndcg@10 0.1200 < 0.1980 required"


def test_force_promotes_and_is_recorded_only_where_it_was_needed() -> None:
    worse = verdict("v2", 0.1, production="v1", production_value=0.2, force=True)
    assert worse.promote
    assert worse.forced
    assert str(worse).startswith("promote v2 by force: ndcg@10 0.1000 < 0.1980 required")
    assert worse.to_dict()["forced"] is True
    assert not verdict("v2", 0.3, production="v1", production_value=0.2, force=True).forced


def test_versions_are_numbered_and_carry_metrics_and_decision(registry: Registry) -> None:
    versions = registry.versions()
    assert [version.name for version in versions] == ["v1", "v2"]
    assert [version.in_production for version in versions] == [False, True]
    assert versions[1].manifest.version == "v2"
    assert versions[1].manifest.metrics["test"]["ndcg@10"] == 0.3
    assert versions[1].manifest.gate["decision"].startswith("promote v2")


def test_the_production_folder_opens_as_a_verified_bundle(registry: Registry) -> None:
    assert Bundle.open(registry.path / "production").manifest.version == "v2"
    assert registry.folder() == registry.path / "v2"


def test_a_version_that_is_not_promoted_leaves_the_pointer(registry: Registry, tiny_bundle: Path) -> None:
    with registry.locked() as version:
        assert version == "v3"
        registry.add(tiny_bundle, {}, verdict(version, 0.1, production="v2", production_value=0.3))
    assert registry.production == "v2"
    assert registry.versions()[2].manifest.gate["promote"] is False


def test_a_version_that_is_promoted_moves_the_pointer_by_an_activation(registry: Registry, tiny_bundle: Path) -> None:
    with registry.locked() as version:
        decision = verdict(version, 0.4, production="v2", production_value=0.3)
        registry.add(tiny_bundle, {}, decision)
    assert registry.production == "v3"
    move = registry.moves()[-1]
    assert (move["from"], move["to"], move["kind"], move["why"]) == ("v2", "v3", "activate", str(decision))


def test_rolling_back_returns_to_what_was_there_before(registry: Registry) -> None:
    assert registry.rollback() == "v1"
    assert registry.production == "v1"
    with pytest.raises(BundleError, match="no earlier version"):
        registry.rollback()
    registry.activate("v2")
    assert registry.production == "v2"
    assert [move["to"] for move in registry.moves()] == ["v1", "v2", "v1", "v2"]


def test_the_way_back_follows_the_kind_of_each_move_whatever_its_reason_says(registry: Registry) -> None:
    registry.activate("v1", "rolled back from v2, says a person who activated it")
    assert registry.previous() == "v2"
    registry.activate("v2", "another wording", "rollback")
    assert registry.previous() == "v1"
    assert [move["kind"] for move in registry.moves()][-2:] == ["activate", "rollback"]


def test_the_pointer_is_there_at_every_moment_of_a_move(registry: Registry) -> None:
    """Readers in another thread never find it missing or half made, however often it moves."""
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add((registry.path / "production" / "manifest.json").is_file() and registry.production)

    reader = threading.Thread(target=read)
    reader.start()
    for version in ("v1", "v2") * 50:
        registry._pointer.move(version, "moved", "activate")
    stop.set()
    reader.join()
    assert seen <= {"v1", "v2"}
    assert registry.production == "v2"
    assert not list(registry.path.glob(".production*"))


def test_versions_are_sorted_by_number_and_other_folders_are_none(tmp_path: Path) -> None:
    for name in ("v10", "v9", "v1", "v01", "v0", "vx", "av1", "v1.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "v2").write_text("a file")
    assert Registry(tmp_path).names() == ["v1", "v9", "v10"]
    with Registry(tmp_path).locked() as version:
        assert version == "v11"


def test_listing_reads_manifests_alone_and_names_each_folder(registry: Registry) -> None:
    damaged = registry.path / "v1" / "items.parquet"
    damaged.write_bytes(b"no table")
    assert [version.path for version in registry.versions()] == [registry.path / "v1", registry.path / "v2"]


def test_every_move_is_recorded_with_time_kind_and_reason(registry: Registry) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    registry.activate("v1")
    registry.activate("v2", "it is better")
    registry.rollback()
    first, second, by_hand, named, back = registry.moves()
    assert (first["from"], first["to"], first["kind"]) == (None, "v1", "activate")
    assert first["why"] == str(verdict("v1", 0.2))
    assert second["why"] == str(verdict("v2", 0.3))
    assert (by_hand["kind"], by_hand["why"]) == ("activate", "activated by hand")
    assert (named["kind"], named["why"]) == ("activate", "it is better")
    assert (back["from"], back["to"]) == ("v2", "v1")
    assert (back["kind"], back["why"]) == ("rollback", "rolled back from v2")
    at = datetime.fromisoformat(back["at"])
    assert before <= at <= datetime.now(UTC)


def test_a_record_without_a_kind_was_an_activation(registry: Registry) -> None:
    file = registry.path / "moves.jsonl"
    old = [{key: value for key, value in move.items() if key != "kind"} for move in registry.moves()]
    file.write_text("".join(json.dumps(move) + "\n" for move in old))
    assert [move["kind"] for move in registry.moves()] == ["activate", "activate"]
    assert registry.previous() == "v1"


def test_a_registry_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "none")
    assert (registry.names(), registry.versions(), registry.moves(), registry.production) == ([], [], [], None)
    with pytest.raises(BundleError, match=r"no version 'v1'; registered: none$"):
        registry.folder("v1")


def test_events_are_kept_beside_the_registry_that_a_bundle_is_part_of_or_beside_the_bundle(registry: Registry) -> None:
    beside = registry.path.parent / "state" / "history.sqlite"
    assert state_file(registry.path) == beside
    assert state_file(registry.path / "v1") == beside
    candidate = registry.path.parent / "somewhere" / "candidate"
    assert state_file(candidate) == registry.path.parent / "somewhere" / "state" / "history.sqlite"


def test_an_unknown_version_is_named_with_those_that_exist(registry: Registry) -> None:
    with pytest.raises(BundleError, match=r"no version 'v9'; registered: v1, v2"):
        registry.activate("v9")


def test_a_damaged_version_is_not_activated(registry: Registry) -> None:
    file = registry.path / "v1" / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"items.parquet: damaged"):
        registry.activate("v1")
    assert registry.production == "v2"


def test_nothing_in_production_says_how_to_get_something(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no version in production; run `txrec publish CONFIG`"):
        Registry(tmp_path / "none").folder()
