"""From the server's log to the next ranker: slates and events are exported, prepared and learnt from."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipelines.closed_loop import export
from txrec.config import Config, ShopConfig
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.online.history import Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender import bundle
from txrec.recommender.types import Event
from txrec.simulator import Shop, world_log
from txrec.simulator.world import Behaviour, World
from txrec.train.ranker.click_weights import ClickWeights
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.setup import trainer_for

pytestmark = pytest.mark.slow
PLACES, VISITS, DAYS = 6, 1_500, 20


@pytest.fixture(scope="module")
def world() -> World:
    shop = Shop.generate(ShopConfig(num_items=50, num_users=80, num_events=1_000, days=20))
    return World(shop, Behaviour(bias=1.0, ceiling=0.8, floor=0.1))


def serve(world: World, state: Path) -> None:
    """Keeps slates of random products, all of one score, and what users did, as a server does."""
    visits = world.visits(VISITS, DAYS)
    items = world.rng.random((VISITS, len(world.on_sale))).argsort(axis=1)[:, :PLACES]
    responses = world.respond(visits, items)
    slates = pl.DataFrame(pl.from_arrow(world_log.slates(world, visits, items)))
    events = pl.DataFrame(pl.from_arrow(world_log.events(world, visits, items, responses)))
    micros = pl.col("ts").dt.epoch("us")
    store = SqliteHistory(state)
    store.log_impressions(
        [
            Impression(
                row["request_id"],
                row["ts"],
                "production",
                "v1",
                tuple(row["item_ids"]),
                (0.5,) * PLACES,
                row["user_id"],
                row["query"],
            )
            for row in slates.with_columns(micros).iter_rows(named=True)
        ]
    )
    store.append(
        [
            LoggedEvent(
                f"e{number}",
                row["user_id"],
                Event(row["event"], row["item_id"], row["query"], row["ts"], row["value"]),
                None,
                row["request_id"],
            )
            for number, row in enumerate(events.with_columns(micros).iter_rows(named=True))
        ]
    )
    store.close()


@pytest.fixture(scope="module")
def config(world: World, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose only source is what its server exported."""
    root = tmp_path_factory.mktemp("served")
    fields: dict[str, Any] = {
        "events": [{"path": "events.parquet", "format": "parquet"}],
        "items": [{"path": "items.parquet", "format": "parquet"}],
        "slates": "shown.parquet",
    }
    config = Config.model_validate(
        {
            "name": "served",
            "runs_root": str(root / "runs"),
            "data": {"root": str(root), **fields},
            "serve": {"state": str(root / "state.sqlite")},
            "prepare": {"split": {"test_days": 2, "validation_days": 2}},
            "text": {"encoder": "none"},
            "model": {"dim": 16, "num_layers": 1, "num_heads": 2, "max_length": 20},
            "train": {"max_epochs": 2, "batch_size": 32},
            "ranker": {"mode": "on", "dim": 8, "num_heads": 1, "num_candidates": 20, "max_epochs": 1},
        }
    )
    serve(world, root / "state.sqlite")
    summary = export.run(config, root / "events.parquet", root / "shown.parquet")
    assert summary.num_impressions == VISITS
    pq.write_table(world_log.catalogue(world), root / "items.parquet")
    preparation.run(config, preparation.InProcess())
    return config


def test_examination_is_estimated_from_the_exported_slates_as_it_truly_is(config: Config, world: World) -> None:
    weights = ClickWeights.of(PreparedData.open(config.data_dir), config.serve.monitor)
    assert weights is not None
    truth = world.behaviour.examination(PLACES)
    assert weights.bias.examination[0] == pytest.approx(1.0)
    for place in range(1, PLACES):
        assert weights.bias.examination[place] == pytest.approx(truth[place], abs=0.15)
    assert set(weights.place.tolist()) == set(range(PLACES))


def test_the_ranker_of_the_next_bundle_learns_from_them_and_its_manifest_says_so(config: Config) -> None:
    data = PreparedData.open(config.data_dir)
    trainer = trainer_for(config, data, None)
    trainer.run(lambda *_: None)
    model = trainer.objective.model.cpu().eval()
    made = bundle.write(config.candidate_dir, config, data, model, None, fit_ranker(config, data, model, None))
    assert made.ranker is not None
    assert "clicks weighted by examination 1.00, " in made.manifest.ranker["reason"]


def test_slates_that_are_not_there_leave_clicks_as_they_are(config: Config) -> None:
    data = PreparedData.open(config.data_dir)
    (data.path / "slates.parquet").rename(data.path / "hidden.parquet")
    try:
        assert ClickWeights.of(data, config.serve.monitor) is None
    finally:
        (data.path / "hidden.parquet").rename(data.path / "slates.parquet")
