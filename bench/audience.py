"""Audiences against held-out events: who would want a category or a product in the test window?

    python bench/audience.py [CONFIG] [--event purchase] [--categories 30] [--products 60] [--small]

With CONFIG it needs that configuration's trained candidate (`txrec train CONFIG`); without, it generates a shop and
trains on it. Users are those with events before the test window, with their histories before it. Targets are the
categories and products with most of the events in the window; right are the users with such an event on the target.
Beside the library's audience stand the buyers of the category (decayed own events on the target's category, then
activity) and the most active users. Figures are means over targets: recall within the first 5 % of the users, lift
there over a random choice, and ROC-AUC. Prints a table, and one JSON object as its last line.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.profiles import configured, trained
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals import metrics
from txrec.recommender import bundle
from txrec.recommender.audience_model import TargetKind
from txrec.recommender.lists.audiences import Audience, Target, before
from txrec.recommender.recommender import Recommender
from txrec.schema import EVENT_CODES, PAD, Split
from txrec.train.ranker.fit import fit_ranker

SHARE = 0.05
LEAST_WANTING = 5
"""Users with an event on a target in the window, for it to be measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?")
    parser.add_argument("--event", default="purchase")
    parser.add_argument("--categories", type=int, default=30)
    parser.add_argument("--products", type=int, default=60)
    parser.add_argument("--small", action="store_true", help="a shop of seconds, to see that it runs")
    options = parser.parse_args()
    counts = {"categories": options.categories, "products": options.products}
    if options.config:
        show(*measured(load(options.config), counts, options.event))
        return
    with tempfile.TemporaryDirectory() as folder:
        show(*measured(generated(Path(folder), options.small), counts, options.event))


def generated(folder: Path, small: bool) -> Config:
    """A bundle trained on a generated shop."""
    size = (
        {"items": 240, "users": 600, "events": 12_000} if small else {"items": 1_200, "users": 3_000, "events": 80_000}
    )
    config = configured(argparse.Namespace(**size, groups=8, epochs=1 if small else 4), folder)
    preparation.run(config, preparation.InProcess())
    data = PreparedData.open(config.data_dir)
    model = trained(config, data)
    bundle.write(config.candidate_dir, config, data, model, None, fit_ranker(config, data, model, None))
    return config


def measured(config: Config, counts: dict[str, int], event: str) -> tuple[dict[str, dict[str, Any]], int]:
    """Figures by kind of target and system, and the number of users."""
    data, recommender = PreparedData.open(config.data_dir), Recommender.open(config.candidate_dir)
    users = before(data.sequences, Split.TEST)
    later = wanting(data, users, event)
    results: dict[str, dict[str, Any]] = {}
    for kind, targets in targets_of(data, later, counts).items():
        figures = [of_target(recommender, users, target, category, later) for target, category in targets]
        kept = [one for one in figures if one is not None]
        results[kind] = {"targets": len(kept)} | {
            system: {name: float(np.mean([one[system][name] for one in kept])) for name in kept[0][system]}
            for system in (kept[0] if kept else {})
        }
    return results, len(users)


def wanting(data: PreparedData, users: Sequences, event: str) -> NDArray[np.int64]:
    """(M, 2) (row of `users`, item) of the events of a kind in the test window."""
    sequences = data.sequences
    row_of = {user: row for row, user in enumerate(users.user_id)}
    row = np.array([row_of.get(user, -1) for user in sequences.user_id], np.int64)
    user = np.repeat(row, np.diff(sequences.offsets))
    chosen = (sequences.split == Split.TEST) & (sequences.event == EVENT_CODES[event]) & (user >= 0)
    chosen &= sequences.item_idx != PAD
    return np.unique(np.stack([user[chosen], sequences.item_idx[chosen].astype(np.int64)], axis=1), axis=0)


def targets_of(
    data: PreparedData, later: NDArray[np.int64], counts: dict[str, int]
) -> dict[str, list[tuple[Target, Target]]]:
    """By kind: targets with most events in the window, each with its category."""
    category = np.append(PAD, data.items.column("category_idx").to_numpy())
    size = len(category)

    def target(items: NDArray[np.int64], kind: TargetKind = "category") -> Target:
        weights = np.zeros(size)
        weights[items] = 1.0
        return Target(items, weights, kind)

    def most(codes: NDArray[np.int64], count: int) -> list[int]:
        numbers = np.bincount(codes[codes != PAD], minlength=1)
        return [int(code) for code in np.argsort(-numbers, kind="stable")[:count] if numbers[code]]

    groups = [target(np.flatnonzero(category == code)) for code in most(category[later[:, 1]], counts["categories"])]
    products = [
        (target(np.array([item]), "item"), target(np.flatnonzero(category == category[item])))
        for item in most(later[:, 1], counts["products"])
    ]
    return {"categories": [(group, group) for group in groups], "products": products}


def of_target(
    recommender: Recommender, users: Sequences, target: Target, category: Target, later: NDArray[np.int64]
) -> dict[str, dict[str, float]] | None:
    """Figures of every system; None where too few users want the target."""
    right = np.zeros(len(users), bool)
    right[later[np.isin(later[:, 1], target.item_idx), 0]] = True
    if right.sum() < LEAST_WANTING:
        return None
    now_us = int(users.ts.max())
    own, wider = Audience(recommender, target, now_us), Audience(recommender, category, now_us)
    habits, of_category = own.habits(users), wider.habits(users)
    scores = {
        "audience": own.scores(users, habits),
        "buyers of the category": of_category.own + 1e-6 * of_category.rate,
        "most active": habits.rate,
    }
    return {name: figures(values, right) for name, values in scores.items()}


def figures(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, float]:
    """Recall and lift within the first `SHARE` of the users, and ROC-AUC."""
    count = max(1, round(SHARE * len(scores)))
    recall = float(right[np.argsort(-scores, kind="stable")[:count]].sum() / right.sum())
    return {"recall@5%": recall, "lift@5%": recall / (count / len(scores)), "auc": metrics.auc(scores, right)}


def show(results: dict[str, dict[str, Any]], num_users: int) -> None:
    """The table, and the JSON line."""
    print(f"{num_users} users with events before the test window")
    for kind, systems in results.items():
        print(f"{kind}: {systems['targets']} targets")
        for name, values in systems.items():
            if name != "targets":
                print(f"  {name:24}" + "".join(f"  {key} {value:.3f}" for key, value in values.items()))
    print(json.dumps({"users": num_users, **results}))


if __name__ == "__main__":
    main()
