"""Warm start: training that continues from an earlier bundle, whose vocabulary the new data has outgrown.

Weights that do not depend on a vocabulary are taken as they are. Rows of products, categories and brands are looked up
by their names; a product that has had no row starts from the cold one, where its text and category put it. Training
then takes a share of the epochs at a lower learning rate (`WarmStartConfig`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.model.retrieval import RetrievalModel
from txrec.recommender.bundle import Bundle
from txrec.schema import PAD

FULL, WARM = "full", "warm"


@dataclass(frozen=True)
class Lineage:
    """Origin of a trained history model, as its bundle's manifest holds it.

    Attributes:
        start: `full` or `warm`.
        reason: why it was trained so.
        earlier: version that a warm start continued from; empty otherwise.
        rounds: warm starts in a row since the last full training.
        reference: validation figure (`train.metric`) of that full training; None where there was no validation.
        reached: validation figure of this training.
        seconds: that the history model took.
    """

    start: str = FULL
    reason: str = ""
    earlier: str = ""
    rounds: int = 0
    reference: float | None = None
    reached: float | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, bundle: Bundle) -> "Lineage":
        """Lineage of a bundle; a bundle without one was trained in full."""
        return cls(**bundle.manifest.lineage)


def obstacle(config: Config, data: PreparedData, earlier: Bundle) -> str:
    """Obstacle to training that continues from a bundle; empty if there is none."""
    limits, lineage = config.train.warm_start, Lineage.of(earlier)
    for section in ("model", "text"):
        if getattr(config, section) != getattr(earlier.config, section):
            return f"the settings of [{section}] differ from those of {earlier.manifest.version}"
    if data.meta.has_time != earlier.meta.has_time:
        return f"only one of {earlier.manifest.version} and the new data has times"
    if lineage.rounds >= limits.max_rounds:
        return f"{lineage.rounds} warm starts in a row, train.warm_start.max_rounds = {limits.max_rounds}"
    share = known_share(data, earlier)
    if share < limits.min_known_frac:
        return (
            f"{share:.0%} of the training events are on products that {earlier.manifest.version} was trained on,"
            f" train.warm_start.min_known_frac = {limits.min_known_frac:g}"
        )
    return ""


def shortfall(config: Config, lineage: Lineage, reached: float | None) -> str:
    """Shortfall of a warm start's validation figure against the last full training's; empty if there is none."""
    tolerance = config.train.warm_start.tolerance
    if reached is None or lineage.reference is None or reached >= lineage.reference * (1 - tolerance):
        return ""
    return (
        f"{config.train.metric} {reached:.4f} < {lineage.reference:.4f} x (1 - {tolerance:g}), that of the last full"
        " training"
    )


def shortened(config: Config) -> Config:
    """The configuration of a warm start: fewer epochs at a lower learning rate, in text and history model alike.

    It is validated once, at its end: a schedule that short has its best weights there.
    """
    warm = config.train.warm_start
    max_epochs = max(round(config.train.max_epochs * warm.epochs_frac), 1)
    train = {"max_epochs": max_epochs, "lr": config.train.lr * warm.lr_frac, "validate_every": max_epochs}
    epochs = max(round(config.pretrain.contrastive_epochs * warm.epochs_frac), 1)
    pretrain = {"masked_epochs": 0, "contrastive_epochs": epochs, "lr": config.pretrain.lr * warm.lr_frac}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "pretrain": config.pretrain.model_copy(update=pretrain),
        }
    )


def known_share(data: PreparedData, earlier: Bundle) -> float:
    """Share of the training events on products that a bundle has a row for; 1 without events."""
    counts = data.items["train_count"].to_numpy().astype(np.float64)
    known = _items(data.items, earlier)[1:] != PAD
    return float(counts[known].sum() / counts.sum()) if counts.sum() else 1.0


@torch.no_grad()
def take_weights(model: RetrievalModel, data: PreparedData, earlier: Bundle) -> None:
    """Starts a fresh model of a prepared data set from a bundle's.

    Args:
        model: of the same settings as the bundle's; changed in place.
        data: the data set that it was made for.
        earlier: the bundle.
    """
    old, features = earlier.model.state_dict(), {name for name, _ in model.named_buffers()}
    tables = {
        "encoder.ids.weight": _id_rows(model, data, earlier),
        "encoder.sides.category.weight": _code_rows(data, earlier, "category", "category_idx"),
        "encoder.sides.brand.weight": _code_rows(data, earlier, "brand", "brand_idx"),
    }
    for name, weight in model.state_dict().items():
        if name in features or name not in old:
            continue
        if name in tables:
            _take_rows(weight, old[name], tables[name])
        elif weight.shape == old[name].shape:
            weight.copy_(old[name])


def _take_rows(weight: Tensor, old: Tensor, rows: NDArray[np.int64]) -> None:
    """Row r of `weight` becomes row `rows[r]` of `old`, and stays as it is where that is PAD."""
    place = torch.from_numpy(np.flatnonzero(rows != PAD))
    weight[place] = old[torch.from_numpy(rows[rows != PAD])]


def _id_rows(model: RetrievalModel, data: PreparedData, earlier: Bundle) -> NDArray[np.int64]:
    """(R,) row of the bundle's id table for every row of the model's: PAD, the trained products, the cold row."""
    cold = earlier.model.encoder.cold_row
    rows = _items(data.items, earlier)[: model.encoder.cold_row]
    return np.append(np.where(rows == PAD, cold, rows) * (np.arange(len(rows)) > 0), cold)


def _items(items: pa.Table, earlier: Bundle) -> NDArray[np.int64]:
    """(N + 1,) dense index in the bundle of each product that it has an id row for, PAD for others."""
    trained = earlier.meta.num_trained_items
    place = {item: row for row, item in enumerate(earlier.items["item_id"].to_pylist()[:trained], start=1)}
    return np.array([PAD, *(place.get(item, PAD) for item in items["item_id"].to_pylist())], np.int64)


def _code_rows(data: PreparedData, earlier: Bundle, name: str, code: str) -> NDArray[np.int64]:
    """(C + 1,) the bundle's code of every value of a column by its own code, PAD for values that are new."""
    known, codes = _codes(earlier.items, name, code), _codes(data.items, name, code)
    rows = np.zeros(max(codes.values(), default=0) + 1, np.int64)
    for value, number in codes.items():
        rows[number] = known.get(value, PAD)
    return rows


def _codes(items: pa.Table, name: str, code: str) -> Mapping[object, int]:
    values = items[name].to_pylist()
    keys = [tuple(value) if isinstance(value, list) else value for value in values]
    return {key: number for key, number in zip(keys, items[code].to_pylist(), strict=True) if number != PAD}
