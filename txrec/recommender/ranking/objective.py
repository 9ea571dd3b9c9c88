"""Objective of an order: expected worth of candidates from estimated probabilities of clicks, carts and purchases."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txrec.config import ObjectiveConfig

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Worth:
    """Expected worth of K candidates.

    Attributes:
        values: (K,) in the shop's unit.
        estimates: `click`, `cart`, `purchase` = (K,) probability, as far as the ranker estimates it; `revenue` = (K,)
            expected price paid.
        notes: parts of the objective that have no effect.
    """

    values: Floats
    estimates: Mapping[str, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def expected_worth(
    objective: ObjectiveConfig, probabilities: Mapping[str, Floats], prices: Floats, usual_price: float
) -> Worth | None:
    """Expected worth of candidates; None where the ranker estimates none of the events that are worth something.

    Args:
        objective: worth of each event.
        probabilities: kind of event = (K,) probability.
        prices: (K,) NaN = unknown.
        usual_price: taken for a product without a price.
    """
    known = np.where(np.isnan(prices), np.float32(usual_price), prices)
    estimates = dict(probabilities)
    if "purchase" in estimates:
        estimates["revenue"] = (estimates["purchase"] * known).astype(np.float32)
    weights = {kind: worth for kind, worth in objective.model_dump().items() if worth > 0}
    usable = {kind: worth for kind, worth in weights.items() if kind in estimates}
    if not usable:
        return None
    values = sum(np.float32(worth) * estimates[kind] for kind, worth in usable.items())
    missing = tuple(not_estimated(kind) for kind in weights if kind not in usable)
    return Worth(np.asarray(values, np.float32), estimates, missing)


def not_estimated(kind: str) -> str:
    """Note on a part of an objective without effect."""
    return f"objective: {kind} has no effect, the model does not estimate it"
