"""`txrec monitor`: the report of served traffic, from the store, from files, and in parts on Ray."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.closed_loop import monitor
from tests.tiny import tiny_data
from tests.txrec.data.workbench import configured
from tests.txrec.loop.attribution.test_attribution import WINDOWS, frames, log, sorted_rows
from txrec import schema
from txrec.config import Config, ExposureConfig, ExposureLimit, ServeConfig
from txrec.errors import DataError, StageError
from txrec.loop.attribution.live_attribution import table_of
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.registry.rollout import FILE

NOON = 1_700_000_000_000_000
HOUR = 3_600_000_000


def served(folder: Path, better: float = 0.0, users: int = 600) -> Config:
    """A server's store of an A/B test by canary: users with one slate each, and clicks."""
    config = configured(folder).model_copy(update={"serve": ServeConfig(state=str(folder / "history.sqlite"))})
    store = SqliteHistory(folder / "history.sqlite")
    rng = np.random.default_rng(0)
    slates, clicks = [], []
    for user in range(users):
        canary = user % 2 == 1
        slate = Impression(f"r{user}", NOON + user, "production", "v1", ("p1", "p2"), (0.5, 0.2), f"u{user}", "lamp")
        slates.append(replace(slate, variant="canary", model_version="v2") if canary else slate)
        if rng.random() < 0.3 + better * canary:
            event = Event("click", "p2", "lamp", NOON + user + 1_000)
            clicks.append(LoggedEvent(f"e{user}", f"u{user}", event, None, f"r{user}"))
    store.log_impressions(slates)
    store.append(clicks)
    store.close()
    return config


def canary(config: Config, share: float) -> None:
    config.registry_dir.mkdir(parents=True, exist_ok=True)
    (config.registry_dir / FILE).write_text(json.dumps({"canary": "v2", "share": share, "serial": 1}))


def test_exposure_of_product_groups_stands_in_the_report_with_alarms_of_its_limits(tmp_path: Path) -> None:
    config = served(tmp_path)
    tiny_data(config.data_dir)
    store = SqliteHistory(tmp_path / "history.sqlite")
    shown = tuple(f"sku-{n:03d}" for n in range(1, 11))
    store.log_impressions([Impression("x", NOON, "production", "v1", shown, (0.1,) * 10, "u1", None)])
    store.append([LoggedEvent("e", "u1", Event("click", "sku-001", None, NOON + 5), None, "x")])
    store.close()
    limits = (ExposureLimit(group="popularity", part="cold", floor=0.99),)
    config = config.model_copy(update={"exposure": ExposureConfig(limits=limits)})
    found = monitor.run(config, clock=lambda: NOON / 1e6 + 86_400)
    written = json.loads((config.reports_dir / "monitor.json").read_text())["exposure"]
    for group in ("brand", "category", "price", "age", "popularity"):
        assert sum(row["exposure"] for row in written["shares"] if row["group"] == group) == pytest.approx(1.0)
        assert sum(row["relevance"] for row in written["shares"] if row["group"] == group) == pytest.approx(1.0)
    assert found.exposure_alarms == tuple(written["alarms"])
    assert "below its floor 99.0%" in written["alarms"][0]
    page = (config.reports_dir / "monitor.html").read_text()
    assert "below its floor" in page
    assert "popularity: head" in page


def test_figures_are_sliced_by_what_training_knew_of_query_product_and_user(tmp_path: Path) -> None:
    config = configured(tmp_path).model_copy(update={"serve": ServeConfig(state=str(tmp_path / "history.sqlite"))})
    items = pl.DataFrame(pl.from_arrow(tiny_data(config.data_dir).items))
    new = items.filter(pl.col("train_count") == 0)["item_id"][0]
    profiles = [{"user_id": "u1", "properties": [], "segments": ["vip", "wholesale"]}]
    pq.write_table(pa.Table.from_pylist(profiles, schema.USERS), config.data_dir / "profiles.parquet")
    store = SqliteHistory(tmp_path / "history.sqlite")
    shown = ("sku-001", new, "nobody-knows-it")
    for number, (user, query) in enumerate((("u1", " Lamp"), ("u2", "zebra"), ("u3", None))):
        store.log_impressions([Impression(f"r{number}", NOON, "production", "v1", shown, (0.1,) * 3, user, query)])
    store.append([LoggedEvent("e", "u1", Event("click", "sku-001", "Lamp", NOON + 5), None, "r0")])
    store.close()
    figures = monitor.run(config, clock=lambda: NOON / 1e6 + 86_400).figures
    rates = {part: row["click_rate"] for part, row in figures["query_kind"].items()}
    assert {part: (rate.count, rate.value) for part, rate in rates.items()} == {
        "seen": (1, 1.0),
        "unseen": (1, 0.0),
        "none": (1, 0.0),
    }
    assert {part: row["click_rate"].count for part, row in figures["segments"].items()} == {"vip": 1, "wholesale": 1}
    places = {part: row["click_rate"].count for part, row in figures["popularity"].items()}
    assert sum(places.values()) == 9
    assert places["new"] == 6, "a product without training events, and one that is not in the catalogue"


def test_the_report_of_a_store_has_figures_by_variant_and_a_page(tmp_path: Path) -> None:
    config = served(tmp_path)
    found = monitor.run(config, clock=lambda: NOON / 1e6 + 86_400)
    written = json.loads((config.reports_dir / "monitor.json").read_text())
    variants = written["figures"]["variant"]
    assert variants["production"]["click_rate"]["count"] == variants["canary"]["click_rate"]["count"] == 300
    assert written["figures"]["place"]["0"]["click_rate"]["value"] == 0
    assert written["figures"]["place"]["1"]["click_rate"]["value"] == pytest.approx(
        written["figures"]["all"]["all"]["click_rate"]["value"]
    )
    assert written["figures"]["all"]["all"]["mrr"]["value"] == 0.5
    assert written["decisions"] == []
    assert written["drift"]["reason"] == "no version is in production"
    page = (config.reports_dir / "monitor.html").read_text()
    assert "By model version" in page
    assert f"{found.figures['all']['all']['click_rate'].value:.4g}" in page
    assert "600 slates of 600 users" in found.headline()


def test_a_canary_that_is_surely_better_is_to_be_promoted(tmp_path: Path) -> None:
    config = served(tmp_path, better=0.3, users=1_000)
    canary(config, 0.5)
    early = monitor.run(config, clock=lambda: NOON / 1e6 + 3_600)
    assert [decision.action for decision in early.decisions] == ["continue"]  # nobody's day is over yet
    late = monitor.run(config, clock=lambda: NOON / 1e6 + 2 * 86_400)
    (decision,) = late.decisions
    assert (decision.experiment, decision.action, decision.figure) == ("canary v2", "promote", "clicks")
    assert str(decision) in (config.reports_dir / "monitor.html").read_text().replace("&gt;", ">")


def test_a_canary_with_other_users_than_its_share_decides_nothing(tmp_path: Path) -> None:
    config = served(tmp_path, better=0.3, users=1_000)
    canary(config, 0.3)
    (decision,) = monitor.run(config, clock=lambda: NOON / 1e6 + 2 * 86_400).decisions
    assert decision.action == "invalid"


def test_a_configured_experiment_is_judged_by_its_own_assignment(tmp_path: Path) -> None:
    tree = served(tmp_path).model_dump(mode="python")
    tree["experiments"]["running"] = [{"name": "texts", "variants": [{"name": "old"}, {"name": "new"}], "share": 0.5}]
    (decision,) = monitor.run(Config.model_validate(tree), clock=lambda: NOON / 1e6 + 2 * 86_400).decisions
    assert (decision.experiment, decision.action) == ("texts", "continue")
    assert sum(decision.users) == pytest.approx(300, abs=60)


def test_without_a_server_there_is_nothing_to_monitor(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="txrec serve"):
        monitor.run(configured(tmp_path))


def test_one_file_without_the_other_or_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with pytest.raises(DataError, match="name both or none"):
        monitor.run(config, impressions=tmp_path / "slates.parquet")
    with pytest.raises(DataError, match=r"slates.parquet: no such file; `txrec export-events"):
        monitor.run(config, tmp_path / "slates.parquet", tmp_path / "events.parquet")


def test_a_file_that_is_no_export_is_named(tmp_path: Path) -> None:
    config, text, other = configured(tmp_path), tmp_path / "text.parquet", tmp_path / "other.parquet"
    text.write_text("no parquet")
    pl.DataFrame({"ts": [1], "user_id": ["u1"]}).write_parquet(other)
    with pytest.raises(DataError, match=r"text\.parquet: is no Parquet file of `txrec export-events`"):
        monitor.run(config, impressions=text, events=text)
    with pytest.raises(DataError, match=r"other\.parquet: has no column 'request_id'"):
        monitor.run(config, impressions=other, events=other)


def test_the_command_prints_figures_and_where_the_page_is(tmp_path: Path) -> None:
    config = served(tmp_path)
    file = tmp_path / "shop.toml"
    file.write_text(
        f'name = "{config.name}"\nruns_root = "{config.runs_root}"\n[serve]\nstate = "{config.serve.state}"\n'
    )
    result = CliRunner().invoke(app, ["monitor", str(file)])
    assert result.exit_code == 0, result.output
    assert "variant: canary" in result.output


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    shown, happened = frames(*log(11, users=40, slates=600, events=1_500))
    paths = tmp_path / "slates.parquet", tmp_path / "events.parquet"
    for frame, path in zip((shown, happened), paths, strict=True):
        frame.write_parquet(path)
    return paths


def attribute(shown: pl.DataFrame, happened: pl.DataFrame) -> pl.DataFrame:
    return table_of(shown, happened, WINDOWS)


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    rows, others = sorted_rows(found), sorted_rows(expected)
    values = [np.array([row[3:] for row in table]) for table in (rows, others)]
    return [row[:3] for row in rows] == [row[:3] for row in others] and np.allclose(values[0], values[1])


def test_parts_dealt_by_user_add_up_to_the_whole(files: tuple[Path, Path]) -> None:
    shown, happened = (pl.read_parquet(path) for path in files)
    whole = attribute(shown, happened)
    for parts in (1, 3, 16):
        dealt = [
            pl.DataFrame(pl.from_arrow(monitor.deal(frame.to_arrow(), slates=slates, parts=parts)))
            for frame, slates in ((shown, True), (happened, False))
        ]
        found = monitor.attribute_parts(pl.concat(dealt).to_arrow(), attribute)
        assert same(pl.DataFrame(pl.from_arrow(found)), whole)


@pytest.mark.usefixtures("ray_cluster")
def test_a_large_export_streams_through_ray_with_the_same_sums(files: tuple[Path, Path]) -> None:
    found = monitor.on_ray(*files, 4, attribute)
    assert same(found, attribute(*(pl.read_parquet(path) for path in files)))
