"""`txrec evaluate --off-policy`: a bundle's order of served products, valued by the clicks that followed."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.closed_loop import off_policy
from tests.txrec.data.workbench import configured
from txrec.config import Config, ServeConfig
from txrec.errors import DataError
from txrec.loop.exploration.exploration import Bounds
from txrec.loop.exploration.exploration_log import explore
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Event, Request

START = 1_700_000_000_000_000
BOUNDS = Bounds(share=1.0, num_places=1, pool=3, temperature=5.0)


def served(
    folder: Path,
    bundle: Path,
    slates: int = 400,
    bounds: Bounds = BOUNDS,
    placements: tuple[str | None, ...] = (None,),
) -> Config:
    """Users click whatever the bundle itself would have put first, where they see it first."""
    config = configured(folder).model_copy(update={"serve": ServeConfig(state=str(folder / "history.sqlite"))})
    recommender = Recommender.open(bundle)
    items = recommender.catalogue.item_ids[1:4]
    rng = np.random.default_rng(0)
    store = SqliteHistory(folder / "history.sqlite")
    impressions, clicks = [], []
    for number in range(slates):
        order, record = explore([0.5, 0.4, 0.3], [0.0] * 3, bounds, rng)
        shown, ts = tuple(items[place] for place in order), START + number * 7_200_000_000
        scores = tuple((0.5, 0.4, 0.3)[place] for place in order)
        liked = recommender.rank_items(list(items), Request(query="lamp", now_us=ts)).items[0].item_id
        impressions.append(Impression(f"r{number}", ts, "production", "v1", shown, scores, f"new{number}", "lamp"))
        if record is not None:
            impressions[-1] = replace(
                impressions[-1], exploration=record.to_json(), placement=placements[number % len(placements)]
            )
        if shown[0] == liked:
            click = Event("click", liked, "lamp", ts + 1_000_000)
            clicks.append(LoggedEvent(f"e{number}", f"new{number}", click, None, f"r{number}"))
    store.log_impressions(impressions)
    store.append(clicks)
    store.close()
    return config


def test_a_bundle_is_valued_at_what_its_own_order_earns(tmp_path: Path, tiny_bundle: Path) -> None:
    config = served(tmp_path, tiny_bundle)
    found = off_policy.run(config, str(tiny_bundle))
    best = found.evaluation.estimates[0]
    assert not best.refusal
    assert best.value == pytest.approx(1.0, abs=0.02)  # everybody clicks what it puts first
    assert best.gain == pytest.approx(2 / 3, abs=0.15)  # a third of the slates showed it by chance
    assert best.gain_low > 0.4
    written = json.loads((config.reports_dir / "off_policy.json").read_text())
    assert written["estimates"][0]["value"] == best.value


def test_estimates_and_cost_stand_by_placement_in_json_page_and_terminal(tmp_path: Path, tiny_bundle: Path) -> None:
    config = served(tmp_path, tiny_bundle, 600, placements=("home", "mail", "home"))
    found = off_policy.run(config, str(tiny_bundle))
    written = json.loads((config.reports_dir / "off_policy.json").read_text())["placements"]
    assert list(written) == ["home", "mail"]
    assert [part["estimates"][0]["slates"] for part in written.values()] == [400, 200]
    assert written["home"]["estimates"][0]["gain_low"] > 0.4
    assert written["home"]["exploration"]["slates"] == 400
    console = Console(width=200, file=io.StringIO())
    console.print(found.render())
    page = (config.reports_dir / "off_policy.html").read_text()
    assert isinstance(console.file, io.StringIO)
    for text in (console.file.getvalue(), page):
        assert "home: exploration cost" in text
        assert f"{written['mail']['estimates'][0]['value']:.4g}" in text


def test_without_named_placements_nothing_is_split(tmp_path: Path, tiny_bundle: Path) -> None:
    config = served(tmp_path, tiny_bundle, 30)
    off_policy.run(config, str(tiny_bundle))
    assert "By placement" not in (config.reports_dir / "off_policy.html").read_text()


def test_a_log_without_exploration_says_what_to_set(tmp_path: Path, tiny_bundle: Path) -> None:
    config = served(tmp_path, tiny_bundle, 5, Bounds(share=0.0))
    with pytest.raises(DataError, match=r"serve\.exploration\.share"):
        off_policy.run(config, str(tiny_bundle))


def test_the_command_prints_the_estimates_and_refuses_an_unknown_reward(tmp_path: Path, tiny_bundle: Path) -> None:
    config = served(tmp_path, tiny_bundle, 30)
    file = tmp_path / "shop.toml"
    file.write_text(
        f'name = "{config.name}"\nruns_root = "{config.runs_root}"\n[serve]\nstate = "{config.serve.state}"\n'
    )
    result = CliRunner().invoke(app, ["evaluate", str(file), "--off-policy", str(tiny_bundle)])
    assert result.exit_code == 0, result.output
    assert "effective sample size" in result.output  # too few slates
    bad = CliRunner().invoke(app, ["evaluate", str(file), "--off-policy", str(tiny_bundle), "--reward", "joy"])
    assert "expected one of click, cart, purchase, revenue" in str(bad.exception)
