"""Audience model: probability of an event of a user on a target, by logistic regression on the user's habits.

The regression is fitted on the validation window (`txrec.train.audience_fit`) on features of the log before it: decayed
events of the user in all, on the target and on its categories, and the history model's probability. So it learns how
much a user's own events say next to the model, for whole categories and for single products apart.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from txrec import schema
from txrec.data.prepared import Sequences
from txrec.schema import DAY_US, EventKind

TargetKind = Literal["category", "item"]
FEATURES = (
    "rate",
    "recent rate",
    "purchases",
    "own",
    "own recent",
    "own slow",
    "own purchases",
    "own of the categories",
    "model",
    "share",
)
"""Features of a user and a target, each a logarithm."""
HALF_LIFE_DAYS = 21.0
"""Events lose half their weight in this time, days."""
RECENT_DAYS, SLOW_DAYS, PURCHASE_DAYS = 5.0, 60.0, 40.0
"""Half-lives of the other counts, days."""
PRIOR_EVENTS = 10.0
"""Events that the probability by the history model weighs as much as in the share of a target."""
FEW, LEAST_PROBABILITY = 0.05, 1e-9
"""Added to counts, and the least probability, before logarithms."""
PENALTY = 5.0
"""L2 penalty on the coefficients of standardised features."""
TOLERANCE = 1e-6
"""Norm of the gradient of the penalised log-likelihood, a sum over users, that ends the fit."""


def features(
    users: Sequences,
    weights: NDArray[np.float64],
    wider: NDArray[np.float64],
    now_us: int,
    probability: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(U, F) features of users for one target, in the order of `FEATURES`.

    Args:
        users: their histories.
        weights: (N + 1,) of the products of the target, 0 for all others.
        wider: (N + 1,) the same of all products of their categories.
        now_us: time from which ages are counted, microseconds.
        probability: (U,) that the next event is on the target, by the history model.
    """
    user = np.repeat(np.arange(len(users)), np.diff(users.offsets))
    age_days = np.where(users.ts > 0, np.maximum(now_us - users.ts, 0), 0) / DAY_US
    engaged = schema.is_engagement(users.event) & (users.item_idx != schema.PAD)
    bought = (users.event == EventKind.PURCHASE) & engaged
    on_target, on_categories = weights[users.item_idx], wider[users.item_idx]
    normal, recent, slow = (np.exp2(-age_days / days) * engaged for days in (HALF_LIFE_DAYS, RECENT_DAYS, SLOW_DAYS))
    purchases = np.exp2(-age_days / PURCHASE_DAYS) * bought

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(user, values, len(users)).astype(np.float64)

    rate, own = total(normal), total(normal * on_target)
    share = (own + PRIOR_EVENTS * probability) / (rate + PRIOR_EVENTS)
    counts = (
        rate,
        total(recent),
        total(purchases),
        own,
        total(recent * on_target),
        total(slow * on_target),
        total(purchases * on_target),
        total(normal * on_categories),
    )
    columns = [np.log(count + FEW) for count in counts]
    columns += [np.log(np.maximum(one, LEAST_PROBABILITY)) for one in (probability, share)]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Regression:
    """Logistic regression on standardised features.

    Attributes:
        mean: (F,) of the features.
        scale: (F,) their standard deviations.
        coefficients: (F,).
        intercept: logit at the means.
        num_positives: users with an event on a target that it was fitted on.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: float
    num_positives: int

    @classmethod
    def fit(cls, rows: NDArray[np.float64], positive: NDArray[np.bool_]) -> Self:
        """Fits with an L2 penalty, by Newton's method in a trust region (`scipy.optimize`).

        Args:
            rows: (n, F) features.
            positive: (n,) whether there was an event.
        """
        mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
        design = np.column_stack([(rows - mean) / scale, np.ones(len(rows))])
        penalty = np.append(np.full(rows.shape[1], PENALTY), 1e-6)

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logits = design @ weights
            value = np.logaddexp(0.0, logits).sum() - logits @ positive + 0.5 * penalty @ weights**2
            return float(value), design.T @ (expit(logits) - positive) + penalty * weights

        def curvature(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            expected = expit(design @ weights)
            curved: NDArray[np.float64] = (design * (expected * (1 - expected))[:, None]).T @ design + np.diag(penalty)
            return curved

        start = np.zeros(design.shape[1])
        options = {"gtol": TOLERANCE}
        solution = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options=options).x
        return cls(mean, scale, solution[:-1], float(solution[-1]), int(positive.sum()))

    def probability(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) probability of an event by (n, F) features."""
        probability: NDArray[np.float64] = expit((rows - self.mean) / self.scale @ self.coefficients + self.intercept)
        return probability


@dataclass(frozen=True, eq=False)
class AudienceRegressions:
    """Regressions of a bundle by kind of target.

    Attributes:
        days: length of the window in which an event was looked for.
        by_kind: regressions; kinds with too few events in the window are absent.
    """

    days: float
    by_kind: Mapping[TargetKind, Regression]

    def to_bytes(self) -> bytes:
        """The regressions as JSON, for a bundle."""
        kinds = {
            kind: {
                "mean": one.mean.tolist(),
                "scale": one.scale.tolist(),
                "coefficients": one.coefficients.tolist(),
                "intercept": one.intercept,
                "num_positives": one.num_positives,
            }
            for kind, one in self.by_kind.items()
        }
        return json.dumps({"days": self.days, "features": FEATURES, "kinds": kinds}, indent=1).encode()

    @classmethod
    def of_bytes(cls, content: bytes) -> "AudienceRegressions | None":
        """Reads what `to_bytes` wrote; None where it was fitted on other features than this version computes."""
        stored = json.loads(content)
        if tuple(stored["features"]) != FEATURES:
            return None
        by_kind: dict[TargetKind, Regression] = {
            kind: Regression(
                np.array(one["mean"]),
                np.array(one["scale"]),
                np.array(one["coefficients"]),
                float(one["intercept"]),
                int(one["num_positives"]),
            )
            for kind, one in stored["kinds"].items()
        }
        return cls(float(stored["days"]), by_kind)
