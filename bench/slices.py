"""Slices of a test split next to the baselines, over several seeds: new and rare products, new users, searches.

    python bench/slices.py configs/online-retail.toml data.root=DIR [--seeds 0,1,2] [--small]

For every seed: prepare, pre-train, train, rank, and answer the test split by the code that serves, as
`bench/search.py` does; what is already below `runs_root` is not made again. Figures are NDCG@10, the mean of the seeds.
The difference is paired with the slice's best baseline, its interval 95 % bootstrap over users. Prints a table, and one
JSON object as its last line.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search import SMALL, made, prepared
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals import baselines, bootstrap, metrics
from txrec.evals.answering import ask, query_texts
from txrec.evals.evaluation import units
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.evals.slices import Slice, slices
from txrec.recommender.recommender import Recommender
from txrec.schema import Split

K = 10
METRIC = f"ndcg@{K}"
RESAMPLES = 1_000
Answers = dict[str, list[NDArray[np.int32]]]
"""System = (C, K) lists, one per seed; baselines have one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--small", action="store_true", help="a tiny generated shop, a few steps: a quick look")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    configs = [load(args.config, [*args.overrides, *(SMALL if args.small else ()), f"seed={seed}"]) for seed in seeds]
    data = prepared(configs[0])
    requests = eval_requests(data, Split.TEST, configs[0].evaluate)
    figures = table(data, requests, answers(configs, data, requests))
    print(json.dumps({"config": configs[0].name, "seeds": seeds, "slices": figures}))


def answers(configs: Sequence[Config], data: PreparedData, requests: EvalRequests) -> Answers:
    """Lists of the recommender of every seed, before and after the ranker, and of the baselines."""
    lists = [ask(Recommender.open(made(config, data)), data, requests, K) for config in configs]
    fitted = baselines.fit(data, Split.TEST)
    simple = baselines.answer(fitted, requests, query_texts(data)[1:], data.meta.num_items, K)
    own = {"txrec": [one.ranked for one in lists], "retrieval": [one.retrieved for one in lists]}
    return {**own, **{name: [ids] for name, ids in simple.items()}}


def table(data: PreparedData, requests: EvalRequests, lists: Answers) -> dict[str, Any]:
    """Prints a line per slice, and returns its figures."""
    whole = Slice("all", np.arange(len(requests)), requests.truth)
    result: dict[str, Any] = {}
    heads = ("slice", "requests", "txrec", "retrieval", "best baseline", "difference")
    print("{:<26}{:>9}{:>9}{:>11}{:>28}{:>30}".format(*heads))
    for part in (whole, *slices(data, requests)):
        own = {name: _figure(all_of, part) for name, all_of in lists.items()}
        others = {name: values for name, values in own.items() if name not in ("txrec", "retrieval")}
        best = max(others, key=lambda name: float(others[name].mean()))
        over = bootstrap.paired(own["txrec"], own[best], units(requests)[part.rows], RESAMPLES).difference
        figures = {name: round(float(values.mean()), 4) for name, values in own.items()}
        result[part.name] = {"requests": len(part.rows), **figures, "best": best, "over_best": vars(over)}
        against = f"{figures[best]:.4f} {best}"
        change = f"{over.mean:+.4f} ({over.low:+.4f} to {over.high:+.4f})"
        print(
            f"{part.name.replace('_', ' '):<26}{len(part.rows):>9,}{figures['txrec']:>9.4f}"
            f"{figures['retrieval']:>11.4f}{against:>28}{change:>30}",
            flush=True,
        )
    return result


def _figure(lists: Sequence[NDArray[np.int32]], part: Slice) -> NDArray[np.float64]:
    """(cases,) NDCG@10 in a slice, mean of the seeds."""
    per_seed = [metrics.per_case(ids[part.rows], part.truth, [K])[METRIC] for ids in lists]
    return np.asarray(np.mean(per_seed, axis=0), np.float64)


if __name__ == "__main__":
    main()
