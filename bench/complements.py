"""Complements on baskets: one product of each basket is left out and predicted from the others.

    python bench/complements.py configs/online-retail.toml data.root=DIR [--baskets 5000]

Baskets come from the purchases of the prepared data: those of the training part are counted, those of the test part
with two products or more are asked about. One product of each, drawn with a fixed seed, is left out; products are
ranked by the sum of their scores with the others. Compared: `complements` as served (common baskets over the root of a
product's own), `counts` (common baskets alone), `lift`, and `popular`. Prints hit rates at 5, 10 and 20 with 95 %
bootstrap intervals over baskets for the first, and one JSON object as its last line.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from bench.search import SMALL, prepared
from txrec.config_loader import load
from txrec.evals import bootstrap
from txrec.index.sources.co_purchases import MIN_RELAXED, POPULARITY_EXPONENT, Baskets, CoPurchases
from txrec.schema import Split

CUTS = (5, 10, 20)
EXPONENTS: dict[str, float | None] = {"complements": POPULARITY_EXPONENT, "counts": 0.0, "lift": 1.0, "popular": None}


def basket_list(baskets: Baskets) -> list[NDArray[np.int32]]:
    """Products of each basket."""
    order = np.argsort(baskets.basket, kind="stable")
    items, number = baskets.item_idx[order], baskets.basket[order]
    return np.split(items, np.flatnonzero(np.diff(number)) + 1)


def place(counted: CoPurchases, bases: NDArray[np.int32], left_out: int, exponent: float | None) -> float:
    """Rank of the product that was left out, from 1; infinite where it is not ranked."""
    if exponent is None:
        scores = counted.num_baskets.astype(np.float64)
    else:
        scores = np.zeros(len(counted.num_baskets))
        for item in bases.tolist():
            together, _ = counted.together(item, MIN_RELAXED, exponent)
            scores[together.item_idx] += together.scores
    scores[bases] = 0.0
    own = scores[left_out]
    return 1.0 + float((scores > own).sum()) + 0.5 * float((scores == own).sum() - 1) if own > 0 else np.inf


def run(config_path: str, overrides: list[str], most: int) -> dict[str, object]:
    """All figures."""
    data = prepared(load(config_path, overrides))
    sequences = data.sequences
    user = np.repeat(np.arange(len(sequences), dtype=np.int64), np.diff(sequences.offsets))

    def baskets(kept: NDArray[np.bool_]) -> Baskets:
        return Baskets.of_purchases(user[kept], sequences.item_idx[kept], sequences.event[kept], sequences.ts[kept])

    counted = CoPurchases(baskets(sequences.split < Split.TEST), data.meta.num_items)
    test_baskets = [items for items in basket_list(baskets(sequences.split == Split.TEST)) if len(items) > 1]
    rng = np.random.default_rng(0)
    test_baskets = [test_baskets[number] for number in rng.permutation(len(test_baskets))[:most]]
    left_out = [int(rng.integers(len(items))) for items in test_baskets]
    places = {
        name: np.array(
            [
                place(counted, np.delete(items, at), int(items[at]), exponent)
                for items, at in zip(test_baskets, left_out, strict=True)
            ]
        )
        for name, exponent in EXPONENTS.items()
    }
    figures: dict[str, object] = {"baskets": len(test_baskets)}
    print(f"{'':>14}" + "".join(f"{f'hit@{cut}':>28}" for cut in CUTS))
    for name, own in places.items():
        cells = []
        for cut in CUTS:
            interval = bootstrap.intervals({"": (own <= cut).astype(np.float64)}, np.arange(len(own)), 1_000)[""]
            figures[f"{name} hit@{cut}"] = vars(interval)
            cells.append(f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})")
        print(f"{name:>14}" + "".join(f"{cell:>28}" for cell in cells))
    return figures


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--baskets", type=int, default=5_000)
    parser.add_argument("--small", action="store_true", help="a tiny generated shop: a quick look")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, *(SMALL if arguments.small else ())]
    print(json.dumps(run(arguments.config, overrides, arguments.baskets)))


if __name__ == "__main__":
    main()
