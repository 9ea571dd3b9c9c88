"""A whole run in object storage, from the raw log to slates, by the command line against a real S3 server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from tests import services
from txrec import object_storage, objects

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
SETTINGS = (
    "runs_root=s3://shop/runs",
    "data.root=s3://shop/raw",
    "serve.state=redis://localhost:6379/0",
    "evaluate.bootstrap=50",
    "data.shop.num_items=200",
    "data.shop.num_users=200",
    "data.shop.num_events=4000",
    "pretrain.max_steps=5",
    "train.max_epochs=1",
    "ranker.max_epochs=1",
)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with services.s3() as address:
        storage = services.s3_environment(f"http://{address}")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        yield {**kept, **storage}


def txrec(environment: dict[str, str], cache: Path, command: str, *arguments: str) -> str:
    called = subprocess.run(
        [sys.executable, "-m", "pipelines", command, "configs/demo.toml", *SETTINGS, *arguments],
        env={**environment, "TXREC_CACHE": str(cache)}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr[-3000:]
    return called.stdout


def test_a_run_goes_from_the_log_to_slates_with_nothing_left_on_the_machine_in_between(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="shop")
    txrec(environment, tmp_path / "first", "publish")
    shutil.rmtree(tmp_path / "first")
    keys = {entry.key for entry in objects.listed("s3://shop/runs/demo")}
    assert {"stages.json", "data/meta.json", "reports/metrics.json", "registry/production.json"} <= keys
    assert {"candidate/manifest.json", "registry/v1/manifest.json"} <= keys

    shown = txrec(environment, tmp_path / "second", "recommend", "--out", "s3://shop/slates", "--top-k", "5")
    assert "200 users" in shown
    monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "third"))
    slates = pq.read_table(object_storage.fetch(object_storage.local_path("s3://shop/slates")) / "part-00000.parquet")
    assert slates.num_rows == 200
    assert {len(items) for items in slates["item_id"].to_pylist()} == {5}

    again = txrec(environment, tmp_path / "third", "train")
    assert again.count("unchanged, reused") == 3  # prepare, pretrain, train: on another machine as well
    assert not (ROOT / "s3:").exists()
