"""The command line as a user meets it: help that reads well, errors without tracebacks."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def txrec(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_every_verb_with_a_sentence() -> None:
    shown = txrec("--help")
    assert shown.returncode == 0
    for verb in (
        "demo",
        "prepare",
        "pretrain",
        "train",
        "tune",
        "evaluate",
        "publish",
        "recommend",
        "serve",
        "models",
        "export-events",
        "config",
        "init",
    ):
        assert f" {verb} " in shown.stdout


@pytest.mark.parametrize("verb", ["demo", "prepare", "train", "evaluate", "publish", "serve", "recommend", "tune"])
def test_help_of_a_verb_shows_the_configuration_and_the_overrides(verb: str) -> None:
    shown = txrec(verb, "--help")
    assert shown.returncode == 0
    assert "CONFIG" in shown.stdout
    assert "[KEY=VALUE]..." in shown.stdout


def test_an_unknown_key_ends_with_code_2_and_one_message_without_a_traceback() -> None:
    shown = txrec("train", "configs/demo.toml", "train.learning_rat=0.1")
    assert shown.returncode == 2
    assert "error: command line: unknown key train.learning_rat" in shown.stderr
    assert "Traceback" not in shown.stderr + shown.stdout


def test_a_missing_configuration_ends_with_code_2() -> None:
    shown = txrec("prepare", "configs/nosuch.toml")
    assert shown.returncode == 2
    assert "configs/nosuch.toml: no such configuration file" in shown.stderr
    assert "demo.toml" in shown.stderr


@pytest.mark.slow
def test_a_missing_source_file_is_named_before_any_work(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(f'name = "shop"\nruns_root = "{tmp_path}/runs"\n[[data.events]]\npath = "nosuch.csv"\n')
    shown = txrec("prepare", str(config), f"data.root={tmp_path}")
    assert shown.returncode == 3
    assert "nosuch.csv" in shown.stderr
    assert "Traceback" not in shown.stderr
