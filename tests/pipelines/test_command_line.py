"""The command line as a user meets it: help that reads well, errors without tracebacks."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.__main__ import app, main

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
    shown = CliRunner().invoke(app, [verb, "--help"])  # a process of its own takes a second, for nothing new
    assert shown.exit_code == 0
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


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EFBIG, "make room"), (errno.EACCES, "give this user the right to write")],
)
def test_a_file_that_cannot_be_written_ends_with_one_message_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, remedy: str
) -> None:
    def full() -> None:
        raise OSError(number, os.strerror(number), "runs/shop/loop/state.json")

    monkeypatch.setattr("pipelines.__main__.app", full)
    monkeypatch.setattr("pipelines.__main__.cluster.set_environment", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    message = capsys.readouterr().err
    assert message.startswith("error: runs/shop/loop/state.json: ")
    assert remedy in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "{folder}/log.csv", "--out", "{place}/shop.toml"),
        ("recommend", "{folder}/shop.toml", "--out", "{place}"),
        ("audience", "{folder}/shop.toml", "--query", "lamp", "--out", "{place}/users.csv"),
        ("export-events", "{folder}/shop.toml", "--out", "{place}/events.parquet"),
        ("export-events", "{folder}/shop.toml", "--out", "{folder}/ok.parquet", "--impressions", "{place}/a.parquet"),
        ("export-judgments", "{folder}/shop.toml", "--out", "{place}/judgments.parquet"),
    ],
    ids=["init", "recommend", "audience", "export-events", "export-events-impressions", "export-judgments"],
)
@pytest.mark.parametrize("below", ["a file", "/proc"])
def test_a_place_where_no_folder_can_be_made_ends_with_one_line_and_a_remedy_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: Sequence[str],
    below: str,
) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,ts\na,b,1\n")
    (tmp_path / "shop.toml").write_text(f'name = "shop"\nruns_root = "{tmp_path}/runs"\n[data]\nroot = "{tmp_path}"\n')
    place = tmp_path / "log.csv" / "inner" if below == "a file" else Path("/proc/nowhere/inner")
    filled = [part.format(folder=tmp_path, place=place) for part in arguments]
    monkeypatch.setattr("sys.argv", ["txrec", *filled])
    monkeypatch.setattr("pipelines.__main__.cluster.set_environment", lambda: None)
    monkeypatch.setattr("pipelines.command_line.arguments.ready_cluster", lambda *_: contextlib.nullcontext())
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 3, message
    assert message.startswith(f"error: {place}"), message
    assert "cannot be made" in message
    assert "name another place" in message
    assert message.count("\n") == 1


def test_an_error_that_is_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect() -> None:
        raise OSError(errno.EBADF, "a descriptor was closed twice")

    monkeypatch.setattr("pipelines.__main__.app", defect)
    monkeypatch.setattr("pipelines.__main__.cluster.set_environment", lambda: None)
    with pytest.raises(OSError, match="closed twice"):
        main()
