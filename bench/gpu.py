"""Training on one accelerator with torch alone: speed, share of the chip's arithmetic, time to a target.

    python bench/gpu.py [--device cuda] [--prepared DIR] [--target 0.18] [--compile] [--small] [dotted.key=value ...]

1. Step time at width 256, 8 blocks, 200 positions: full softmax over 10,000 items and sampled softmax over a million
   (row-wise optimiser), next to a plain PyTorch SASRec of the same size (`nn.TransformerEncoder`, whole logits).
2. With `--prepared` (the `data` folder of a MovieLens-1M run): seconds until `configs/movielens-1m.toml` reaches the
   target on validation, validation, recording and compiling included.

`--device cpu --small` runs every line with tiny sizes, as the tests do. Arithmetic is counted as 6 per weight of the
blocks and token, plus attention and loss; the share (MFU) is of the chip's dense bfloat16 peak, by its name below.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from txrec.config import ModelConfig, TrainConfig
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, GroundTruth
from txrec.model.batch import Batch
from txrec.model.history_features import History
from txrec.model.item_encoder import Sizes
from txrec.model.retrieval import RetrievalModel
from txrec.train.retrieval.examples import Step
from txrec.train.retrieval.loop import EpochReport, Trainer
from txrec.train.retrieval.next_item_objective import NextItem, product_dtype
from txrec.train.retrieval.setup import trainer_for

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "movielens-1m.toml"
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}
"""Dense bfloat16, from the makers' data sheets."""


@dataclass(frozen=True)
class Size:
    """Sizes of one measurement."""

    num_items: int
    loss: str
    batch_size: int
    model: ModelConfig
    num_negatives: int = 4_096


def main() -> None:
    args = _arguments()
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
    peak = _peak(args.device)
    width = ModelConfig(dim=32, num_layers=2, max_length=20) if args.small else _wide()
    scale = 100 if args.small else 1
    batch_size = 4 if args.small else 128
    result: dict[str, Any] = {"device": _name(args.device)}
    print(f"{'what':<28} {'tokens/s':>12} {'ms/step':>9} {'MFU':>7} {'peak GB':>8}")
    for name, size in {
        "full_10k": Size(10_000 // scale, "full", batch_size, width),
        "sampled_1m": Size(1_000_000 // scale, "sampled", batch_size, width),
    }.items():
        result[name] = _report(name, size, args.device, peak, _own_training(size, args))
    size = Size(10_000 // scale, "full", batch_size, width)
    result["plain_10k"] = _report("plain_10k", size, args.device, peak, _plain(size, args))
    result["tokens_per_s"], result["mfu"] = result["full_10k"]["tokens_per_s"], result["full_10k"]["mfu"]
    result["ratio"] = result["tokens_per_s"] / result["plain_10k"]["tokens_per_s"]
    if args.prepared:
        result |= time_to_target(Path(args.prepared), args)
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prepared", default="", help="prepared MovieLens-1M data")
    parser.add_argument("--target", type=float, default=0.18)
    parser.add_argument("--compile", action="store_true", help="torch.compile the blocks, the plain model's too")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("overrides", nargs="*", help="laid over configs/movielens-1m.toml")
    return parser.parse_args()


def _wide() -> ModelConfig:
    return ModelConfig(dim=256, num_layers=8, num_heads=4, max_length=200, use_category=False)


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _peak(device: str) -> float | None:
    return next((flops for name, flops in PEAK_FLOPS.items() if name in _name(device)), None)


def _batch(size: Size, device: str) -> Batch:
    shape = (size.batch_size, size.model.max_length)
    generator = torch.Generator().manual_seed(0)
    item = torch.randint(1, size.num_items + 1, shape, generator=generator)
    zeros = torch.zeros(shape)
    length = torch.full((size.batch_size,), size.model.max_length)
    return Batch(
        item_idx=item,
        event=torch.full(shape, 4),
        query_idx=torch.zeros(shape, dtype=torch.int64),
        query_vectors=torch.zeros(1, 1),
        ts=zeros,
        request_ts=zeros,
        target=item.roll(-1, 1),
        length=length,
    ).to(device)


@dataclass(frozen=True)
class Repeated:
    """The same step again and again."""

    batch: Batch
    query_vectors: Tensor | None = None

    def steps(self, *_: int) -> Iterator[Step]:
        """Without end."""
        while True:
            yield Step(self.batch, 0, 1, False)


def _own_training(size: Size, args: argparse.Namespace) -> Callable[[], Tensor]:
    """One training step of the history model, clipping and optimisers included."""
    sizes = Sizes(size.num_items, size.num_items, 0, 0, 0, 0, False)
    negatives = min(size.num_negatives, size.num_items // 2)
    train = TrainConfig(loss=size.loss, num_negatives=negatives, compile=args.compile)
    model = RetrievalModel(size.model, sizes)
    model.encoder.id_row.copy_(torch.arange(size.num_items + 1))
    objective = NextItem(model, train, torch.ones(size.num_items), product_dtype("auto", args.device))
    source = Repeated(_batch(size, args.device))
    trainer = Trainer(objective, source, _no_cases(), train, seed=0, device=args.device)
    trainer.train_step.module.train()
    return lambda: trainer.step(source.batch, 0.5, True)


def _no_cases() -> EvalRequests:
    none = np.empty(0, np.int64)
    events = History(none.astype(np.int32), none.astype(np.int32), none.astype(np.int8), none)
    truth = GroundTruth(np.zeros(1, np.int64), none.astype(np.int32))
    return EvalRequests(events, none, none, none, none.astype(np.int32), none, truth, False)


class PlainSasrec(nn.Module):
    """SASRec as a textbook writes it: `nn.TransformerEncoder`, dot products with the whole table, cross-entropy."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        cfg = size.model
        self.items = nn.Embedding(size.num_items + 1, cfg.dim, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(cfg.max_length, cfg.dim))
        layer = nn.TransformerEncoderLayer(cfg.dim, cfg.num_heads, 4 * cfg.dim, cfg.dropout, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, cfg.num_layers)

    def forward(self, batch: Batch) -> Tensor:
        """Summed loss."""
        length = batch.item_idx.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=batch.item_idx.device)
        with torch.autocast(batch.item_idx.device.type, torch.bfloat16):
            states = self.blocks(self.items(batch.item_idx) + self.places[:length], mask=mask, is_causal=True)
            logits = states @ self.items.weight.T
        return F.cross_entropy(logits.flatten(0, 1).float(), batch.target.flatten(), reduction="sum")


def _plain(size: Size, args: argparse.Namespace) -> Callable[[], Tensor]:
    module, batch = PlainSasrec(size).to(args.device), _batch(size, args.device)
    if args.compile:
        for layer in module.blocks.layers:
            layer.compile()
    optimizer = torch.optim.AdamW(module.parameters())
    targets = int((batch.target != 0).sum())

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = module(batch) / targets
        loss.backward()
        optimizer.step()
        return loss

    return step


def _report(name: str, size: Size, device: str, peak: float | None, step: Callable[[], Tensor]) -> dict[str, Any]:
    seconds, peak_gb = _time(step, device)
    tokens = size.batch_size * size.model.max_length
    mfu = arithmetic(size) * tokens / seconds / peak if peak else None
    shown = f"{mfu:7.1%}" if mfu is not None else "      -"
    print(f"{name:<28} {tokens / seconds:>12,.0f} {1e3 * seconds:>9.2f} {shown} {peak_gb:>8.2f}", flush=True)
    return {"tokens_per_s": tokens / seconds, "step_ms": 1e3 * seconds, "mfu": mfu, "peak_gb": peak_gb}


def _time(step: Callable[[], Tensor], device: str) -> tuple[float, float]:
    """Seconds per step, median of five runs of several steps, and the most memory held."""
    steps = 20 if device == "cuda" else 2
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(steps):
        step()
    runs = []
    for _ in range(5):
        _wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(device)
        runs.append((time.perf_counter() - started) / steps)
    return sorted(runs)[2], torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def arithmetic(size: Size) -> float:
    """Floating point operations per token of a training step: forward, and twice that backward."""
    d, layers, length = size.model.dim, size.model.num_layers, size.model.max_length
    weights = layers * (5 * d * d + 7 * d * d)  # query, key, value, gate, output; SwiGLU of width 2 d with its gate
    attention = layers * 2 * length * d  # scores and mixing, causal half
    candidates = size.num_items if size.loss == "full" else size.num_negatives
    return 6 * (weights + attention / 2 + candidates * d)


def time_to_target(prepared: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Trains on MovieLens-1M until validation NDCG@10 reaches the target."""
    overrides = [f"train.compile={str(args.compile).lower()}", *args.overrides]
    config = load(str(CONFIG), overrides)
    trainer = trainer_for(config, PreparedData.open(prepared), None, args.device)
    reached: list[float] = []

    def on_epoch(run: Trainer, report: EpochReport) -> None:
        ndcg = report.figures.get("ndcg@10", 0.0)
        print(f"epoch {report.epoch:>3} {report.seconds:8.1f} s  NDCG@10 {ndcg:.4f}", flush=True)
        if ndcg >= args.target and not reached:
            reached.append(report.seconds)
            run.state.stale = config.train.patience  # far enough

    trainer.run(on_epoch)
    return {"seconds_to_target": reached[0] if reached else None, "validation_ndcg@10": trainer.state.best}


if __name__ == "__main__":
    main()
