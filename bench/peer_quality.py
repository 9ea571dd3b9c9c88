"""Quality of RecTools' SASRecModel on a prepared data set, measured on the same test cases as txrec.

    python bench/peer_quality.py [configs/online-retail.toml] [dotted.key=value ...] [--bundle DIR] [--factors 64]
                                 [--length 100] [--dropout 0.2] [--epochs 40] [--refit] [--peer-python PATH] [--small]

Needs the prepared data of the configuration (`txrec prepare CONFIG`). The peer sees the same events in the same order
and answers the same cases under the same rule for items seen before. It chooses its number of epochs on the validation
part, trained before it as txrec's history model is; with `--refit` it is also trained anew on everything before the
test part, as the baselines are. Histories at the time of the test include validation in both. Users that it does not
know get the popular items, as with every baseline. A trained bundle (`txrec train CONFIG`), where there is one, stands
next to it. Requests with queries are beyond the peer. Prints NDCG@10 and recall@10 with 95 % bootstrap intervals over
users, and one JSON object as its last line.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from peers import small
from peers.rectools_environment import environment, export

from txrec.config import Config
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals import baselines, bootstrap, metrics
from txrec.evals.answering import ask, query_texts
from txrec.evals.evaluation import units
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.recommender.recommender import Recommender
from txrec.schema import PAD, Split

ROOT = Path(__file__).resolve().parent.parent
LISTS = "lists.csv"
K = 10
RESAMPLES = 1_000
Lists = dict[str, NDArray[np.int32]]


def main() -> None:
    args = _arguments()
    config = small.prepared() if args.small else load(Path(args.config), args.overrides)
    data = PreparedData.open(config.data_dir)
    requests = eval_requests(data, Split.TEST, config.evaluate)
    if len(np.unique(requests.user)) < len(requests):  # a search is a case of its own, and RecTools has none
        requests = requests.select(np.flatnonzero(requests.query_idx == PAD))
    systems = baselines.answer(baselines.fit(data, Split.TEST), requests, query_texts(data)[1:], data.meta.num_items, K)
    result: dict[str, Any] = {"config": config.name, "cases": len(requests)}
    if not args.small:
        with tempfile.TemporaryDirectory() as folder:
            result["peer"] = run_peer(config, data, args, Path(folder))
            systems |= peer_lists(requests, Path(folder) / LISTS, systems["popularity"])
    bundle = Path(args.bundle) if args.bundle else config.candidate_dir
    if (bundle / "manifest.json").is_file():
        answers = ask(Recommender.open(bundle), data, requests, K)
        systems |= {"txrec": answers.ranked, "txrec, retrieval order": answers.retrieved}
    print(json.dumps(result | {"systems": table(systems, requests)}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "online-retail.toml"))
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--bundle", default="", help="default: the run's candidate, if there is one")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=40, help="at most")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better validation figure")
    parser.add_argument("--refit", action="store_true", help="also train anew on everything before the test part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer-python", default="", help="python of an environment that has RecTools already")
    parser.add_argument(
        "--small", action="store_true", help="a generated shop and the baselines alone, without the peer"
    )
    return parser.parse_args()


def run_peer(config: Config, data: PreparedData, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Trains the peer, which writes its lists into a folder; returns its settings and learning curve."""
    export(data, folder / "events.csv")
    names = ("factors", "blocks", "heads", "length", "dropout", "batch_size", "epochs", "patience", "refit", "seed")
    settings = {name: getattr(args, name) for name in (*names, "threads")}
    settings |= {"k": K, "filter_seen": config.evaluate.filter_seen}
    script = ROOT / "bench" / "peers" / "rectools_lists.py"
    files = [str(folder / name) for name in ("events.csv", "peer.json", LISTS)]
    python = args.peer_python or str(environment())
    subprocess.run([python, str(script), *files, json.dumps(settings)], check=True, cwd=folder)
    result: dict[str, Any] = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    return {"settings": settings, **result}


def peer_lists(requests: EvalRequests, path: Path, popular: NDArray[np.int32]) -> Lists:
    """The peer's lists, one for each way of training, in the order of the cases.

    Args:
        asked: C cases, one per user.
        path: CSV of trained, user_id, item_id, rank.
        popular: (C, K) what fills lists that are short or missing.
    """
    table = pd.read_csv(path)
    case = pd.Series(np.arange(len(requests)), index=requests.user)
    lists: Lists = {}
    for trained, part in table[table["user_id"].isin(requests.user)].groupby("trained"):
        ids = np.zeros((len(requests), K), np.int32)
        ids[case[part["user_id"]], part["rank"] - 1] = part["item_id"]
        lists[f"RecTools, {trained}"] = baselines.fill(ids, popular)
    return lists


def table(systems: Lists, requests: EvalRequests) -> dict[str, dict[str, Any]]:
    """Prints a line per system; returns the figures, on all cases and on those of users with a history."""
    known, user, shown = requests.end > requests.start, units(requests), (f"ndcg@{K}", f"recall@{K}")
    print(f"{len(requests):,} cases, {int(known.sum()):,} of users with a history (last column)")
    print(f"{'':<32}" + "".join(f"{name:>25}" for name in shown) + f"{shown[0]:>10}")
    rows: dict[str, dict[str, Any]] = {}
    for name, ids in systems.items():
        per_case = metrics.per_case(ids, requests.truth, [K])
        spans = bootstrap.intervals({figure: per_case[figure] for figure in shown}, user, RESAMPLES)
        rows[name] = {figure: vars(span) for figure, span in spans.items()}
        rows[name]["with history"] = float(per_case[shown[0]][known].mean())
        cells = (f"{span.mean:.4f} ({span.low:.4f}-{span.high:.4f})" for span in spans.values())
        print(f"{name:<32}" + "".join(f"{cell:>25}" for cell in cells) + f"{rows[name]['with history']:>10.4f}")
    return rows


if __name__ == "__main__":
    main()
