"""Clicks in served slates weighted against position bias: nearer to true preference than clicks as they are."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bench.position_bias import batch_of
from tests.tiny import tiny_data
from txrec.config import DataConfig, MonitorConfig, RankerConfig, ShopConfig
from txrec.data import served_slates
from txrec.errors import DataError
from txrec.loop.off_policy.position_bias import estimate
from txrec.schema import Split
from txrec.simulator import Shop
from txrec.simulator.world import Behaviour, Visits, World
from txrec.train.ranker.click_weights import MAX_WEIGHT, ClickWeights
from txrec.train.ranker.listwise import Examples, TrainingRun, train
from txrec.train.ranker.loop import scores_of

PLACES = 10
CFG = RankerConfig(dim=8, num_heads=1, max_epochs=1, dropout=0.0)


def slates_in(world: World, size: int, seed: int) -> tuple[Visits, np.ndarray, np.ndarray, np.ndarray]:
    """Visits, slates sorted by the serving score, that score, and features (serving order; a noisy taste)."""
    rng = np.random.default_rng(seed)
    visits = world.visits(size, days=30)
    some = rng.random((size, world.browse.shape[1])).argsort(axis=1)[:, :PLACES]
    appeal = world.attraction(visits, some)
    score = appeal * np.exp(1.2 * rng.standard_normal(some.shape))
    order = np.argsort(-score, axis=1)
    items, score = np.take_along_axis(some, order, 1), np.take_along_axis(score, order, 1)
    taste = np.log(np.take_along_axis(appeal, order, 1)) + 0.7 * rng.standard_normal(some.shape)
    features = np.stack([np.broadcast_to(-np.log1p(np.arange(PLACES)), items.shape), np.log(score), taste], axis=2)
    return visits, items, score, features


def test_the_weighted_ranker_is_nearer_to_true_preference_than_the_naive_one_beyond_the_interval() -> None:
    world = World(Shop.generate(ShopConfig(num_items=150, num_users=400, num_events=4_000, days=20)), Behaviour(1.0))
    visits, items, score, features = slates_in(world, 12_000, 0)
    clicked = torch.from_numpy(world.respond(visits, items).clicked)
    slates = pl.DataFrame(
        {
            "request_id": [str(row) for row in range(len(items))],
            "query": [None] * len(items),
            "item_ids": items.astype(str).tolist(),
            "scores": score.tolist(),
        },
        schema_overrides={"query": pl.String},
    )
    row, place = np.nonzero(clicked.numpy())
    bias = estimate(
        slates, pl.DataFrame({"request_id": row.astype(str), "place": place, "event": ["click"] * len(row)})
    )
    assert bias is not None
    weight = torch.from_numpy(1 / bias.at(np.broadcast_to(np.arange(PLACES), items.shape))).float()
    offered, num = torch.ones_like(clicked), clicked.sum(1)
    gains = []
    new_visits, new_items, _, new_features = slates_in(world, 3_000, 1)
    truth = world.attraction(new_visits, new_items)
    discount = 1 / np.log2(np.arange(PLACES) + 2)
    best = (-np.sort(-truth, axis=1) * discount).sum(1)
    for weights in (None, weight):
        given = Examples(batch_of(features), clicked, offered, num, weights)
        ranker, _ = train(CFG, given, None, TrainingRun(0, 0))
        order = scores_of(ranker, batch_of(new_features)).argsort(dim=1, descending=True).numpy()
        gains.append((np.take_along_axis(truth, order, 1) * discount).sum(1) / best)
    difference = gains[1] - gains[0]
    assert difference.mean() > 1.96 * difference.std() / np.sqrt(len(difference))


def slates_of_tiny(folder: Path) -> tuple[Path, str, str]:
    """A slate before each event of the tiny data, its product first or third; there half are passed over."""
    data = tiny_data(folder / "data", num_users=40)
    log, rows = data.sequences, []
    ids = [None, *data.items["item_id"].to_pylist()]
    for user in range(len(log)):
        for at in range(int(log.offsets[user]), int(log.offsets[user + 1])):
            if log.item_idx[at] and log.split[at] < Split.TEST:
                item = ids[int(log.item_idx[at])]
                others = [one for one in ids[1:9] if one != item]
                shown = [item, *others] if at % 3 else [*others[:2], item, *others[2:]]
                ts = int(log.ts[at]) - 1_000
                rows.append((f"r{at}", "production", ts, str(log.user_id[user]), None, shown))
                if shown[0] != item:
                    rows.append((f"p{at}", "production", ts - 9 * 3_600_000_000, str(log.user_id[user]), None, shown))
    names = ["request_id", "variant", "ts", "user_id", "query", "item_ids"]
    table = pl.DataFrame(
        rows, schema={**dict.fromkeys(names, pl.String), "ts": pl.Int64, "item_ids": pl.List(pl.String)}, orient="row"
    )
    table.write_parquet(folder / "shown.parquet")
    return data.path, "shown.parquet", str(folder)


def test_prepared_slates_give_clicks_at_lower_places_more_weight(tmp_path: Path) -> None:
    path, file, root = slates_of_tiny(tmp_path)
    num = served_slates.write(DataConfig(root=root, slates=file), path)
    data = tiny_data(path, num_users=40)
    weights = ClickWeights.of(data, MonitorConfig())
    assert num > 400
    assert weights is not None
    assert 0.3 < weights.bias.examination[2] < 0.7
    third = np.flatnonzero(weights.place == 2)[0]
    user, item, ts = weights.user[third], weights.item_idx[[third]], int(weights.ts[third])
    expected = min(1 / weights.bias.examination[2], MAX_WEIGHT)
    assert weights.at(int(user), item, ts).tolist() == pytest.approx([expected])
    assert weights.at(int(user), np.array([data.meta.num_items], np.int32), 0).tolist() == [1.0]  # never shown


def test_without_slates_all_clicks_count_alike(tmp_path: Path) -> None:
    assert ClickWeights.of(tiny_data(tmp_path / "data", num_users=12), MonitorConfig()) is None


def test_a_table_of_slates_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    pl.DataFrame({"request_id": ["r1"]}).write_parquet(tmp_path / "shown.parquet")
    with pytest.raises(DataError, match="column 'variant' is missing"):
        served_slates.write(DataConfig(root=str(tmp_path), slates="shown.parquet"), tmp_path)
