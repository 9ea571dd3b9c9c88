"""Training speed and quality of the history model, next to RecTools' SASRecModel.

    python bench/train.py [configs/movielens-1m.toml] [dotted.key=value ...] [--target 0.17] [--peer-epochs 2]
                          [--rounds 18] [--skip-peer] [--skip-ray] [--peer-python PATH] [--small]

Needs the prepared data of the configuration (`txrec prepare CONFIG`); `--small` makes its own, a generated shop, and
leaves the peer out. The same events, width, depth, heads, length and
dropout are given to both. RecTools lives in an environment of its own (`.bench/rectools`), made here by pip on first
use. Tokens are real positions with padding left out; the peer's are counted the same way. Validation is not counted.
What Ray Train costs is measured in pairs (`turns.py`), with `--rounds` turns of 4 s for each of three ways: the bare
loop in one process, Ray Train with the configured workers, and the bare loop in as many processes.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import turns
from numpy.typing import NDArray
from peers import small
from peers.rectools_environment import environment, export
from torch.profiler import ProfilerActivity, profile

from pipelines import train
from pipelines.distributed import cluster
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.progress import Progress, silent
from txrec.schema import Split
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import EpochReport, Trainer
from txrec.train.retrieval.setup import trainer_for
from txrec.train.retrieval.validation import figures, measure

ROOT = Path(__file__).resolve().parent.parent
PROFILED_STEPS = 20
ENDLESS = 1_000_000
TURN_S = 4.0
"""Ray bears a stop of a few seconds; its health checks take longer ones for a death."""
SMALL = ("text.encoder=none", "model.max_length=50", "train.max_epochs=3")
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmm_", "aten::baddbmm"),
    "dropout": ("aten::bernoulli_",),
    "exp and softmax": ("aten::exp_", "aten::exp", "aten::_softmax", "aten::_softmax_backward_data"),
    "optimiser": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::_foreach_mul_"),
}


def main() -> None:
    args = _arguments()
    config = small.prepared(SMALL) if args.small else load(Path(args.config), args.overrides)
    data = PreparedData.open(config.data_dir)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    result: dict[str, Any] = {"threads": args.threads, "shares": shares(config, data)}
    result |= run_here(config, data, args.target)
    if not args.skip_ray:
        result |= run_ray(config, data, args)
    if not (args.skip_peer or args.small):
        result |= run_peer(config, data, args, result["tokens_per_s"])
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "movielens-1m.toml"))
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--target", type=float, default=0.17, help="validation NDCG@10 to be timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=18, help="turns of each way of training, with and without Ray")
    parser.add_argument("--peer-epochs", type=int, default=2)
    parser.add_argument("--peer-python", default="", help="python of an environment that has RecTools already")
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--skip-ray", action="store_true")
    parser.add_argument("--small", action="store_true", help="a generated shop and few epochs, to try the script")
    return parser.parse_args()


def run_here(config: Config, data: PreparedData, target: float) -> dict[str, Any]:
    """Trains in this process: speed, time to the target on validation, and the test figures."""
    trainer = trainer_for(config, data, train.text_folder(config))
    print(f"{'epoch':>5} {'loss':>7} {'ndcg@10':>8} {'recall@10':>9} {'tokens/s':>9} {'seconds':>8}")
    trainer.run(_print_epoch)
    reports = trainer.state.history
    reached = [report["seconds"] for report in reports if _figure(report) >= target]
    test = figures(
        measure(
            trainer.objective.model, eval_requests(data, Split.TEST, config.evaluate), trainer.examples.query_vectors
        )
    )
    print(f"test NDCG@10 {test['ndcg@10']:.4f}  HR@10 {test['recall@10']:.4f}")
    return {
        "tokens_per_s": float(np.median([report["tokens_per_s"] for report in reports])),
        "seconds_to_target": reached[0] if reached else None,
        "target": target,
        "validation_ndcg@10": trainer.state.best,
        "ndcg@10": test["ndcg@10"],
        "hr@10": test["recall@10"],
        "seconds": trainer.state.seconds,
    }


def _figure(report: dict[str, Any]) -> float:
    return float(report["figures"].get("ndcg@10", 0.0))


def _print_epoch(_: Trainer, report: EpochReport) -> None:
    ndcg, recall = report.figures.get("ndcg@10", 0.0), report.figures.get("recall@10", 0.0)
    rate, seconds = f"{report.tokens_per_s:,.0f}", f"{report.seconds:.1f}"
    print(f"{report.epoch:>5} {report.loss:>7.3f} {ndcg:>8.4f} {recall:>9.4f} {rate:>9} {seconds:>8}", flush=True)


def _in_memory(examples: object) -> Examples:
    """The training examples, which these measurements need at once rather than streamed."""
    if not isinstance(examples, Examples):
        raise SystemExit("the sequences stream: set train.ingest=memory")
    return examples


def shares(config: Config, data: PreparedData) -> dict[str, float]:
    """Share of a step's time by kind of work: data, forward, loss with its gradients, and operators by group."""
    trainer = trainer_for(config, data, train.text_folder(config))
    examples = _in_memory(trainer.examples)
    batches = examples.batches(config.seed, 0)[:PROFILED_STEPS]
    started = time.perf_counter()
    made = [examples.batch(starts, ends) for starts, ends in batches]
    data_s = time.perf_counter() - started
    trainer.train_step.module.train()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for batch in made:
            trainer.step(batch, 0.0, True)
    total_s = time.perf_counter() - started + data_s
    by_group: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        group = next((name for name, operators in GROUPS.items() if event.key in operators), "the rest")
        by_group[group] += event.self_cpu_time_total / 1e6
    loss_s = sum(e.cpu_time_total for e in profiled.key_averages() if e.key == "_ChunkedSoftmax") / 1e6
    result = {"data": data_s / total_s, "loss (its products included)": loss_s / total_s}
    result |= {name: seconds / total_s for name, seconds in sorted(by_group.items())}
    for name, share in result.items():
        print(f"{name:<32} {share:6.1%}")
    return {name: round(share, 3) for name, share in result.items()}


def run_ray(config: Config, data: PreparedData, args: argparse.Namespace) -> dict[str, Any]:
    """The price of Ray Train: the bare loop and `txrec train`'s history part train the same epochs in turns.

    Whoever trains, all others stand still, a whole cluster of Ray too. The ways of a round are paired.
    """
    endless = {"max_epochs": ENDLESS, "validate_every": ENDLESS}
    config = config.model_copy(update={"train": config.train.model_copy(update=endless)})
    num_workers = config.train.num_workers
    runners = {  # Ray in the middle: it is never stopped for more than two turns
        "bare": turns.Runner(partial(_bare, config, 1, args.threads)),
        "ray": turns.Runner(partial(_under_ray, config)),
        "apart": turns.Runner(partial(_bare, config, num_workers, args.threads)),
    }
    with ExitStack() as stack:
        ways = {
            name: turns.Way(stack.enter_context(runner), _tokens_of(config, data, 1 if name == "bare" else num_workers))
            for name, runner in runners.items()
        }
        rates = turns.race(ways, args.rounds, TURN_S)
    figures: dict[str, Any] = {"ray_tokens_per_s": float(np.nanmedian(rates["ray"])), "rounds": args.rounds}
    for way, other in (("ray", "bare"), ("ray", "apart"), ("apart", "bare")):
        median, low, high = figures[f"{way}_over_{other}"] = turns.ratio(rates[way], rates[other])
        print(f"{way}: {np.nanmedian(rates[way]):,.0f} tokens/s, {median:.3f} of {other} ({low:.3f}-{high:.3f})")
    return figures


def _bare(config: Config, num_processes: int, threads: int, progress: Progress) -> None:
    """Trains without Ray, in this process and as many others as are missing; they share the threads."""
    with tempfile.TemporaryDirectory() as folder:
        shared = config, num_processes, max(threads // num_processes, 1), f"file://{folder}/meeting"
        others = get_context("spawn")
        for rank in range(1, num_processes):
            others.Process(target=_train_one, args=(rank, *shared), daemon=True).start()
        _train_one(0, *shared, progress)


def _train_one(
    rank: int, config: Config, num_processes: int, threads: int, meeting: str, progress: Progress = silent
) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if num_processes > 1:
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=num_processes)
    trainer = trainer_for(config, PreparedData.open(config.data_dir), train.text_folder(config))
    trainer.run(lambda *_: None, progress)


def _under_ray(config: Config, progress: Progress) -> None:
    short = config.model_copy(update={"runs_root": str(ROOT / ".bench" / "runs")})
    work = short.checkpoints_dir.absolute() / "ray-bench"
    shutil.rmtree(work, ignore_errors=True)  # a run that is there would be taken up
    with cluster.connect():
        train.train_history(short, PreparedData.open(config.data_dir), train.text_folder(config), work, progress)


def _tokens_of(config: Config, data: PreparedData, num_workers: int) -> Callable[[int, int], int]:
    """(step, steps in all epochs) as training reports them -> tokens trained on so far, by all workers."""
    examples = _in_memory(trainer_for(config, data, train.text_folder(config)).examples)

    @cache
    def ends(epoch: int) -> NDArray[np.int64]:
        before = ends(epoch - 1)[-1] if epoch else 0
        steps = examples.batches(config.seed, epoch, num_workers)
        return before + np.cumsum([(stop - start).sum() for start, stop in steps])

    def tokens(step: int, total: int) -> int:
        epoch, place = divmod(step - 1, total // config.train.max_epochs)
        return int(ends(epoch)[place])

    return tokens


def run_peer(config: Config, data: PreparedData, args: argparse.Namespace, own_rate: float) -> dict[str, Any]:
    """RecTools on the same events; its speed and, if it is given enough epochs, its time to the target."""
    python = args.peer_python or str(environment())
    folder = ROOT / ".bench"
    folder.mkdir(exist_ok=True)
    export(data, folder / "events.csv")
    settings = {
        "epochs": args.peer_epochs,
        "validate_every": 5,
        "target": args.target,
        "threads": args.threads,
        "factors": config.model.dim,
        "blocks": config.model.num_layers,
        "heads": config.model.num_heads,
        "length": config.model.max_length,
        "dropout": config.model.dropout,
        "batch_size": 128,
    }
    script = ROOT / "bench" / "peers" / "rectools_sasrec.py"
    command = [python, str(script), str(folder / "events.csv"), str(folder / "peer.json"), json.dumps(settings)]
    subprocess.run(command, check=True, cwd=folder)
    epochs = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    reached = [epoch["seconds"] for epoch in epochs if (epoch["ndcg@10"] or 0) >= args.target]
    rate = epochs[-1]["tokens_per_s"]
    print(f"RecTools SASRecModel: {rate:,.0f} tokens/s; txrec is {own_rate / rate:.1f} times as fast")
    best = max((epoch["ndcg@10"] or 0 for epoch in epochs), default=0)
    return {
        "peer_tokens_per_s": rate,
        "ratio": own_rate / rate,
        "peer_epochs": len(epochs),
        "peer_seconds": epochs[-1]["seconds"],
        "peer_validation_ndcg@10": best,
        "peer_seconds_to_target": reached[0] if reached else None,
    }


if __name__ == "__main__":
    main()
