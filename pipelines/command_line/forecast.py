"""Forecast of a stage's time before it starts, from the size of its data and the speed of this machine.

The costs were measured on two cores by `make demo` and `bench/first_run.py`; a probe of some milliseconds compares this
machine with that one. The forecast is a guide for the person who waits: it may be wrong by half.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from txrec import schema
from txrec.config import Config
from txrec.data.formats import files
from txrec.data.prepared import PreparedData, Sequences
from txrec.data.sources.sources import TABLES, sources_of
from txrec.evals import baselines
from txrec.evals.protocol import eval_requests
from txrec.index.training_log import clicks
from txrec.schema import Split

START_S = 8.0
"""Seconds of a Ray worker's start and imports."""
MB_PER_S, SHOP_EVENTS_PER_S = 5.0, 40_000.0
"""Preparation: megabytes of source files as they lie there, and events of a generated shop with their preparation."""
STEP_S, LAYER_STEP_S = 0.019, 0.005
"""Text pre-training: seconds per 128 texts of a step, and more per layer of width 64, as its square."""
TOKEN_S, WEIGHT_S = 16e-6, 37e-12
"""History model: seconds per position, and more per weight that it passes through."""
EXAMPLE_S, RANKER_EPOCH_S = 6e-3, 1.5e-3
"""Ranker: seconds per example for its retrieval, and per example and epoch."""
REQUEST_S, BASELINE_S, INVERSION_S = 2.5e-3, 0.1e-3, 3e-11
"""Evaluation: seconds per request, answered by the recommender and by one baseline, and of EASE per cubed product."""
PROBE_S, PROBES = 0.009, 5
"""Seconds of the probe on the machine that the costs were measured on, and repetitions, of which the best counts."""


def forecast(config: Config, stage: str) -> float | None:
    """Seconds that a stage is likely to take at most; None where nothing is known of its input yet.

    Args:
        config: of the run; the stages before this one are done.
        stage: its name.
    """
    estimate = _ESTIMATES.get(stage)
    seconds = None if estimate is None else estimate(config)
    return None if seconds is None else START_S + seconds * slowness()


@cache
def slowness() -> float:
    """Time of a small computation here, relative to the machine that the costs were measured on."""
    matrix = np.ones((256, 256), np.float32)

    def probe() -> float:
        started = time.perf_counter()
        for _ in range(10):
            matrix @ matrix
        sum(number * number for number in range(100_000))
        return time.perf_counter() - started

    return min(probe() for _ in range(PROBES)) / PROBE_S


class _Sample(NamedTuple):
    """Some users of a prepared data set, and the number of times that they go into it."""

    data: PreparedData
    scale: float


def _sample(config: Config) -> _Sample | None:
    """The users of the first file of sequences, who are drawn by a hash; None where there is no log."""
    data = PreparedData.open(config.data_dir)
    paths = sorted((data.path / "sequences").glob("*.parquet"))
    if not paths or not data.meta.num_users:
        return None
    table = pq.read_table(paths[0], schema=schema.SEQUENCES)
    if not table.num_rows:
        return None
    return _Sample(data.altered(sequences=Sequences.from_table(table)), data.meta.num_users / table.num_rows)


def _prepare(config: Config) -> float | None:
    if config.data.shop is not None:
        return config.data.shop.num_events / SHOP_EVENTS_PER_S
    sources = [source for table in TABLES for source in sources_of(config.data, table)]
    if any(source.sql for source in sources):
        return None
    num_bytes = sum(file.size for source in sources for file in files.find(config.data.root, source.path))
    return num_bytes / 1e6 / MB_PER_S


def _pretrain(config: Config) -> float | None:
    sample = _sample(config)
    if config.text.encoder != "transformer" or sample is None:
        return None
    cfg, data = config.pretrain, sample.data
    num_products = int((np.asarray(data.items["train_count"]) > 0).sum())
    num_texts = num_products + int((np.asarray(data.queries["train_count"]) > 0).sum())
    num_pairs = sample.scale * np.unique(np.stack(clicks(data, Split.TRAIN)), axis=1).shape[1]
    frac = cfg.product_pairs_frac
    num_pairs = num_pairs / (1 - frac) if num_pairs else num_products * cfg.pairs_per_product * (frac > 0)
    most = cfg.max_steps or np.inf
    masked = min(cfg.masked_epochs * num_texts / cfg.batch_size, most)
    contrastive = min(cfg.contrastive_epochs * num_pairs / cfg.batch_size, most)
    per_text = (STEP_S + LAYER_STEP_S * config.text.num_layers * (config.text.dim / 64) ** 2) / 128
    return float(per_text * cfg.batch_size * (masked + (2 + cfg.hard_negatives) * contrastive))


def _train(config: Config) -> float | None:
    sample = _sample(config)
    if sample is None:
        return None
    num_tokens = sample.scale * int((sample.data.sequences.split == Split.TRAIN).sum())
    model, items = config.model, sample.data.meta.num_trained_items
    scored = items if config.train.loss in ("auto", "full") and items <= 50_000 else config.train.num_negatives
    weights = 12 * model.num_layers * model.dim**2 + model.dim * scored
    epochs = config.train.max_epochs * num_tokens * (TOKEN_S + WEIGHT_S * weights)
    requests = sample.scale * len(eval_requests(sample.data, Split.VALIDATION, config.evaluate))
    examples = min(requests, config.ranker.max_examples) if config.ranker.mode != "off" else 0
    return float(epochs + examples * (EXAMPLE_S + RANKER_EPOCH_S * config.ranker.max_epochs))


def _evaluate(config: Config) -> float | None:
    sample = _sample(config)
    if sample is None:
        return None
    requests = sample.scale * len(eval_requests(sample.data, Split.TEST, config.evaluate))
    requests = min(requests, config.evaluate.max_cases or np.inf)
    names = baselines.names(sample.data)
    inversion = INVERSION_S * sample.data.meta.num_items**3 if "ease" in names else 0.0
    return float(requests * (REQUEST_S + BASELINE_S * len(names)) + inversion)


_ESTIMATES: dict[str, Callable[[Config], float | None]] = {
    "prepare": _prepare,
    "pretrain": _pretrain,
    "train": _train,
    "evaluate": _evaluate,
}
