"""The demonstration from raw log to answered request, as a user runs it, on a small generated shop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from pipelines.__main__ import app
from tests.applications import deployed

ROOT = Path(__file__).parent.parent
SMALL = [
    "data.shop.num_items=150",
    "data.shop.num_users=200",
    "data.shop.num_events=5000",
    "prepare.num_partitions=1",
    "text.dim=16",
    "pretrain.max_steps=5",
    "model.dim=16",
    "model.num_layers=1",
    "train.max_epochs=1",
    "ranker.max_epochs=1",
    "ranker.max_examples=200",
    "evaluate.bootstrap=50",
]


class Shop:
    """A small shop's demonstration in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def command(self, *options: str, verb: str = "demo") -> list[str]:
        """Arguments of txrec."""
        places = [f"runs_root={self.folder}/runs", f"data.root={self.folder}/raw", f"serve.port={self.port}"]
        return [verb, "configs/demo.toml", *SMALL, *places, *options]

    def start(self, verb: str = "demo") -> subprocess.Popen[str]:
        """Starts a command of txrec; its output is one pipe."""
        command = [sys.executable, "tests/forking.py", "pipelines", *self.command(verb=verb)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def get(self, path: str) -> str:
        """Body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return str(response.read().decode())

    @property
    def run(self) -> Path:
        """The run's files."""
        return self.folder / "runs" / "demo"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def served(shop: Shop) -> str:
    """The demonstration up to `Ctrl-C stops everything`, then interrupted; all it printed."""

    def look() -> None:
        assert "txrec" in shop.get("/docs")
        assert json.loads(shop.get("/health/ready"))
        assert "gradio" in shop.get("/console/")

    return ended(shop.start(), "Ctrl-C stops everything", signal.SIGINT, 0, look)


def ended(
    process: subprocess.Popen[str], awaited: str, number: int, status: int, look: Callable[[], None] = lambda: None
) -> str:
    """Output of a command that gets a signal once it has printed a text; it ends with a status and leaves no process.

    Args:
        process: the command.
        awaited: the text.
        number: of the signal.
        status: expected of it.
        look: called before the signal.
    """
    printed, descendants = [], []
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if awaited in line:
            look()
            descendants = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
    assert process.wait(timeout=60) == status, "".join(printed)
    process.stdout.close()
    assert descendants, "".join(printed)
    _, alive = psutil.wait_procs(descendants, timeout=60)
    assert alive == [], "processes left running"
    return "".join(printed)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_demo_runs_every_stage_serves_and_stops_cleanly_on_ctrl_c(served: str, shop: Shop) -> None:
    for stage in ("prepare", "pretrain", "train", "evaluate", "publish"):
        assert re.search(rf"^✓ {stage} ", served, flags=re.MULTILINE)
    assert "Traceback" not in served
    assert "POST /v1/search" in served
    assert re.search(r"product +score +source +reason", served)
    assert (shop.run / "registry" / "production" / "manifest.json").is_file()


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_reports_say_what_was_read_and_how_good_the_model_is(served: str, shop: Shop) -> None:
    data = json.loads((shop.run / "reports" / "data.json").read_text())
    assert data["read"] == data["kept"] + sum(data["rejected"].values())
    metrics = json.loads((shop.run / "reports" / "metrics.json").read_text())
    assert {"ndcg@10", "recall@10", "mrr"} <= set(metrics["test"])
    assert {"popularity", "most_clicked"} <= set(metrics["baselines"])


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_second_run_reuses_everything_says_so_and_stops_after_one_answer(
    served: str, shop: Shop, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    deployed.stop()  # the port is another, the name of the application the same
    result = CliRunner().invoke(app, shop.command("serve.console=false", "serve.num_rankers=0", "--once"))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("unchanged, reused") == 5
    assert "POST /v1/search" in result.stdout


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_sigterm_ends_a_stage_with_one_line_status_143_and_no_process_left(tmp_path: Path) -> None:
    printed = ended(Shop(tmp_path).start("prepare"), "• prepare", signal.SIGTERM, 143)
    assert printed.splitlines()[-1] == "stopped by SIGTERM"
    assert "✗ prepare   did not finish" in printed
    assert "Traceback" not in printed
    assert "SIGTERM received" not in printed, "Ray's own report of a signal, with the addresses of its stack"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_sigterm_ends_the_server_with_one_line_status_143_and_no_process_left(served: str, shop: Shop) -> None:
    printed = ended(shop.start("serve"), "Ctrl-C stops everything", signal.SIGTERM, 143)
    assert printed.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in printed
