"""`ray start --head`, then `ray job submit`: the way to run a stage on a cluster."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RAY = Path(sys.executable).parent / "ray"
SMALL = (
    "data.shop.num_items=200 data.shop.num_users=200 data.shop.num_events=4000 pretrain.max_steps=5"
    " train.max_epochs=1 ranker.max_epochs=1"
)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "PATH": f"{RAY.parent}:{kept['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def head() -> Iterator[str]:
    """A cluster started by `ray start --head`; yields its dashboard's address. Only this cluster is stopped."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # Ray's socket paths must be short
    dashboard = _free_port()
    command = [str(RAY), "start", "--head", "--block", f"--port={_free_port()}", f"--temp-dir={folder}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--ray-client-server-port={_free_port()}", f"--dashboard-agent-listen-port={_free_port()}"]
    log = Path(folder) / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=_environment(), stdout=output, stderr=output, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        _wait_until_answering(address, process, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_answering(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        listed = subprocess.run(
            [str(RAY), "job", "list", "--address", address], env=_environment(), capture_output=True, check=False
        )
        if listed.returncode == 0:
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(f"the cluster did not answer at {address}: {log.read_text()}")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_submitted_job_trains_to_success(head: str, tmp_path: Path) -> None:
    entry = f"python -m pipelines train configs/demo.toml runs_root={tmp_path}/runs data.root={tmp_path}/raw {SMALL}"
    command = [str(RAY), "job", "submit", "--address", head, "--working-dir", ".", "--", *entry.split()]
    job = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False, timeout=580
    )
    assert job.returncode == 0, job.stdout[-4000:] + job.stderr[-2000:]
    assert re.search(r"Job 'raysubmit_\w+' succeeded", job.stdout)
    assert (tmp_path / "runs" / "demo" / "candidate" / "manifest.json").is_file()
