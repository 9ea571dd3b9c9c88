"""Every command of the README and of the help pages, run in order as it stands there, in a fresh folder.

Small settings are appended to commands that take a configuration, and requests go to the port of the test's own server.
All commands share one Ray cluster, whose processes run in another folder: relative paths that reach them unchanged
lead nowhere. The first command and the server are processes of their own; the other commands share one.
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import typer.main

from pipelines.__main__ import app
from tests.services import Head, free_port, ray_environment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    "data.shop.num_items=150",
    "data.shop.num_users=150",
    "data.shop.num_events=4000",
    "prepare.num_partitions=1",
    "text.vocab_size=500",
    "text.dim=16",
    "pretrain.max_steps=4",
    "model.dim=16",
    "model.num_layers=1",
    "model.max_length=16",
    "train.max_epochs=1",
    "ranker.max_epochs=1",
    "ranker.max_examples=200",
    "evaluate.bootstrap=50",
    "tune.num_trials=1",
    "serve.console=false",
    "serve.num_rankers=0",
]
TAKES_NO_SETTINGS = ("models",)
LEADS = {"txrec", "curl"}

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def commands() -> list[list[str]]:
    """Command lines of the README's sh blocks, then those of the help pages, split as a shell splits them."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    of_help = [line for text in help_texts() for line in re.findall(r"^ {4,}(txrec .*)$", text, flags=re.MULTILINE)]
    return [words for words in (shlex.split(line, comments=True) for line in [*lines, *of_help]) if words]


def help_texts() -> list[str]:
    """Help of the program and of each of its commands."""
    program: Any = typer.main.get_command(app)  # typed as a command without others, although it has them
    return [command.help or "" for command in (program, *program.commands.values())]


@dataclass
class Checkout:
    """A folder that holds what a plain checkout holds of relative paths, and the server that was started there."""

    folder: Path
    port: int
    head: Head
    server: subprocess.Popen[str] | None = None
    others: subprocess.Popen[str] | None = None
    """Process that the commands after the first one share."""

    @property
    def run(self) -> Path:
        """Files of the demonstration's run."""
        return self.folder / "runs" / "demo"

    def txrec(self, words: list[str]) -> list[str]:
        """A command line of the installed program, with small settings at its end, where they count."""
        if words[1] in TAKES_NO_SETTINGS:
            return [sys.executable, "-m", "pipelines", *words[1:]]
        return [sys.executable, "-m", "pipelines", *words[1:], *SMALL, f"serve.port={self.port}"]

    def call(self, words: list[str]) -> str:
        """Standard output of a command that must succeed."""
        if words[0] == "txrec" and (self.folder / "runs").exists():
            code, output, error = self._call_in_shared_process(self.txrec(words)[3:])
        else:
            command = self.txrec(words) if words[0] == "txrec" else self.curl(words)
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False
            )
            code, output, error = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{shlex.join(words)}\n{output}\n{error}"
        assert "Traceback" not in output + error, f"{shlex.join(words)}\n{error}"
        return output

    def _call_in_shared_process(self, arguments: list[str]) -> tuple[int, str, str]:
        if self.others is None:
            self.others = subprocess.Popen(
                [sys.executable, "-m", "tests.command_lines"],
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.others.stdin is not None
        assert self.others.stdout is not None
        self.others.stdin.write(json.dumps(arguments) + "\n")
        self.others.stdin.flush()
        code, output, error = json.loads(self.others.stdout.readline())
        return code, output, error

    def curl(self, words: list[str]) -> list[str]:
        """The same request to this server."""
        return [word.replace("localhost:8000", f"127.0.0.1:{self.port}") for word in words]

    @property
    def environment(self) -> dict[str, str]:
        """Joins the cluster."""
        return {**ray_environment(), "RAY_ADDRESS": self.head.address, "OMP_NUM_THREADS": "1"}

    def serve(self, words: list[str]) -> None:
        """Starts the server in the background and waits until it answers."""
        log = self.folder / "server.log"
        with log.open("w") as stream:
            self.server = subprocess.Popen(
                self.txrec(words),
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        assert self.server.stdout is not None
        printed = []
        for line in self.server.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                return
        pytest.fail("the server ended: " + "".join(printed) + log.read_text())

    def stop(self) -> None:
        """Ends the processes; the server by Ctrl-C."""
        if self.others is not None:
            self.others.communicate(timeout=60)  # the end of its input
            self.others = None
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            self.server.communicate(timeout=60)
            self.server = None


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, shared_ray_head: Head) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", folder / "configs")
    opened = Checkout(folder, free_port(), shared_ray_head)
    try:
        yield opened
    finally:
        opened.stop()


@pytest.fixture(scope="module")
def printed(checkout: Checkout) -> dict[str, str]:
    """Output of each command of the README by its words; the server runs from its own command on."""
    outputs: dict[str, str] = {}
    for words in commands():
        if words[0] not in LEADS:
            continue
        if words[:2] == ["txrec", "serve"]:
            checkout.serve(words)
            outputs[shlex.join(words)] = ""
        else:
            outputs[shlex.join(words)] = checkout.call(words)
    return outputs


def output_of(printed: dict[str, str], *parts: str) -> str:
    """Output of the one command that has all these parts."""
    (found,) = [text for command, text in printed.items() if all(part in command for part in parts)]
    return found


def test_the_readme_shows_every_command_of_the_program() -> None:
    shown = {words[1] for words in commands() if words[0] == "txrec"}
    assert {"prepare", "train", "tune", "evaluate", "publish", "models", "recommend", "serve", "export-events"} <= shown


def test_the_stages_leave_their_results_below_the_relative_folder(printed: dict[str, str], checkout: Checkout) -> None:
    metrics = json.loads((checkout.run / "reports" / "metrics.json").read_text())
    assert 0 < metrics["test"]["ndcg@10"] <= 1
    data = json.loads((checkout.run / "reports" / "data.json").read_text())
    assert data["read"] == data["kept"] + sum(data["rejected"].values()) > 0
    assert (checkout.run / "registry" / "production").exists()


def test_the_search_writes_a_configuration_that_loads(printed: dict[str, str], checkout: Checkout) -> None:
    from txrec.config_loader import load

    best = checkout.run / "reports" / "tune" / "best.toml"
    assert load(best).name == "demo"
    trials = pl.read_parquet(checkout.run / "reports" / "tune" / "trials.parquet")
    assert (trials["state"] != "failed").all()


def test_models_and_comparison_name_the_published_version(printed: dict[str, str]) -> None:
    assert re.search(r"v1 production", output_of(printed, "txrec models"))
    assert "production" in output_of(printed, "--compare")


def test_every_user_gets_a_slate_of_known_products(printed: dict[str, str], checkout: Checkout) -> None:
    slates = pl.from_arrow(pq.read_table(checkout.run / "slates"))  # the folder is one table
    assert isinstance(slates, pl.DataFrame)
    assert slates["user_id"].n_unique() == slates.height > 100
    shown = slates.explode("item_id")["item_id"]
    items = pl.read_parquet(checkout.run / "data" / "items.parquet")["item_id"]
    assert shown.is_in(items.implode()).all()
    assert slates["item_id"].list.len().min() == 25


def test_every_request_of_the_readme_is_answered_without_a_fallback(printed: dict[str, str]) -> None:
    slates = {
        path: json.loads(output_of(printed, "curl", path)) for path in ("/v1/search", "/v1/recommend", "/similar")
    }
    for path, slate in slates.items():
        assert slate["fallback"] is None, path
        least = 1 if path == "/similar" else 5  # of the product's kind the small shop has only a few
        assert least <= len(slate["items"]) <= 5, path


def test_what_the_readme_changes_is_changed(printed: dict[str, str], checkout: Checkout) -> None:
    assert json.loads(output_of(printed, "-X PUT", "/v1/items"))["stored"] == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{checkout.port}/v1/items/SKU900001", timeout=30) as response:
        lamp = json.loads(response.read())
    assert (lamp["title"], lamp["on_sale"]) == ("Reading lamp, brass", False)  # put, then taken out of sale
    models: dict[str, Any] = json.loads(output_of(printed, "curl -s localhost:8000/v1/models"))
    assert any(model["version"] == "v1" for model in models["models"])
    with urllib.request.urlopen(f"http://127.0.0.1:{checkout.port}/v1/users/u00042", timeout=30) as response:
        history = json.loads(response.read())
    assert history["events"][-1]["item_id"] == "SKU100013"


def test_the_export_holds_the_event_and_the_impressions(printed: dict[str, str], checkout: Checkout) -> None:
    events = pl.read_parquet(checkout.run / "events.parquet")
    assert ("u00042", "SKU100013") in zip(events["user_id"], events["item_id"], strict=True)
    shown = pl.read_parquet(checkout.run / "shown.parquet")
    assert shown.height >= 3
