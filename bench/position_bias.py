"""Position bias on the generated shop as a live world: the estimate next to the truth, and rankers with and without it.

    python bench/position_bias.py [--visits 20000] [--seeds 0,1,2] [--small]

A mediocre ranking serves visits of the world; the ranker learns from the clicks as they are, and weighted by the
inverse of the estimated examination. Both order slates of new visits; DCG of the true attraction relative to the best
order, and the difference with its 95 % interval. Then examination as estimated and true. Last line: one JSON object.
"""

import argparse
import json

import numpy as np
import polars as pl
import torch

from txrec.config import RankerConfig, ShopConfig
from txrec.loop.off_policy.position_bias import PositionBias, estimate
from txrec.model.ranker import NUM_REQUEST_FEATURES, CandidateBatch
from txrec.simulator import Shop
from txrec.simulator.world import Behaviour, Visits, World
from txrec.train.ranker.listwise import Examples, TrainingRun, train
from txrec.train.ranker.loop import scores_of

PLACES = 10
DISCOUNT = 1 / np.log2(np.arange(PLACES) + 2)


def main() -> None:
    """Runs the seeds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=20_000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--small", action="store_true", help="2,000 visits, one seed")
    args = parser.parse_args()
    size, seeds = (2_000, [0]) if args.small else (args.visits, [int(seed) for seed in args.seeds.split(",")])
    shop = Shop.generate(ShopConfig(num_items=400, num_users=1_000, num_events=10_000, days=20))
    rows = []
    for seed in seeds:
        world = World(shop, Behaviour(bias=1.0, ceiling=0.6, floor=0.03, sharpness=0.4), seed)
        rows.append(compared(world, size, seed))
        print(json.dumps(rows[-1]), flush=True)
    names = ("naive", "weighted", "difference")
    print(
        json.dumps(
            {"visits": size, **{name: float(np.mean([row[name] for row in rows])) for name in names}, "seeds": rows}
        )
    )


def compared(world: World, size: int, seed: int) -> dict[str, object]:
    """One world: rankers by clicks as they are and by weighted ones."""
    visits = world.visits(size, days=30)
    items, features, score, _ = slates_of(world, size, seed, visits)
    clicked = torch.from_numpy(world.respond(visits, items).clicked)
    bias = bias_of(items, score, clicked)
    assert bias is not None
    later = world.visits(max(size // 4, 500), days=7)
    _, new, _, truth = slates_of(world, len(later), seed + 100, later)
    best = (-np.sort(-truth, axis=1) * DISCOUNT).sum(axis=1)
    weight = torch.from_numpy(1 / bias.at(np.broadcast_to(np.arange(PLACES), items.shape))).float()
    gains = {}
    for name, weights in (("naive", None), ("weighted", weight)):
        examples = Examples(batch_of(features), clicked, torch.ones_like(clicked), clicked.sum(1), weights)
        ranker, _ = train(RankerConfig(dim=8, num_heads=1, max_epochs=2), examples, None, TrainingRun(2, seed))
        order = scores_of(ranker, batch_of(new)).argsort(dim=1, descending=True).numpy()
        gains[name] = (np.take_along_axis(truth, order, 1) * DISCOUNT).sum(axis=1) / best
    difference = gains["weighted"] - gains["naive"]
    error = 1.96 * float(difference.std() / np.sqrt(len(difference)))
    return {
        **{name: float(values.mean()) for name, values in gains.items()},
        "difference": float(difference.mean()),
        "interval": [float(difference.mean()) - error, float(difference.mean()) + error],
        "examination": [round(value, 4) for value in bias.examination],
        "true_examination": np.round(world.behaviour.examination(PLACES), 4).tolist(),
    }


def slates_of(
    world: World, size: int, seed: int, visits: Visits
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(B, K) products as served, (B, K, 3) features, (B, K) serving scores and (B, K) true attraction."""
    rng = np.random.default_rng(seed)
    some = rng.random((size, world.browse.shape[1])).argsort(axis=1)[:, :PLACES]
    appeal = world.attraction(visits, some)
    score = appeal * np.exp(0.8 * rng.standard_normal(some.shape))
    order = np.argsort(-score, axis=1)
    items = np.take_along_axis(some, order, 1)
    score, appeal = np.take_along_axis(score, order, 1), np.take_along_axis(appeal, order, 1)
    taste = np.log(appeal) + 0.7 * rng.standard_normal(some.shape)
    places = np.broadcast_to(-np.log1p(np.arange(PLACES)), items.shape)
    return items, np.stack([places, np.log(score), taste], axis=2), score, appeal


def bias_of(items: np.ndarray, score: np.ndarray, clicked: torch.Tensor) -> PositionBias | None:
    """Position bias as the server's log would give it."""
    slates = pl.DataFrame(
        {
            "request_id": [str(row) for row in range(len(items))],
            "query": pl.Series([None] * len(items), dtype=pl.String),
            "item_ids": items.astype(str).tolist(),
            "scores": score.tolist(),
        }
    )
    row, place = np.nonzero(clicked.numpy())
    return estimate(
        slates, pl.DataFrame({"request_id": row.astype(str), "place": place, "event": ["click"] * len(row)})
    )


def batch_of(features: np.ndarray) -> CandidateBatch:
    """Candidate sets with nothing but these (B, K, F) features."""
    n, k = features.shape[:2]
    return CandidateBatch(
        items=torch.zeros(n, k, 4),
        features=torch.from_numpy(features.astype(np.float32)),
        mask=torch.ones(n, k, dtype=torch.bool),
        state=torch.zeros(n, 4),
        query=torch.zeros(n, 4),
        request=torch.zeros(n, NUM_REQUEST_FEATURES),
    )


if __name__ == "__main__":
    main()
