"""Costs of a large catalogue in training: step time, memory and validation at ten thousand to ten million items.

    python bench/scale.py [--items 10000 1000000 10000000] [--small]

Generated users (log-uniform items, 50 events each), width 64, 2 blocks, sampled softmax with 4,096 shared negatives;
the same model and batches at every size, each in a process of its own, on the CPU. "adamw" moves the whole item table
at every step, "rowwise" the rows that the batch used; what does not fit into memory is left out and says so.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import psutil
import torch

from txrec.config import ModelConfig, TrainConfig
from txrec.data.prepared import Sequences
from txrec.evals.protocol import EvalRequests, GroundTruth
from txrec.model.history_features import History
from txrec.model.item_encoder import Sizes
from txrec.model.retrieval import RetrievalModel
from txrec.schema import EventKind, Split
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Trainer
from txrec.train.retrieval.next_item_objective import NextItem, product_dtype
from txrec.train.retrieval.validation import measure

LENGTH = 50
NUM_CASES = 256
COPIES = {"adamw": 7, "rowwise": 2}
"""Copies of the item table at the peak: table and best state; with AdamW gradients, their sum and two moments."""


def main() -> None:
    args = _arguments()
    if args.one:
        print(json.dumps(measured(args.items[0], args.one, args.steps)))
        return
    rows = []
    print(f"{'items':>12} {'optimiser':<9} {'ms/step':>9} {'tokens/s':>10} {'peak GB':>8} {'validation s':>13}")
    for num_items in args.items:
        for name, copies in COPIES.items():
            if copies * num_items * ModelConfig().dim * 4 > psutil.virtual_memory().available * 0.8:
                print(f"{num_items:>12,} {name:<9} does not fit into {psutil.virtual_memory().available / 1e9:.0f} GB")
                continue
            command = [sys.executable, __file__, "--one", name, "--items", str(num_items), "--steps", str(args.steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            step, rate, peak, validation = (row[k] for k in ("step_ms", "tokens_per_s", "peak_gb", "validation_s"))
            shown = f"{step:>9.1f} {rate:>10,.0f} {peak:>8.2f} {validation:>13.2f}"
            print(f"{num_items:>12,} {name:<9} {shown}", flush=True)
    smallest = {row["optimizer"]: row["step_ms"] for row in reversed(rows)}
    for row in rows:
        row["step_ratio"] = row["step_ms"] / smallest[row["optimizer"]]
    print(json.dumps({"rows": rows}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="a thousand and a hundred thousand items, a few steps")
    parser.add_argument("--one", choices=list(COPIES), default="", help="one measurement, in this process")
    args = parser.parse_args()
    if args.small:
        args.items, args.steps = [1_000, 100_000], 3
    return args


def measured(num_items: int, choice: str, steps: int) -> dict[str, float | str]:
    """Step time (median), peak memory above that of the imports, and the time of a validation."""
    torch.set_flush_denormal(True)
    before = _peak_bytes()
    trainer = synthetic_trainer(num_items, choice)
    batches = [step.batch for step in trainer.examples.steps(0, 0)]
    trainer.train_step.module.train()
    seconds, tokens = [], []
    for place in range(steps + 2):  # two to warm up
        started = time.perf_counter()
        tokens.append(float(trainer.step(batches[place % len(batches)], 0.5, True)[2]))
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    measure(trainer.objective.model, trainer.cases, None)
    return {
        "items": num_items,
        "optimizer": choice,
        "step_ms": 1e3 * float(np.median(seconds[2:])),
        "tokens_per_s": sum(tokens[2:]) / sum(seconds[2:]),
        "peak_gb": (_peak_bytes() - before) / 1e9,
        "validation_s": time.perf_counter() - started,
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synthetic_trainer(num_items: int, choice: str) -> Trainer:
    """A trainer of a model over random sequences."""
    cfg = ModelConfig(max_length=LENGTH, use_category=False, use_time=False)
    train = TrainConfig(loss="sampled", num_negatives=min(4_096, num_items // 2), item_optimizer=choice)
    model = RetrievalModel(cfg, Sizes(num_items, num_items, 0, 0, 0, 0, False))
    model.encoder.id_row.copy_(torch.arange(num_items + 1))
    sequences = _users(train.batch_size * 8, num_items)
    counts = torch.from_numpy(np.bincount(sequences.item_idx, minlength=num_items + 1)[1:])
    objective = NextItem(model, train, counts, product_dtype(train.precision, "cpu"))
    return Trainer(objective, Examples.of(sequences, None, cfg, train), _cases(sequences), train, seed=0)


def _users(num: int, num_items: int) -> Sequences:
    events = num * LENGTH
    item = np.floor(num_items ** np.random.default_rng(0).random(events)).astype(np.int32)
    none = np.zeros(events)
    return Sequences(
        user_id=np.arange(num).astype(object),
        offsets=np.arange(num + 1) * LENGTH,
        item_idx=item,
        query_idx=none.astype(np.int32),
        event=np.full(events, EventKind.CLICK, np.int8),
        ts=none.astype(np.int64),
        value=none.astype(np.float32),
        split=np.full(events, Split.TRAIN, np.int8),
    )


def _cases(sequences: Sequences) -> EvalRequests:
    ends = sequences.offsets[1 : NUM_CASES + 1] - 1
    return EvalRequests(
        events=History(sequences.item_idx, sequences.query_idx, sequences.event, sequences.ts),
        user=np.arange(NUM_CASES),
        start=sequences.offsets[:NUM_CASES],
        end=ends,
        query_idx=np.zeros(NUM_CASES, np.int32),
        now_us=np.zeros(NUM_CASES, np.int64),
        truth=GroundTruth(np.arange(NUM_CASES + 1), sequences.item_idx[ends]),
        filter_seen=True,
    )


if __name__ == "__main__":
    main()
