"""Outcome figures of an evaluation: are the estimated probabilities of clicks, carts and purchases right?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.config import Config, ObjectiveConfig
from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.answering import BATCH, by_dense_indices, query_texts
from txrec.evals.outcome_labels import outcome_items, shown_items
from txrec.evals.protocol import EvalRequests
from txrec.model.outcome_heads import OUTCOMES
from txrec.recommender.recommender import Recommender

MAX_REQUESTS = 1_000
"""Size of the seeded sample of requests that is answered."""
HEAD = ("event", "candidates", "rate", "mean probability", "calibration error", "auc")


def outcome_figures(
    config: Config, data: PreparedData, recommender: Recommender, requests: EvalRequests
) -> dict[str, dict[str, float]]:
    """Kind of event = figures over the candidates that the ranker saw and, where the log tells, the user was shown.

    Empty for a bundle whose ranker estimates clicks alone, and for one that was made from other data.

    Args:
        config: of the run.
        data: the prepared data set.
        recommender: the bundle.
        requests: of one split.
    """
    ranker = recommender.ranker
    other = recommender.bundle.manifest.data_fingerprint != data.meta.fingerprint
    if ranker is None or ranker.outcomes is None or other or not len(requests):
        return {}
    requests = requests.sample(MAX_REQUESTS, config.seed)
    window_us, texts = int(config.serve.monitor.purchase_h * 3_600_000_000), query_texts(data)
    kinds = ("click", *ranker.outcomes.kinds)
    pairs: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {kind: [] for kind in kinds}
    for start in range(0, len(requests), BATCH):
        rows = range(start, min(start + BATCH, len(requests)))
        candidates = [
            replace(one, request=replace(one.request, objective=ObjectiveConfig(click=1.0)))
            for one in by_dense_indices(recommender, requests, texts, rows, ranker.cfg.num_candidates)
        ]
        for row, one, ranked in zip(rows, candidates, recommender.rank_dense(candidates), strict=True):
            if not ranked.estimates:
                continue
            right = np.isin(one.item_idx, requests.truth.of(row))
            shown = shown_items(requests, data.sequences, row)
            counted = ~np.isnan(ranked.estimates["click"])
            counted &= right | np.isin(one.item_idx, shown) if len(shown) else True
            items = dict(zip(OUTCOMES, outcome_items(requests, data.sequences, row, window_us), strict=True))
            for kind in kinds:
                happened = right if kind == "click" else right & np.isin(one.item_idx, items[kind])
                pairs[kind].append((ranked.estimates[kind][counted], happened[counted]))
    return {kind: _figures(own) for kind, own in pairs.items() if own}


def outcome_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Rows of a table with the columns of `HEAD`."""
    return [
        [
            kind,
            f"{own['num_candidates']:,}",
            *(f"{own[name]:.4f}" for name in ("rate", "mean_probability", "calibration_error", "auc")),
        ]
        for kind, own in figures.items()
    ]


def _figures(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> dict[str, float]:
    probability = np.concatenate([one for one, _ in pairs])
    happened = np.concatenate([one for _, one in pairs])
    return {
        "num_candidates": len(probability),
        "rate": float(happened.mean()),
        "mean_probability": float(probability.mean()),
        "calibration_error": metrics.calibration_error(probability, happened),
        "auc": _auc(probability, happened),
    }


def _auc(probability: NDArray[np.float32], happened: NDArray[np.bool_]) -> float:
    """Chance that a candidate with the event has a higher probability than one without; 0.5 where all are alike."""
    num, others = int(happened.sum()), int((~happened).sum())
    if not num or not others:
        return 0.5
    ranks = pl.Series(probability).rank("average").to_numpy()
    return float((ranks[happened].sum() - num * (num + 1) / 2) / (num * others))
