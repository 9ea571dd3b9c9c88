"""Warm start against full training, week after week of the generated shop's log.

    python bench/warm_start.py [configs/demo.toml] [dotted.key=value ...] [--first 4] [--rounds 5] [--small]

The shop's log grows by a week per round; each round prepares what there is, trains text encoder and history model in
full and, from the bundle of the round before, warm (`train.warm_start`), and answers the last week, which neither has
seen. With `data.shop.days=210` there are over twenty rounds. Prints NDCG@10 of both over that week, their seconds and
the ratio of these; last line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from txrec import simulator
from txrec.config import Config
from txrec.config_loader import load
from txrec.data import preparation
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.recommender import bundle
from txrec.recommender.bundle import Bundle
from txrec.schema import Split
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval import validation
from txrec.train.retrieval.setup import text_vectors, trainer_for
from txrec.train.text import pretrain
from txrec.train.warm_start import WARM, Lineage, obstacle, shortened, shortfall

SMALL = (
    "data.shop.num_items=200 data.shop.num_users=300 data.shop.num_events=8000 train.max_epochs=5"
    " pretrain.max_steps=20 ranker.mode=off text.dim=16 model.dim=16"
)


@dataclass(frozen=True)
class Trained:
    """A trained history model on a week that it has not seen."""

    bundle: Bundle
    ndcg: float
    seconds: float


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--first", type=int, default=5, help="weeks of log in the first round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="a tiny shop and model, two rounds")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = load(args.config, [*(SMALL.split() if args.small else ()), *args.overrides, f"runs_root={name}/runs"])
        assert config.data.shop is not None
        simulator.write(config.data.shop, root / "raw")
        earlier: Bundle | None = None
        for number in range(2 if args.small else args.rounds):
            cfg = in_round(config, root, number, args.first + number)
            preparation.run(cfg, preparation.InProcess())
            data = PreparedData.open(cfg.data_dir)
            full = trained(cfg, data, None)
            row: dict[str, Any] = {"round": number, "full": full.ndcg, "full_s": full.seconds}
            warm = None
            why = "" if earlier is None else obstacle(cfg, data, earlier)
            if earlier is not None and not why:
                warm = trained(cfg, data, earlier)
                why = shortfall(cfg, Lineage.of(warm.bundle), Lineage.of(warm.bundle).reached)
                row |= {"warm": warm.ndcg, "warm_s": warm.seconds}
            rows.append(row | ({"full training": why} if why else {}))
            print(json.dumps(rows[-1]), flush=True)
            earlier = full.bundle if warm is None or why else warm.bundle
    both = [row for row in rows if "warm" in row]
    ratio = sum(row["warm_s"] for row in both) / sum(row["full_s"] for row in both) if both else None
    quality = sum(row["warm"] for row in both) / sum(row["full"] for row in both) if both else None
    print(json.dumps({"rounds": rows, "seconds_ratio": ratio, "ndcg_ratio": quality}))


def in_round(config: Config, root: Path, number: int, weeks: int) -> Config:
    """The configuration over the first weeks of the log."""
    raw = root / f"raw{number}"
    raw.mkdir()
    files = sorted((root / "raw").glob("events-*"))[:weeks]
    for file in [root / "raw" / "catalogue.jsonl", *files]:
        (raw / file.name).symlink_to(file)
    where = config.data.model_copy(update={"root": str(raw), "shop": None})
    return config.model_copy(update={"name": f"round{number}", "data": where})


def trained(config: Config, data: PreparedData, earlier: Bundle | None) -> Trained:
    """Trains text encoder and history model, in full or from a bundle, and measures them on the test part."""
    started = time.perf_counter()
    cfg = config if earlier is None else shortened(config)
    folder = config.run_dir / ("full" if earlier is None else "warm")
    pretrain.fit(cfg, data, folder / "text", earlier=None if earlier is None else earlier.path / "text")
    trainer = trainer_for(cfg, data, folder / "text", earlier=earlier)
    trainer.run(lambda *_: None)
    seconds = time.perf_counter() - started
    model = trainer.objective.model.cpu().eval()
    requests = eval_requests(data, Split.TEST, config.evaluate)
    totals = validation.measure(model, requests, text_vectors(folder / "text")[1])
    reached = trainer.state.best
    before = None if earlier is None else Lineage.of(earlier)
    lineage = (
        Lineage(reference=reached, reached=reached)
        if before is None
        else Lineage(WARM, rounds=before.rounds + 1, reference=before.reference, reached=reached)
    )
    off = config.model_copy(update={"ranker": config.ranker.model_copy(update={"mode": "off", "max_examples": 200})})
    ranking = replace(fit_ranker(off, data, model, folder / "text"), lineage=asdict(lineage))
    made = bundle.write(folder / "bundle", config, data, model, folder / "text", ranking)
    return Trained(made, validation.figures(totals)["ndcg@10"], seconds)


if __name__ == "__main__":
    main()
