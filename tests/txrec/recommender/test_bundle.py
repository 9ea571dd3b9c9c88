import shutil
from pathlib import Path

import pytest

from txrec.errors import BundleError
from txrec.recommender.bundle import Bundle, publish_copy


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def test_an_opened_bundle_lists_a_checksum_for_every_file_but_the_manifest(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    found = {str(file.relative_to(tiny_bundle)) for file in tiny_bundle.rglob("*") if file.is_file()}
    assert set(bundle.manifest.files) == found - {"manifest.json"}


def test_a_damaged_file_is_named(copy: Path) -> None:
    file = copy / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"items\.parquet: damaged"):
        Bundle.open(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "model" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors: missing"):
        Bundle.open(copy)


def test_a_folder_without_manifest_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="run `txrec train CONFIG`"):
        Bundle.open(tmp_path)


def test_a_manifest_of_another_kind_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="not a manifest"):
        Bundle.open(copy)


def test_no_file_of_a_bundle_is_a_pickle(tiny_bundle: Path) -> None:
    kinds = {file.suffix for file in tiny_bundle.rglob("*") if file.is_file()}
    assert kinds <= {".json", ".parquet", ".safetensors", ".npy", ".faiss"}


def test_a_published_copy_carries_version_metrics_and_gate_and_still_verifies(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    publish_copy(tiny_bundle, tmp_path / "v1", "v1", {"test": {"ndcg@10": 0.5}}, {"promote": True})
    manifest = Bundle.open(tmp_path / "v1").manifest
    assert manifest.version == "v1"
    assert manifest.metrics["test"]["ndcg@10"] == 0.5
    assert manifest.gate == {"promote": True}
