"""Warm start against full training, week after week of the generated shop's log.

    python bench/warm_start.py [configs/demo.toml] [dotted.key=value ...] [--first 5] [--rounds 4] [--every 1]
                               [--small] [--medium]

The shop's log grows by a week per round; each round prepares what there is, trains text encoder and history model in
full and, from the bundle of the round before, warm (`train.warm_start`), and answers the last week, which neither has
seen. `--every` trains in full in every so many rounds only, to compare. `--medium` is a shop of 600 users over 27 weeks
and twenty warm rounds in a row, of which every fourth is compared. Prints NDCG@10 of both over that week and their
seconds; then the ratios, and the trend of the quality ratio per round with its standard error, which is negative where
warm starts decay; last line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import linregress

from txrec import simulator
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.preparation import preparation
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


MEDIUM = (
    "data.shop.num_items=300 data.shop.num_users=600 data.shop.num_events=60000 data.shop.days=189 train.max_epochs=10"
    " text.encoder=none ranker.mode=off model.use_text=false model.dim=32 model.num_layers=1"
    " train.warm_start.max_rounds=100"
)
MEDIUM_FIRST, MEDIUM_ROUNDS, MEDIUM_EVERY = 6, 21, 4


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
    parser.add_argument("--every", type=int, default=1, help="rounds between two full trainings to compare with")
    parser.add_argument("--small", action="store_true", help="a tiny shop and model, two rounds")
    parser.add_argument("--medium", action="store_true", help="a small shop and model, twenty warm rounds in a row")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.small:
        args.rounds = 2
    if args.medium:
        args.first, args.rounds, args.every = MEDIUM_FIRST, MEDIUM_ROUNDS, MEDIUM_EVERY
    settings = SMALL.split() if args.small else MEDIUM.split() if args.medium else []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = load(args.config, [*settings, *args.overrides, f"runs_root={name}/runs"])
        assert config.data.shop is not None
        simulator.write(config.data.shop, root / "raw")
        earlier: Bundle | None = None
        for number in range(args.rounds):
            cfg = in_round(config, root, number, args.first + number)
            preparation.run(cfg, preparation.InProcess())
            row, earlier = one_round(cfg, number, earlier, compared=number % args.every == 0)
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(json.dumps({"rounds": rows, **ratios(rows)}))


def one_round(
    config: Config, number: int, earlier: Bundle | None, compared: bool
) -> tuple[dict[str, Any], Bundle | None]:
    """Trains warm from the bundle of the round before and, to compare or where that is not possible, in full.

    Returns:
        The figures of the round, and the bundle that the next round continues from.
    """
    data = PreparedData.open(config.data_dir)
    row: dict[str, Any] = {"round": number}
    why = "the first round" if earlier is None else obstacle(config, data, earlier)
    warm = None if earlier is None or why else trained(config, data, earlier)
    if warm is not None:
        lineage = Lineage.of(warm.bundle)
        why = shortfall(config, lineage, lineage.reached)
        row |= {"warm": warm.ndcg, "warm_s": warm.seconds, "warm_rounds": lineage.rounds}
    full = trained(config, data, None) if why or compared else None
    if full is not None:
        row |= {"full": full.ndcg, "full_s": full.seconds}
    kept = full if why else warm
    return row | ({"full training": why} if why else {}), None if kept is None else kept.bundle


def ratios(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Seconds and quality of warm starts relative to full trainings of the same week, and the trend of the quality."""
    both = [row for row in rows if "warm" in row and "full" in row]
    if not both:
        return {"seconds_ratio": None, "ndcg_ratio": None, "trend_per_round": None, "trend_error": None}
    totals = {name: sum(row[name] for row in both) for name in ("warm", "full", "warm_s", "full_s")}
    figures: dict[str, float | None] = {
        "seconds_ratio": totals["warm_s"] / totals["full_s"],
        "ndcg_ratio": totals["warm"] / totals["full"],
        "trend_per_round": None,
        "trend_error": None,
    }
    if len(both) > 2:
        line = linregress([row["round"] for row in both], [row["warm"] / row["full"] for row in both])
        figures |= {"trend_per_round": float(line.slope), "trend_error": float(line.stderr)}
    return figures


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
    text = None if config.text.encoder == "none" else folder / "text"
    if text is not None:
        pretrain.fit(cfg, data, text, earlier=None if earlier is None else earlier.path / "text")
    trainer = trainer_for(cfg, data, text, earlier=earlier)
    trainer.run(lambda *_: None)
    seconds = time.perf_counter() - started
    model = trainer.objective.model.cpu().eval()
    requests = eval_requests(data, Split.TEST, config.evaluate)
    totals = validation.measure(model, requests, text_vectors(text)[1])
    reached = trainer.state.best
    before = None if earlier is None else Lineage.of(earlier)
    lineage = (
        Lineage(reference=reached, reached=reached)
        if before is None
        else Lineage(WARM, rounds=before.rounds + 1, reference=before.reference, reached=reached)
    )
    off = config.model_copy(update={"ranker": config.ranker.model_copy(update={"mode": "off", "max_examples": 200})})
    ranking = replace(fit_ranker(off, data, model, text), lineage=asdict(lineage))
    made = bundle.write(folder / "bundle", config, data, model, text, ranking)
    return Trained(made, validation.figures(totals)["ndcg@10"], seconds)


if __name__ == "__main__":
    main()
