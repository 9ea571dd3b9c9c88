"""Experiment decisions: promote, roll back or go on, from users' outcomes by always-valid tests.

One user is one observation: their outcome within a fixed time after they first took part (`Figure.window_h`), counted
when that time is over. Users then are independent and identically distributed, so that the confidence sequences of
`confidence` hold at every look, and the order of the checks is:

1. sample ratio: a broken assignment decides nothing (`invalid`);
2. guard figures: surely worse than allowed (`roll_back`), from users' first hour on;
3. the primary figure: surely better (`promote`), surely worse (`roll_back`), or not known yet (`continue`);
4. at `max_users` without an answer: `keep_control`.

The error rate `alpha` is divided by the number of variants that are compared with the control.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from txrec.loop.experiments.confidence import Difference, Moments, difference, sample_ratio_p

Action = Literal["promote", "roll_back", "continue", "keep_control", "invalid"]
_VERBS: dict[Action, str] = {
    "promote": "promote {variant}",
    "roll_back": "roll back {variant}",
    "continue": "go on with {variant}",
    "keep_control": "keep {control}",
    "invalid": "stop {variant}",
}


@dataclass(frozen=True)
class Figure:
    """A figure of one user that an experiment is judged by.

    Attributes:
        name: e.g. `clicks`, `revenue`, `errors`.
        window_h: hours after a user first took part in which it is counted.
        higher_is_better: direction.
        margin: of the primary figure, the least gain for a promotion; of a guard, the largest loss that is allowed; in
            the figure's unit.
    """

    name: str
    window_h: float = 24.0
    higher_is_better: bool = True
    margin: float = 0.0


@dataclass(frozen=True)
class Rules:
    """Decision rules of an experiment.

    Attributes:
        primary: the figure that decides.
        guards: figures that must not become worse.
        alpha: chance of any false decision on the primary figure over all looks and variants.
        guard_alpha: chance of a false stop per guard.
        sample_ratio_alpha: chance of a false alarm about the assignment.
        min_users: per variant, before the primary figure and the guards may decide (the variance must be known).
        max_users: of control and variant together, at which an experiment ends without a difference; 0 = never.
        expected_users: of control and variant together, at which the intervals are narrowest.
    """

    primary: Figure
    guards: tuple[Figure, ...] = ()
    alpha: float = 0.05
    guard_alpha: float = 0.01
    sample_ratio_alpha: float = 0.001
    min_users: int = 100
    max_users: int = 0
    expected_users: float = 10_000.0


@dataclass(frozen=True)
class ExperimentDecision:
    """An action on one variant with the inequality that decided.

    Attributes:
        experiment: name.
        variant: compared with `control`.
        control: name of the control.
        action: `promote`, `roll_back`, `continue`, `keep_control` or `invalid`.
        figure: that decided: the primary one, a guard, or `sample_ratio`.
        difference: variant minus control per user; the p-value where the sample ratio decided.
        low: lower end of the confidence sequence.
        high: upper end.
        threshold: that it is compared with.
        inequality: as text, e.g. `clicks +0.0312 (+0.0041 to +0.0583): low > 0`.
        users: per variant, control first.
    """

    experiment: str
    variant: str
    control: str
    action: Action
    figure: str
    difference: float
    low: float
    high: float
    threshold: float
    inequality: str
    users: tuple[int, int]

    def __str__(self) -> str:
        """`ranking: promote v7: clicks +0.0312 (...): low > 0; 12,000 and 11,950 users`."""
        verb = _VERBS[self.action].format(variant=self.variant, control=self.control)
        return f"{self.experiment}: {verb}: {self.inequality}; {self.users[0]:,} and {self.users[1]:,} users"

    def to_dict(self) -> dict[str, Any]:
        """JSON object of the decision."""
        return {**asdict(self), "users": list(self.users), "decision": str(self)}


def decide(
    experiment: str,
    rules: Rules,
    figures: Mapping[str, Mapping[str, Moments]],
    assigned: Mapping[str, int],
    shares: Mapping[str, float],
) -> tuple[ExperimentDecision, ...]:
    """One decision per variant that is not the control.

    Args:
        experiment: its name.
        rules: what decides.
        figures: figure name -> variant -> sums over its users; the control is the first variant.
        assigned: users who took part so far, per variant; the control first.
        shares: weights of the assignment.
    """
    control, *others = assigned
    ratio = float(sample_ratio_p([assigned[name] for name in assigned], [shares[name] for name in assigned]))
    decisions = []
    for variant in others:
        users = (assigned[control], assigned[variant])
        base = _Comparison(experiment, variant, control, users)
        if ratio < rules.sample_ratio_alpha:
            decisions.append(base.invalid(ratio, rules.sample_ratio_alpha))
            continue
        guarded = (base.guard(guard, rules, figures[guard.name]) for guard in rules.guards)
        stopped = next((decision for decision in guarded if decision is not None), None)
        decisions.append(stopped or base.primary(rules, figures[rules.primary.name], max(len(others), 1)))
    return tuple(decisions)


def conclude(action_low: float, action_high: float, margin: float, finished: bool) -> Action:
    """The action for a confidence sequence of the gain: above the margin, below nothing, or neither."""
    if action_low > margin:
        return "promote"
    if action_high < 0:
        return "roll_back"
    return "keep_control" if finished else "continue"


class _Estimate(NamedTuple):
    """Difference of a variant from its control, with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Comparison:
    experiment: str
    variant: str
    control: str
    users: tuple[int, int]

    def invalid(self, p_value: float, alpha: float) -> ExperimentDecision:
        text = f"sample_ratio p {p_value:.2g} < {alpha:g}"
        return self._decision("invalid", "sample_ratio", _Estimate(p_value, p_value, p_value), alpha, text)

    def guard(self, figure: Figure, rules: Rules, moments: Mapping[str, Moments]) -> ExperimentDecision | None:
        """The stop of a guard figure that is surely worse than allowed; None while it is not."""
        estimate = self._estimate(moments, rules.guard_alpha, rules)
        loss = -estimate.high if figure.higher_is_better else estimate.low  # least loss that is still possible
        if loss <= figure.margin:
            return None
        text = f"{_range(figure, estimate)}: loss of at least {loss:.4g} > {figure.margin:g}"
        return self._decision("roll_back", figure.name, estimate, figure.margin, text)

    def primary(self, rules: Rules, moments: Mapping[str, Moments], num_variants: int) -> ExperimentDecision:
        figure = rules.primary
        estimate = self._estimate(moments, rules.alpha / num_variants, rules)
        low, high = estimate[1:] if figure.higher_is_better else (-estimate.high, -estimate.low)
        counted = sum(float(moments[name].n) for name in (self.control, self.variant))
        action = conclude(low, high, figure.margin, 0 < rules.max_users <= counted)
        reasons = {
            "promote": f"gain of at least {low:.4g} > {figure.margin:g}",
            "roll_back": f"gain of at most {high:.4g} < 0",
            "continue": f"gain between {low:.4g} and {high:.4g}, promoted above {figure.margin:g}",
            "keep_control": f"gain of at least {low:.4g} <= {figure.margin:g} at {rules.max_users:,} users",
        }
        text = f"{_range(figure, estimate)}: {reasons[action]}"
        return self._decision(action, figure.name, estimate, figure.margin, text)

    def _estimate(self, moments: Mapping[str, Moments], alpha: float, rules: Rules) -> _Estimate:
        """Difference with its interval; infinite ends while a variant has too few users."""
        control, variant = moments[self.control], moments[self.variant]
        value = watched(control, variant, rules)
        low, high = value.interval(alpha, rules.expected_users)
        enough = min(float(control.n), float(variant.n)) >= rules.min_users
        center = float(value.value) if np.isfinite(value.value) else 0.0
        return _Estimate(center, float(low) if enough else -np.inf, float(high) if enough else np.inf)

    def _decision(
        self, action: Action, figure: str, estimate: _Estimate, threshold: float, text: str
    ) -> ExperimentDecision:
        names = (self.experiment, self.variant, self.control)
        return ExperimentDecision(*names, action, figure, *estimate, threshold, text, self.users)


def watched(control: Moments, variant: Moments, rules: Rules) -> Difference:
    """The difference with unknown variance as long as a variant has fewer than `min_users`; for many looks at once.

    Where all users of a variant have one outcome and all of the other another one, e.g. each request of a broken one
    failed, the variance of a variant is taken as that of both together divided by its users, never as zero.
    """
    value, together = difference(control, variant), control + variant
    least = np.minimum(control.n, variant.n)
    spread = np.maximum(together.yy / np.maximum(together.n, 1) - together.mean**2, 0.0)
    bound = 2 * spread / np.maximum(least, 1) ** 2
    variance = np.where(value.variance > 0, value.variance, bound)
    early = (least < rules.min_users) | ~(variance > 0)
    return Difference(value.value, np.where(early, np.inf, variance), value.n)


def _range(figure: Figure, estimate: _Estimate) -> str:
    return f"{figure.name} {estimate.value:+.4g} ({estimate.low:+.4g} to {estimate.high:+.4g})"
