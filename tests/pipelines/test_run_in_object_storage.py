"""A whole run in object storage: prepare to publish, serve, swap, recommend, on a real S3 server and a real Redis."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
import tomli_w

from tests import services
from txrec import object_storage, objects
from txrec.config_loader import load

pytestmark = [pytest.mark.ray, pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
SETTINGS = (
    "runs_root=s3://shop/runs",
    "data.root=s3://shop/raw",
    "evaluate.bootstrap=50",
    "data.shop.num_items=200",
    "data.shop.num_users=200",
    "data.shop.num_events=4000",
    "prepare.num_partitions=2",
    "pretrain.max_steps=5",
    "train.max_epochs=1",
    "ranker.max_epochs=1",
    "serve.num_retrievers=1",
    "serve.num_rankers=0",
    "serve.console=false",
)


@pytest.mark.timeout(900)
def test_a_run_goes_from_the_log_to_swapped_models_and_slates_with_every_file_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.s3_server() as endpoint, services.redis() as state:
        services.use_s3(monkeypatch, endpoint)
        boto3.client("s3").create_bucket(Bucket="shop")
        settings = (*SETTINGS, f"serve.state={state}", f"serve.port={services.free_port()}")
        config = load(ROOT / "configs" / "demo.toml", settings)
        (tmp_path / "shop.toml").write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_defaults=True)))
        shown = run(tmp_path / "shop.toml", "s3://shop/slates", tmp_path)

        keys = {entry.key for entry in objects.listed("s3://shop/runs/demo")}
        assert {"stages.json", "data/meta.json", "reports/metrics.json", "reports/monitor.json"} <= keys
        assert {"candidate/manifest.json", "registry/v1/manifest.json", "registry/production.json"} <= keys
        assert not any(key.startswith("checkpoints/ray-") for key in keys)
        monkeypatch.setenv("TXREC_CACHE", str(tmp_path / "reader"))
        slates = object_storage.fetch(object_storage.local_path("s3://shop/slates"))
        table = pq.read_table(slates / "part-00000.parquet")
    assert table.num_rows == 200
    assert {len(items) for items in table["item_id"].to_pylist()} == {5}
    assert shown.split("$ txrec recommend")[0].count("unchanged, reused") == 3  # prepare, pretrain, train
    assert "candidate minus production" in shown
    assert "served by v1\n" in shown
    assert "after the swap by v2\n" in shown
    assert "after going back by v1 3 items\n" in shown
    assert not (ROOT / "s3:").exists()
    copies = sorted(path.name for path in (tmp_path / "workers" / "objects" / "s3" / "shop").iterdir())
    assert "runs" in copies  # the processes that Ray started had a working copy of their own


def run(config: Path, slates: str, folder: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    called = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.run_in_object_storage", config, slates, folder],
        env=kept | {"RAY_AUTH_MODE": "disabled"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stdout[-2000:] + called.stderr[-3000:]
    return called.stdout
