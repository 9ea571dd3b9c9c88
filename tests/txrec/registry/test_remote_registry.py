"""A registry and its rollout in object storage, against a real S3 server."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.models.replica_models import RegistrySource
from tests.object_stores import STORES, Store
from txrec import object_storage, objects
from txrec.config import Config, fingerprint
from txrec.errors import BundleError, ConflictError, StorageError
from txrec.object_storage import local_path
from txrec.recommender import bundle
from txrec.recommender.bundle import Manifest
from txrec.registry import bundle_cache
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry, state_file
from txrec.registry.rollout import Report, Rollouts
from txrec.registry.rollout_store import OBJECT_TTL_S


@pytest.fixture(scope="module", params=list(STORES))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param]() as running:
        yield running


@pytest.fixture
def place(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry in a new bucket."""
    monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "cache"))
    return f"{store.bucket(f'bucket{uuid.uuid4().hex}', monkeypatch)}/registry"


@pytest.fixture
def registry(place: str) -> Registry:
    return Registry(local_path(place))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Objects that were downloaded, as they come."""
    seen: list[str] = []
    real = objects.download

    def noted(uri: str, target: Path) -> None:
        seen.append(uri)
        real(uri, target)

    monkeypatch.setattr(objects, "download", noted)
    return seen


def small_bundle(folder: Path, weights: str) -> Path:
    """A bundle as far as files and checksums go."""
    folder.mkdir(parents=True)
    (folder / "weights").write_text(weights)
    (folder / "text").mkdir()
    (folder / "text" / "encoder").write_text("the same in all")
    made = Config(name="shop").model_dump(mode="json")
    files = {name: bundle.sha256(folder / name) for name in ("weights", "text/encoder")}
    manifest = Manifest(
        version="candidate",
        created="2026-01-01T00:00:00+00:00",
        config=made,
        config_fingerprint=fingerprint(made),
        data_fingerprint="data",
        files=files,
        fusion={},
        features=(),
        ranker={},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def publish(registry: Registry, folder: Path, weights: str, **decided: object) -> str:
    source = small_bundle(folder / weights, weights)
    with registry.locked() as version:
        fields = {"version": version, "metric": "ndcg@10", "value": 0.2, "margin": 0.01, "num_cases": 10, **decided}
        registry.add(source, {"test": {"ndcg@10": 0.2}}, Decision(**fields))  # type: ignore[arg-type]
    return version


def on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> Registry:
    monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "other"))
    return Registry(local_path(place))


def test_versions_and_moves_are_seen_by_another_machine(
    registry: Registry, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [publish(registry, tmp_path, "one"), publish(registry, tmp_path, "two")] == ["v1", "v2"]
    other = on_another_machine(tmp_path, monkeypatch, place)
    assert other.names() == ["v1", "v2"]
    assert other.production == "v2"
    assert [version.manifest.version for version in other.versions()] == ["v1", "v2"]
    assert other.rollback() == "v1"
    assert [(move["from"], move["to"], move["kind"]) for move in other.moves()] == [
        (None, "v1", "activate"),
        ("v1", "v2", "activate"),
        ("v2", "v1", "rollback"),
    ]


def test_a_bundle_is_fetched_once_per_machine_and_shared_files_once_for_all_versions(
    registry: Registry, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    publish(registry, tmp_path, "one")
    publish(registry, tmp_path, "two")
    other = on_another_machine(tmp_path, monkeypatch, place)
    assert (other.folder("v1") / "weights").read_text() == "one"
    assert (Registry(other.path).folder("v2") / "text" / "encoder").read_text() == "the same in all"
    other.folder("v1")
    assert downloads == [f"{place}/v1/weights", f"{place}/v1/text/encoder", f"{place}/v2/weights"]


def test_a_file_that_was_damaged_in_the_store_is_named_and_the_version_not_taken(
    registry: Registry, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, tmp_path, "one")
    objects.write(f"{place}/v1/weights", b"damaged")
    other = on_another_machine(tmp_path, monkeypatch, place)
    with pytest.raises(BundleError, match=r"v1/weights: damaged, sha256 is"):
        other.folder("v1")
    assert not (other.path / "v1" / "manifest.json").exists()


def test_bundles_that_were_opened_longest_ago_leave_the_machine_with_their_files(
    registry: Registry, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_cache, "KEPT_BUNDLES", 2)
    names = [publish(registry, tmp_path, weights) for weights in ("one", "two", "three")]
    other = on_another_machine(tmp_path, monkeypatch, place)
    for name in names:
        other.folder(name)
    assert not (other.path / "v1" / "weights").exists()
    assert (other.path / "v2" / "weights").is_file()
    assert len(list((object_storage.cache_folder() / "blobs").iterdir())) == 3  # two weights, one encoder


def test_a_half_uploaded_version_is_no_version_and_its_name_is_not_used_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = object_storage._upload

    def interrupted(file: Path) -> None:
        if file.name == "manifest.json":
            raise KeyboardInterrupt
        real(file)

    monkeypatch.setattr(object_storage, "_upload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(registry, tmp_path, "one")
    monkeypatch.setattr(object_storage, "_upload", real)
    assert registry.names() == []
    assert registry.production is None
    assert publish(registry, tmp_path, "two") == "v2"


def test_two_publishers_at_once_get_different_names(registry: Registry) -> None:
    with registry.locked() as first, registry.locked() as second:
        assert (first, second) == ("v1", "v2")


def test_publishers_that_listed_the_same_versions_get_the_next_free_names(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "folders", lambda _: ["v4"])  # all of them looked before the first one claimed
    names = []
    for _ in range(3):
        with registry.locked() as name:
            names.append(name)
    assert names == ["v5", "v6", "v7"]


def test_of_two_moves_at_once_none_is_lost(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(registry, tmp_path, "one")
    publish(registry, tmp_path, "two")
    real, between = objects.replace, [lambda: registry.activate("v1", "in between")]

    def overtaken(uri: str, content: bytes, version: str | None) -> str | None:
        if between:
            between.pop()()
        return real(uri, content, version)

    monkeypatch.setattr(objects, "replace", overtaken)
    registry.activate("v2", "last")
    assert [move["why"] for move in registry.moves()][-2:] == ["in between", "last"]
    assert registry.production == "v2"
    assert registry.moves()[-1]["from"] == "v1"


def test_of_two_changes_of_the_rollout_at_once_the_later_one_fails(
    registry: Registry, place: str, tmp_path: Path
) -> None:
    publish(registry, tmp_path, "one")
    publish(registry, tmp_path, "two", production="v1", production_value=0.9)  # not promoted
    first, second = Rollouts(registry.path), Rollouts(registry.path)
    with first.locked() as now, second.locked() as seen:
        first.write(now.assign("canary", "v2", 0.1))
        with pytest.raises(ConflictError, match="another change of the served models is under way"):
            second.write(seen.assign("shadow", "v2"))
    assert Rollouts(registry.path).read().canary == "v2"
    assert RegistrySource(place).rollout().canary == "v2"


def test_a_replica_that_stopped_renewing_its_report_does_not_count(registry: Registry, tmp_path: Path) -> None:
    import time

    publish(registry, tmp_path, "one")
    now = [time.time()]
    rollouts = Rollouts(registry.path, clock=lambda: now[0])
    rollouts.report(1, Report("a", "retriever"))
    assert rollouts.reports(1) == [Report("a", "retriever")]
    now[0] += OBJECT_TTL_S + 1
    assert rollouts.reports(1) == []
    rollouts.heartbeat(1, "a")
    now[0] = time.time()
    assert rollouts.reports(1) == [Report("a", "retriever")]


def test_a_database_is_refused_in_object_storage_with_the_reason(registry: Registry) -> None:
    with pytest.raises(StorageError, match=r"SQLite needs a local disk .*redis://HOST:6379/0"):
        state_file(registry.path)


def test_every_replica_of_a_machine_opens_the_bundle_that_was_fetched_once(
    registry: Registry, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path,
    downloads: list[str],
) -> None:  # fmt: skip
    source = tmp_path / "candidate"
    shutil.copytree(tiny_bundle, source)
    with registry.locked() as version:
        registry.add(source, {}, Decision(version=version, metric="ndcg@10", value=0.2, margin=0.01, num_cases=10))
    on_another_machine(tmp_path, monkeypatch, place)
    replica = RegistrySource(place)
    assert replica.rollout().production == "v1"
    opened, model = replica.open("v1")
    assert model.version == "v1"
    count = len(downloads)
    again, _ = replica.open("v1")
    assert len(downloads) == count == len(opened.bundle.manifest.files)  # type: ignore[attr-defined]
    assert again is not opened
