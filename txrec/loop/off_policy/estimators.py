"""Off-policy estimates: the value that another ranking would have had on served traffic, from logged propensities.

The estimators differ in their assumption about rewards, from none to strong, and in variance, from high to low:

- `slate`: self-normalised importance sampling of whole slates (SNIPS; Swaminathan, Joachims 2015);
- `cascade`: the reward of a place depends on the products above it (RIPS; McInerney et al. 2020);
- `position`: the reward of a place depends on its product alone (item-position model; Li et al. 2018);
- `doubly_robust`: as `position`, with a reward model whose errors alone are weighed (Dudik, Langford, Li 2011).

`examination` (`reordering`) needs no propensities: it values another order of the products shown.

All are self-normalised place by place. Intervals take users as clusters and the effective sample size as degrees of
freedom. An estimate is *refused* where the
log does not support it: too few effective samples, one slate that weighs too much, products that were never shown, or
weights whose mean is surely not one (wrong propensities).
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Estimator = Literal["slate", "cascade", "position", "doubly_robust", "examination"]
LEVEL = 0.95
_MEAN_WEIGHT_Z = 4.5
"""Standard errors by which the mean weight may miss one; further off, propensities are wrong."""


@dataclass(frozen=True, eq=False)
class SlateLog:
    """n served slates of D places, and how probable they were and would be.

    Attributes:
        reward: (n, D) earned at each place, e.g. 1 for a click.
        prefix: (n, D) logged probability of the products of places 0..d, in this order.
        marginal: (n, D) logged probability of the product at this place.
        target_prefix: (n, D) the same under the ranking to be valued.
        target_marginal: (n, D) the same under the ranking to be valued.
        user: (n,) number of the user; slates of one user are not independent.
        support: (n,) share of the places in which the ranking's product could have been shown, 0 to 1.
        predicted: (n, D) reward model at the products shown; for `doubly_robust`.
        direct: (n, D) reward model at the products of the ranking to be valued; for `doubly_robust`.
    """

    reward: Floats
    prefix: Floats
    marginal: Floats
    target_prefix: Floats
    target_marginal: Floats
    user: Ints
    support: Floats
    predicted: Floats | None = None
    direct: Floats | None = None

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True)
class Requirements:
    """The least that an estimate is given for.

    Attributes:
        min_effective: effective sample size in slates, at the place where it is smallest.
        max_weight_share: of all weight of a place that one slate may have.
        min_support: mean share of places in which the log could show the ranking's product.
    """

    min_effective: float = 100.0
    max_weight_share: float = 0.1
    min_support: float = 0.98


@dataclass(frozen=True)
class OffPolicyEstimate:
    """The estimated value of a ranking per slate.

    Attributes:
        estimator: by which.
        value: estimated reward per slate.
        low: lower end of the 95 % interval.
        high: upper end.
        gain: value minus what was really earned per slate.
        gain_low: lower end of its 95 % interval.
        gain_high: upper end.
        effective: effective sample size at the weakest place, slates.
        mean_weight: mean importance weight at the place where it misses 1 most.
        support: mean share of places in which the ranking's product could have been shown.
        slates: number of slates.
        users: number of users.
        refusal: why the figures must not be used; empty = they may.
    """

    estimator: Estimator
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    effective: float
    mean_weight: float
    support: float
    slates: int
    users: int
    refusal: str = ""

    def __str__(self) -> str:
        """`position: 0.412 (0.398 to 0.426) per slate, gain +0.021 (...), 3,120 effective slates`."""
        if self.refusal:
            return f"{self.estimator}: refused, {self.refusal}"
        return (
            f"{self.estimator}: {self.value:.4g} ({self.low:.4g} to {self.high:.4g}) per slate, gain {self.gain:+.4g}"
            f" ({self.gain_low:+.4g} to {self.gain_high:+.4g}), {self.effective:,.0f} effective slates"
            f" of {self.slates:,}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON object of the estimate."""
        return asdict(self)


def estimate(log: SlateLog, estimator: Estimator, required: Requirements | None = None) -> OffPolicyEstimate:
    """The value of the ranking that the log's target probabilities describe.

    Raises:
        ValueError: no slates, or `doubly_robust` without a reward model.
    """
    if not len(log):
        raise ValueError("an off-policy estimate needs at least one slate")
    weight = _weights(log, estimator)
    offset, residual = np.zeros_like(log.reward), log.reward
    if estimator == "doubly_robust":
        if log.predicted is None or log.direct is None:
            raise ValueError("doubly_robust needs the reward model's predictions: predicted and direct")
        offset, residual = log.direct, log.reward - log.predicted
    total = np.maximum(weight.sum(axis=0), 1e-300)
    correction = (weight * residual).sum(axis=0) / total  # (D,)
    value = float(offset.mean(axis=0).sum() + correction.sum())
    influence = (offset - offset.mean(axis=0)).sum(axis=1)
    leverage = np.minimum(weight / total, 0.99)  # of a slate on its own mean, taken out as the jackknife does
    influence = influence + (len(log) * weight * (residual - correction) / total / (1 - leverage)).sum(axis=1)
    earned = log.reward.sum(axis=1)
    effective = float((total**2 / np.maximum((weight**2).sum(axis=0), 1e-300)).min())
    quantile = float(stdtrit(max(effective - 1, 1.0), (1 + LEVEL) / 2))
    width = quantile * cluster_error(influence, log.user)
    gain = value - float(earned.mean())
    gain_width = quantile * cluster_error(influence - (earned - earned.mean()), log.user)
    means = weight.mean(axis=0)
    return OffPolicyEstimate(
        estimator=estimator,
        value=value,
        low=value - width,
        high=value + width,
        gain=gain,
        gain_low=gain - gain_width,
        gain_high=gain + gain_width,
        effective=effective,
        mean_weight=float(means[np.argmax(np.abs(means - 1))]),
        support=float(log.support.mean()),
        slates=len(log),
        users=len(np.unique(log.user)),
        refusal=_refusal(log, weight, effective, required or Requirements()),
    )


def _weights(log: SlateLog, estimator: Estimator) -> Floats:
    """(n, D) importance weights of the reward of each place."""
    if estimator in {"position", "doubly_robust"}:
        return _ratio(log.target_marginal, log.marginal)
    prefix = _ratio(log.target_prefix, log.prefix)
    return np.broadcast_to(prefix[:, -1:], prefix.shape) if estimator == "slate" else prefix


def _ratio(target: Floats, logged: Floats) -> Floats:
    """Target over logged probability; what was shown had a positive probability."""
    return np.divide(target, logged, out=np.zeros_like(target), where=logged > 0)


def cluster_error(influence: Floats, user: Ints) -> float:
    """Standard error of a mean whose estimate has these influences, users as clusters."""
    _, cluster = np.unique(user, return_inverse=True)
    sums = np.bincount(cluster, influence)
    factor = len(sums) / max(len(sums) - 1, 1)
    return float(np.sqrt(factor * (sums**2).sum()) / len(influence))


def _refusal(log: SlateLog, weight: Floats, effective: float, required: Requirements) -> str:
    support = float(log.support.mean())
    if support < required.min_support:
        return (
            f"support {support:.3f} < {required.min_support:g}: the log could not have shown what the ranking shows;"
            " explore a larger pool or more places"
        )
    if effective < required.min_effective:
        return (
            f"effective sample size {effective:,.0f} < {required.min_effective:,.0f} of {len(log):,} slates;"
            " explore a larger share or wait for more traffic"
        )
    largest = float((weight.max(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)).max())
    if largest > required.max_weight_share:
        return f"one slate has {largest:.2f} of all weight > {required.max_weight_share:g}"
    mean = weight.mean(axis=0)
    error = np.array([cluster_error(column - column.mean(), log.user) for column in weight.T])
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = np.where(np.abs(mean - 1) > 1e-9, np.abs(mean - 1) / error, 0.0)
    worst = int(np.argmax(missed))
    if missed[worst] > _MEAN_WEIGHT_Z:
        return (
            f"mean weight {mean[worst]:.3f} at place {worst + 1} is {missed[worst]:.1f} standard errors from 1:"
            " the logged propensities are not those of the ranking that was served"
        )
    return ""


@dataclass(frozen=True, eq=False)
class RewardModel:
    """Expected reward by score and place: a factor per score bin times a factor per place.

    Attributes:
        edges: (G - 1,) inner edges of the score bins.
        by_bin: (G,) mean reward of a bin over places.
        by_place: (D,) factor of a place, 1 on average over what was shown.
    """

    edges: Floats
    by_bin: Floats
    by_place: Floats

    @classmethod
    def fit(cls, score: Floats, reward: Floats, bins: int = 20, rounds: int = 10) -> "RewardModel":
        """Fits to (n, D) scores and rewards by alternating means."""
        edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
        place = np.broadcast_to(np.arange(score.shape[1]), score.shape).ravel()
        bin_ = np.searchsorted(edges, score.ravel(), side="right")
        flat, size = reward.ravel(), len(edges) + 1
        by_place = np.ones(score.shape[1])
        by_bin = np.full(size, reward.mean())
        for _ in range(rounds):
            by_bin = _means(flat, bin_, by_place[place], size)
            by_place = _means(flat, place, by_bin[bin_], len(by_place))
            level = max(float(by_place.mean()), 1e-12)
            by_place, by_bin = by_place / level, by_bin * level
        return cls(edges, by_bin, by_place)

    def predict(self, score: Floats) -> Floats:
        """(n, D) expected rewards of products with these scores at places 0..D-1."""
        return np.asarray(self.by_bin[np.searchsorted(self.edges, score, side="right")] * self.by_place)


def crossfit(score: Floats, target_score: Floats, reward: Floats, user: Ints, seed: int = 0) -> tuple[Floats, Floats]:
    """Predictions of a reward model at shown and at target products, each from the other half of the users.

    Args:
        score: (n, D) of the products shown.
        target_score: (n, D) of the products that the ranking to be valued would show.
        reward: (n, D).
        user: (n,) user numbers; a user is in one half.
        seed: of the halves.

    Returns:
        `predicted` and `direct` as `SlateLog` takes them.
    """
    names, cluster = np.unique(user, return_inverse=True)
    half = np.random.default_rng(seed).permutation(len(names)) % 2
    side = half[cluster]
    predicted, direct = np.zeros_like(reward), np.zeros_like(reward)
    for fold in (0, 1):
        rows = side == fold
        other = ~rows if (~rows).any() else rows
        model = RewardModel.fit(score[other], reward[other])
        predicted[rows], direct[rows] = model.predict(score[rows]), model.predict(target_score[rows])
    return predicted, direct


def _means(value: Floats, group: Ints, weight: Floats, size: int) -> Floats:
    """(size,) least-squares factor of each group where value = factor * weight."""
    over = np.bincount(group, value * weight, size)
    under = np.bincount(group, weight * weight, size)
    return np.divide(over, under, out=np.zeros(size), where=under > 0)
