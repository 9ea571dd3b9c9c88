"""Slices behind a baseline: parts of an evaluation in which a recommender is worse than a system without training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.evals import bootstrap
from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.metrics import Floats

MIN_CASES = 5
"""Smaller slices tell nothing and are not compared."""


@dataclass(frozen=True)
class SliceWarning:
    """A slice in which the best baseline is above the recommender."""

    slice: str
    metric: str
    num_cases: int
    value: float
    baseline: str
    baseline_value: float
    over_baseline: Paired | None = None
    """The recommender minus the baseline on the same cases, hence below zero; None = nothing was resampled."""

    @property
    def certain(self) -> bool:
        """True where the 95 % interval of the difference lies below zero."""
        return self.over_baseline is not None and self.over_baseline.difference.high < 0

    def __str__(self) -> str:
        """`cold item searched: ndcg@10 0.5102 behind bm25 0.7301 (-0.2199, -0.2710 to -0.1633; 198 requests)`."""
        change = f"{self.value - self.baseline_value:+.4f}"
        if self.over_baseline is not None:
            interval = self.over_baseline.difference
            change += f", {interval.low:+.4f} to {interval.high:+.4f}"
        chance = "" if self.certain else ", may be chance"
        return (
            f"{self.slice.replace('_', ' ')}: {self.metric} {self.value:.4f} behind {self.baseline.replace('_', ' ')}"
            f" {self.baseline_value:.4f} ({change}{chance}; {self.num_cases:,} requests)"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON object for metrics.json and a manifest."""
        return {**asdict(self), "certain": self.certain, "warning": str(self)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "SliceWarning":
        """Reads the result of `plain`."""
        fields = {name: plain[name] for name in cls.__dataclass_fields__}
        over = fields["over_baseline"]
        if over is not None:
            fields["over_baseline"] = Paired(Interval(**over["difference"]), over["p_value"])
        return cls(**fields)


@dataclass(frozen=True, eq=False)
class Resampling:
    """Settings of a bootstrap."""

    unit: NDArray[np.int64]
    """(C,) Unit that is resampled: the user of each case."""
    resamples: int
    seed: int = 0


def compared(
    name: str,
    metric: str,
    per_case: Mapping[str, Floats],
    baselines: Sequence[str],
    resampling: Resampling,
) -> SliceWarning | None:
    """The warning about one slice; None where no baseline is above the recommender or the slice is too small.

    Args:
        name: of the slice.
        metric: the figure that decides.
        per_case: system = (C,) figure per case; the recommender is `test`.
        baselines: systems that it is compared with.
        resampling: of the bootstrap; 0 resamples = no test.
    """
    own = per_case["test"]
    if len(own) < MIN_CASES or not baselines:
        return None
    best = max(baselines, key=lambda baseline: float(per_case[baseline].mean()))
    value, above = float(own.mean()), float(per_case[best].mean())
    if value >= above:
        return None
    over = None
    if resampling.resamples:
        over = bootstrap.paired(own, per_case[best], resampling.unit, resampling.resamples, resampling.seed)
    return SliceWarning(name, metric, len(own), value, best, above, over)


def in_order(warnings: Sequence[SliceWarning]) -> list[SliceWarning]:
    """Order of warnings: those that cannot be chance first, then by their distance."""
    return sorted(warnings, key=lambda one: (not one.certain, one.value - one.baseline_value))
