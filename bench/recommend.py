"""Users per second of `txrec recommend`, next to RecTools' `recommend` on the same work.

    python bench/recommend.py [configs/movielens-1m.toml] [dotted.key=value ...] [--bundle DIR] [--top-k 10]
                              [--skip-peer] [--peer-python PATH] [--small]

Needs the prepared data of the configuration and a trained bundle (`txrec train CONFIG`); `--small` makes both itself
from a small generated shop and leaves the peer out. Every user of the data set gets products that they have not had.

The rows: the whole job (Ray Data actors that answer with every candidate source and the ranker, and write Parquet),
with and without its start; the same code in this process; and the history model alone (encode the history, the exact
best of the catalogue), which is what the peer's SASRecModel of the same width, depth and length does. RecTools lives in
the environment that `bench/train.py` makes as well.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.rectools_environment import environment, export

from pipelines import recommend as job
from pipelines.distributed import cluster
from txrec import simulator
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.recommender import bundle
from txrec.recommender.recommender import Recommender, Request
from txrec.recommender.retrieval.retriever import BatchQueryVectors
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.setup import trainer_for
from txrec.train.text import pretrain

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    f"runs_root={ROOT / '.bench' / 'runs'}",
    f"data.root={ROOT / '.bench' / 'runs' / 'raw'}",
    "name=recommend-small",
    "data.shop.num_items=300",
    "data.shop.num_users=400",
    "data.shop.num_events=8000",
    "pretrain.masked_epochs=0",
    "pretrain.contrastive_epochs=1",
    "train.max_epochs=1",
    "ranker.max_epochs=1",
)


def main() -> None:
    args = _arguments()
    config = _small() if args.small else load(Path(args.config), args.overrides)
    folder = Path(args.bundle) if args.bundle else config.candidate_dir
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {"threads": args.threads, "top_k": args.top_k}
    result |= run_job(config, folder, args.top_k)
    result |= run_here(Recommender.open(folder), args.top_k, args.runs)
    if not (args.skip_peer or args.small):
        result |= run_peer(config, PreparedData.open(config.data_dir), args)
        result["ratio"] = result["model_users_per_s"] / result["peer_users_per_s"]
        result["job_ratio"] = result["steady_users_per_s"] / result["peer_users_per_s"]
        print(
            f"of the peer's users/s: the history model alone {result['ratio']:.2f}, the job {result['job_ratio']:.2f}"
        )
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "movielens-1m.toml"))
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--bundle", default="", help="default: the run's candidate")
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=2, help="the best of so many runs counts, in this process")
    parser.add_argument("--peer-python", default="", help="python of an environment that has RecTools already")
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--small", action="store_true", help="a small generated shop, without the peer")
    return parser.parse_args()


def _small() -> Config:
    """A small generated shop with a bundle of one epoch, made once."""
    config = load(ROOT / "configs" / "demo.toml", SMALL)
    if (config.candidate_dir / "manifest.json").is_file():
        return config
    assert config.data.shop is not None
    simulator.write(config.data.shop, Path(config.data.root))
    preparation.run(config, preparation.InProcess())
    data, text = PreparedData.open(config.data_dir), config.checkpoints_dir / "text"
    pretrain.fit(config, data, text)
    trainer = trainer_for(config, data, text)
    trainer.run(lambda *_: None)
    model = trainer.objective.model
    bundle.write(config.candidate_dir, config, data, model, text, fit_ranker(config, data, model, text))
    return config


def run_job(config: Config, folder: Path, top_k: int) -> dict[str, Any]:
    """The job itself, as `txrec recommend` runs it."""
    with cluster.connect(), tempfile.TemporaryDirectory() as out:
        summary = job.run(config, "all", Path(out) / "out", job.BatchOptions(top_k, str(folder), exclude_seen=True))
    steady = summary.num_actors * summary.actor_users_per_s
    _print("txrec recommend, start of the actors included", summary.users_per_s)
    _print(f"txrec recommend, {summary.num_actors} actors once started", steady)
    return {"users": summary.num_users, "users_per_s": summary.users_per_s, "steady_users_per_s": steady}


def run_here(recommender: Recommender, top_k: int, runs: int) -> dict[str, float]:
    """The same answers in this process, and what the history model alone needs."""
    users = sorted(recommender.known_users(), key=recommender.history_length)  # as the job does within a part
    requests = [Request(user_id=user, top_k=top_k, exclude_seen=True) for user in users]
    figures = {
        "here_users_per_s": len(users) / best_s(recommender.recommend, requests, runs),
        "retrieval_users_per_s": len(users) / best_s(recommender.retrieve, requests, runs),
        "model_users_per_s": len(users) / best_s(lambda batch: _by_model(recommender, batch), requests, runs),
    }
    _print("one process: every source and the ranker", figures["here_users_per_s"])
    _print("one process: every source, no ranker", figures["retrieval_users_per_s"])
    _print("one process: the history model alone", figures["model_users_per_s"])
    return figures


def best_s(answer: Callable[[Sequence[Request]], object], requests: Sequence[Request], runs: int) -> float:
    """Seconds of the fastest of some runs over all requests, in the job's batches."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        for start in range(0, len(requests), job.BATCH):
            answer(requests[start : start + job.BATCH])
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _by_model(recommender: Recommender, requests: Sequence[Request]) -> list[list[str]]:
    """Raw ids of the items most alike to each user's state, without those of their history."""
    batch_vectors = BatchQueryVectors(recommender.retriever.query_encoder)
    retrieval_queries = [recommender.request_encoder.retrieval_query(request, batch_vectors) for request in requests]
    states = recommender.retriever.states(retrieval_queries, batch_vectors)
    masks = [question.mask for question in retrieval_queries]
    hits = recommender.retriever.dense.nearest(states, requests[0].top_k, masks)
    keys = np.asarray(recommender.catalogue.item_ids)
    return [keys[row].tolist() for row in hits.item_idx]


def run_peer(config: Config, data: PreparedData, args: argparse.Namespace) -> dict[str, float]:
    """RecTools over the same histories."""
    python = args.peer_python or str(environment())
    work = ROOT / ".bench"
    export(data, work / "histories.csv")
    settings = {
        "threads": args.threads,
        "factors": config.model.dim,
        "blocks": config.model.num_layers,
        "heads": config.model.num_heads,
        "length": config.model.max_length,
        "k": args.top_k,
    }
    script = ROOT / "bench" / "peers" / "rectools_recommend.py"
    command = [python, str(script), str(work / "histories.csv"), str(work / "recommend.json"), json.dumps(settings)]
    subprocess.run(command, check=True, cwd=work)
    figures = json.loads((work / "recommend.json").read_text(encoding="utf-8"))
    _print("RecTools SASRecModel.recommend", figures["users_per_s"])
    return {"peer_users_per_s": figures["users_per_s"], "peer_users": figures["users"]}


def _print(name: str, users_per_s: float) -> None:
    print(f"{name:<46} {users_per_s:>9,.0f} users/s", flush=True)


if __name__ == "__main__":
    main()
