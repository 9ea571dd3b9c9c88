"""Object storage of three kinds against servers: working copies, conditional writes, interrupted uploads, errors."""

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_stores import STORES, Store
from txrec import object_storage, objects
from txrec.errors import StorageError
from txrec.object_storage import fetch, local_path, place_of, remove, share, uri_of


@pytest.fixture(scope="module", params=list(STORES))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param]() as running:
        yield running


@pytest.fixture
def bucket(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, as this machine sees it with an empty cache."""
    monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "cache"))
    return store.bucket(f"bucket{uuid.uuid4().hex}", monkeypatch)


def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "other-cache"))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        target = folder / name.replace("__", "/").replace("_json", ".json")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def keys(uri: str) -> list[str]:
    return [entry.key for entry in objects.listed(uri)]


def test_a_local_path_stays_and_is_neither_fetched_nor_shared(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert local_path(folder) == folder
    assert uri_of(folder) is None
    assert place_of(folder) == str(folder)
    assert fetch(folder) == folder
    share(folder)
    assert not folder.exists()


def test_a_uri_becomes_a_path_below_the_cache_and_back(bucket: str) -> None:
    path = local_path(f"{bucket}/runs/demo/")
    assert path.is_relative_to(object_storage.cache_folder())
    assert place_of(path / "data") == f"{bucket}/runs/demo/data"


@pytest.mark.parametrize("place", ["ftp://host/x", "s3://", "s3://bucket/../other"])
def test_a_place_that_is_no_bucket_is_refused_with_the_schemes_there_are(place: str) -> None:
    with pytest.raises(StorageError, match=r"s3://, gs:// or az://"):
        local_path(place)


def test_a_folder_that_one_machine_shares_is_fetched_by_another(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = local_path(f"{bucket}/runs/data")
    write(folder, a="one", sub__b="two", meta_json="{}")
    share(folder)
    another_machine(tmp_path, monkeypatch)
    other = fetch(local_path(f"{bucket}/runs/data"))
    assert other != folder
    assert {str(file.relative_to(other)): file.read_text() for file in other.rglob("*") if file.is_file()} == {
        "a": "one",
        "sub/b": "two",
        "meta.json": "{}",
    }


def test_only_changed_files_travel_and_removed_ones_go_on_both_sides(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = local_path(f"{bucket}/data")
    write(folder, a="one", b="two", meta_json="{}")
    share(folder)
    here = tmp_path / "cache"
    another_machine(tmp_path, monkeypatch)
    other = fetch(local_path(f"{bucket}/data"))
    monkeypatch.setenv("TXREC_CACHE", str(here))
    (folder / "b").unlink()
    write(folder, a="changed")
    share(folder)
    another_machine(tmp_path, monkeypatch)
    untouched = (other / "a").stat().st_mtime_ns
    downloads: list[str] = []
    real = objects.download

    def noted(uri: str, target: Path) -> None:
        downloads.append(uri)
        real(uri, target)

    monkeypatch.setattr(objects, "download", noted)
    fetch(other)
    fetch(other)
    marker = f"{bucket}/data/meta.json"  # written anew: on Azure that is a new version, whatever its content
    assert [uri for uri in downloads if uri != marker] == [f"{bucket}/data/a"]
    assert downloads.count(marker) <= 1
    assert (other / "a").read_text() == "changed"
    assert (other / "a").stat().st_mtime_ns != untouched
    assert not (other / "b").exists()


def test_files_that_were_never_shared_survive_a_fetch(bucket: str) -> None:
    folder = local_path(f"{bucket}/data")
    write(folder, a="mine")
    fetch(folder)
    assert (folder / "a").read_text() == "mine"


def test_an_interrupted_upload_leaves_a_folder_without_its_marker(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local_path(f"{bucket}/bundle")
    write(folder, a="old", b="old", manifest_json="old")
    share(folder)
    write(folder, a="new", b="new", manifest_json="new")
    real = object_storage._upload
    uploaded: list[str] = []

    def interrupted(file: Path) -> None:
        if uploaded:
            raise KeyboardInterrupt
        uploaded.append(file.name)
        real(file)

    monkeypatch.setattr(object_storage, "_upload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        share(folder)
    assert "manifest.json" not in keys(f"{bucket}/bundle")
    monkeypatch.setattr(object_storage, "_upload", real)
    share(folder)
    assert keys(f"{bucket}/bundle") == ["a", "b", "manifest.json"]


def test_one_file_is_shared_fetched_and_removed_alone(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = local_path(f"{bucket}/stages.json")
    write(file.parent, stages_json="{}")
    share(file)
    another_machine(tmp_path, monkeypatch)
    other = fetch(local_path(f"{bucket}/stages.json"))
    assert other.read_text() == "{}"
    remove(other)
    assert keys(bucket) == []
    assert not other.exists()


def test_of_two_writers_that_read_the_same_version_one_succeeds(bucket: str) -> None:
    uri = f"{bucket}/pointer.json"
    first = objects.replace(uri, b"1", None)
    assert first is not None
    assert objects.replace(uri, b"another", None) is None
    second = objects.replace(uri, b"2", first)
    assert second is not None
    assert objects.replace(uri, b"late", first) is None
    assert objects.read(uri) == (b"2", second)


def test_a_large_file_arrives_whole_and_is_not_sent_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local_path(f"{bucket}/data")
    folder.mkdir(parents=True)
    content = random.Random(1).randbytes(objects._PART_BYTES + 1)
    (folder / "large").write_bytes(content)
    share(folder)
    assert _content(f"{bucket}/data/large") == content
    assert objects.folders(bucket) == ["data"]
    monkeypatch.setattr(object_storage, "_upload", lambda file: pytest.fail(f"sends {file} again"))
    monkeypatch.setattr(object_storage, "_download", lambda file, _: pytest.fail(f"fetches {file} again"))
    share(folder)
    fetch(folder)


def test_checkpoints_of_ray_and_files_of_commands_are_the_same_objects(bucket: str) -> None:
    if bucket.startswith("gs://"):
        pytest.skip("Arrow speaks Google's JSON interface, which the test server does not have")
    filesystem, place = objects.arrow_filesystem(f"{bucket}/runs/checkpoints")
    filesystem.create_dir(place)
    with filesystem.open_output_stream(f"{place}/train.pt") as stream:
        stream.write(b"weights")
    assert _content(f"{bucket}/runs/checkpoints/train.pt") == b"weights"
    assert keys(f"{bucket}/runs/checkpoints") == ["train.pt"]
    assert (fetch(local_path(f"{bucket}/runs/checkpoints")) / "train.pt").read_bytes() == b"weights"


def test_a_missing_bucket_is_one_line_that_names_it(bucket: str) -> None:
    scheme = bucket.partition(":")[0]
    reason = "ContainerNotFound" if scheme == "az" else "NoSuchBucket"
    message = rf"{scheme}://nowhere-at-all/runs: cannot be reached \({reason}\)"
    with pytest.raises(StorageError, match=message) as caught:
        objects.listed(f"{scheme}://nowhere-at-all/runs")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_path_that_this_machine_does_not_see_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"shares no storage .* set runs_root to object storage"):
        object_storage.require_seen(tmp_path / "data", "runs_root")


def _content(uri: str) -> bytes:
    stored = objects.read(uri)
    assert stored is not None, uri
    return stored[0]
