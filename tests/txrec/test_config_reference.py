"""Configuration reference and the effective configuration that `txrec config` prints."""

from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from pipelines.__main__ import app
from txrec.config_loader import load
from txrec.config_reference import effective, reference

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_effective_configuration_loads_again_as_the_same_tree(file: Path, tmp_path: Path) -> None:
    config = load(file, ["train.lr=0.01"])
    (tmp_path / "again.toml").write_text(tomli_w.dumps(effective(config)))
    assert load(tmp_path / "again.toml") == config


def test_the_reference_gives_type_bounds_default_and_meaning() -> None:
    row = next(line for line in reference().splitlines() if "`max_epochs`" in line and "train.max_epochs" in line)
    assert "whole number, ≥ 1 | `20` | Passes over the training sequences" in row


def test_a_section_that_is_used_twice_is_described_once() -> None:
    page = reference()
    assert page.count('id="data.events.path"') == 1
    assert 'id="data.items.path"' not in page
    assert "## `[[data.items]]` { #data-items }\n\nThe same settings as [`data.events`](#data-events)." in page


def test_the_command_prints_the_tree_with_overrides_or_the_reference() -> None:
    shown = CliRunner().invoke(app, ["config", str(CONFIGS[0]), "train.max_epochs=7"])
    assert shown.exit_code == 0
    assert "max_epochs = 7" in shown.stdout
    assert CliRunner().invoke(app, ["config", "--reference"]).stdout == reference()
