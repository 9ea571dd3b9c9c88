"""`ray start --head`, then `ray job submit`: the way to run a stage on a cluster."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.services import RAY, Head, ray_environment

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    "data.shop.num_items=150 data.shop.num_users=150 data.shop.num_events=3000 prepare.num_partitions=1"
    " text.encoder=none model.dim=16 model.num_layers=1 train.max_epochs=1 ranker.max_epochs=1 ranker.max_examples=100"
)


@pytest.mark.timeout(900)
def test_a_submitted_job_trains_to_success(tmp_path: Path, shared_ray_head: Head) -> None:
    entry = f"python -m pipelines train configs/demo.toml runs_root={tmp_path}/runs data.root={tmp_path}/raw {SMALL}"
    submit = [str(RAY), "job", "submit", "--address", shared_ray_head.dashboard, "--working-dir", "."]
    job = subprocess.run(
        [*submit, "--", *entry.split()],
        cwd=ROOT, env=ray_environment(), capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert job.returncode == 0, job.stdout[-4000:] + job.stderr[-2000:]
    assert re.search(r"Job 'raysubmit_\w+' succeeded", job.stdout)
    assert (tmp_path / "runs" / "demo" / "candidate" / "manifest.json").is_file()
