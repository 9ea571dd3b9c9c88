"""New users on a generated shop whose tastes follow a declared property: NDCG with and without the users table.

    python bench/profiles.py [--small] [--items 1200] [--users 3000] [--events 80000] [--groups 8] [--epochs 4]

One shop, one history model; candidate sources, fusion and ranker are fitted twice, with and without the properties.
Cases are the requests of the test window whose user has no event before it, those without a query apart, and all
others. Prints NDCG@10 of both with the paired difference and its 95 % interval, and one JSON object as its last line.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from txrec import simulator
from txrec.config import Config, ShopConfig
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.evals import bootstrap, metrics
from txrec.evals.answering import ask
from txrec.evals.evaluation import units
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.model.retrieval import RetrievalModel
from txrec.recommender import bundle
from txrec.recommender.recommender import Recommender
from txrec.schema import PAD, Split
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Trainer
from txrec.train.retrieval.next_item_objective import NextItem

DECLARED: dict[str, Any] = {
    "events": [
        {
            "path": "events-*.csv.gz",
            "columns": {
                "ts": "time",
                "user_id": "visitor",
                "event": "action",
                "item_id": "sku",
                "query": "phrase",
                "session_id": "session",
                "value": "amount",
            },
            "values": {"event": {"product_view": "view", "add_to_cart": "cart", "order": "purchase"}},
        }
    ],
    "items": [
        {
            "path": "catalogue.jsonl",
            "format": "jsonl",
            "columns": {"item_id": "sku", "title": "name", "available": "in_stock"},
            "category_separator": " > ",
        }
    ],
    "users": [{"path": "users.csv", "columns": {"user_id": "visitor"}, "properties": ["style", "age", "plan"]}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_200)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--events", type=int, default=80_000)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="a shop of seconds, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.items, options.users, options.events, options.epochs = 240, 600, 12_000, 1
    with tempfile.TemporaryDirectory() as folder:
        figures = compare(configured(options, Path(folder)))
    print(f"{'requests':24} {'cases':>6} {'without':>8} {'with':>8} {'difference':>11}  95 % interval")
    for name, one in figures.items():
        interval = f"{one['low']:+.4f} to {one['high']:+.4f}"
        print(f"{name:24} {one['cases']:6} {one['without']:8.4f} {one['with']:8.4f} {one['mean']:+11.4f}  {interval}")
    print(json.dumps(figures))


def configured(options: argparse.Namespace, folder: Path) -> Config:
    """The run's configuration; the raw files of the shop are written."""
    shop = ShopConfig(
        num_items=options.items, num_users=options.users, num_events=options.events, taste_groups=options.groups
    )
    simulator.write(shop, folder / "raw")
    return Config.model_validate(
        {
            "name": "profiles",
            "runs_root": str(folder / "runs"),
            "data": {"root": str(folder / "raw"), **DECLARED},
            "text": {"encoder": "none"},
            "model": {"dim": 32, "num_layers": 1, "max_length": 50},
            "train": {"max_epochs": options.epochs},
            "ranker": {"max_epochs": 3, "max_examples": 6_000},
        }
    )


def compare(config: Config) -> dict[str, dict[str, float]]:
    """NDCG@10 of new and other users with and without properties."""
    preparation.run(config, preparation.InProcess())
    data = PreparedData.open(config.data_dir)
    model = trained(config, data)
    requests = eval_requests(data, Split.TEST, config.evaluate)
    per_case = {}
    for name, use in (("without", False), ("with", True)):
        retrieval = config.retrieval.model_copy(update={"use_profiles": use})
        chosen = config.model_copy(update={"retrieval": retrieval})
        ranking = fit_ranker(chosen, data, model, None)
        print(f"{name}: {ranking.decision}")
        bundle.write(config.candidate_dir, chosen, data, model, None, ranking)
        lists = ask(Recommender.open(config.candidate_dir), data, requests, 10)
        per_case[name] = metrics.per_case(lists.ranked, requests.truth, (10,))["ndcg@10"]
    return {name: compared(per_case, requests, rows) for name, rows in parts(requests).items() if len(rows)}


def trained(config: Config, data: PreparedData) -> RetrievalModel:
    """The history model."""
    torch.manual_seed(config.seed)
    model = RetrievalModel.for_data(config.model, data, None)
    counts = torch.from_numpy(np.array(data.items["train_count"].to_numpy()[: data.meta.num_trained_items]))
    examples = Examples.of(data.sequences, None, config.model, config.train)
    shown = eval_requests(data, Split.VALIDATION, config.evaluate)
    Trainer(NextItem(model, config.train, counts), examples, shown, config.train, config.seed).run(lambda *_: None)
    return model.eval()


def parts(requests: EvalRequests) -> dict[str, NDArray[np.int64]]:
    """Cases by whether the user is new and whether there is a query."""
    new, searched = requests.lengths == 0, requests.query_idx != PAD
    kinds = {"new users": new & ~searched, "new users, searches": new & searched, "other users": ~new}
    return {name: np.flatnonzero(rows) for name, rows in kinds.items()}


def compared(
    per_case: dict[str, NDArray[np.float64]], requests: EvalRequests, rows: NDArray[np.int64]
) -> dict[str, float]:
    """Means of both, and the paired difference with its interval."""
    first, second = per_case["with"][rows], per_case["without"][rows]
    paired = bootstrap.paired(first, second, units(requests)[rows], 1_000)
    means = {"cases": len(rows), "without": float(second.mean()), "with": float(first.mean())}
    return {**means, **paired.to_dict()}


if __name__ == "__main__":
    main()
