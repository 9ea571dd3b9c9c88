"""Reordering estimates: clicks that another order of the products shown would have had, without exploration.

A click at place p under the position-based click model says that its product would have been clicked at place q with
the examination of q over that of p (Joachims et al. 2017). So the clicks of served slates value any order of the
products in them, however they came to be shown. Products that were not shown stay unknown, in this order as in the
other; clicks judge a ranking by the order alone, which the served one has no advantage in.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.special import stdtrit

from txrec.loop.exploration.exploration_log import Record
from txrec.loop.off_policy.estimators import LEVEL, Floats, OffPolicyEstimate, Requirements, cluster_error
from txrec.loop.off_policy.off_policy_log import LoggedSlate, Rank, earned_places
from txrec.loop.off_policy.position_bias import PositionBias

MAX_WEIGHT = 10.0
"""Largest weight of a click."""


def shown_slates(slates: pl.DataFrame) -> list[LoggedSlate]:
    """Served slates as if exploration could not have changed them, in the order shown.

    Args:
        slates: as `attribution.slates_of` gives them; empty ones are left out.
    """
    rows = slates.filter(pl.col("item_ids").list.len() > 0)
    return [_shown(row) for row in rows.iter_rows(named=True)]


def _shown(row: dict[str, object]) -> LoggedSlate:
    items: tuple[str, ...] = tuple(row["item_ids"])  # type: ignore[arg-type]
    size = len(items)
    record = Record(0.0, 0, size, drawn=False, rank=tuple(range(size)), utility=(0.0,) * size, prefix=(1.0,) * size)
    fields = {name: row.get(name) for name in ("user_id", "query")}
    placement = {"placement": str(row["placement"])} if row.get("placement") else {}
    return LoggedSlate(
        str(row["request_id"]),
        int(row["ts"]),  # type: ignore[call-overload]
        fields["user_id"],  # type: ignore[arg-type]
        fields["query"],  # type: ignore[arg-type]
        items,
        (0.0,) * size,
        record,
        **placement,
    )


def reordered(
    slates: Sequence[LoggedSlate],
    rank: Rank,
    credits_: pl.DataFrame,
    reward: str,
    bias: PositionBias,
    required: Requirements | None = None,
) -> OffPolicyEstimate:
    """The reward per slate that the order of another ranking would have earned.

    Args:
        slates: served ones.
        rank: the other ranking's order of a slate's products, best first; products that it leaves out follow in theirs.
        credits_: as `attribution.credit` gives them.
        reward: `click`, `cart`, `purchase` or `revenue`.
        bias: examination of the places.
        required: `min_effective` is the least effective number of rewarded places.
    """
    required = required or Requirements()
    earned = earned_places(slates, credits_, reward)
    actual, target = np.zeros(len(slates)), np.zeros(len(slates))
    weighted: list[float] = []
    for row, slate in enumerate(slates):
        if not earned[row]:
            continue
        shown = slate.shown
        new = _places(slate, rank(slate))
        for place, amount in earned[row].items():
            after = float(bias.at(np.array(new[shown[place]])))
            weight = min(after / max(float(bias.at(np.array(place))), 1e-9), MAX_WEIGHT)
            actual[row] += amount
            target[row] += amount * weight
            weighted.append(amount * weight)
    return _estimate(slates, actual, target, np.array(weighted), required)


def _places(slate: LoggedSlate, order: Sequence[str]) -> dict[str, int]:
    """Place of each product of a slate in another order."""
    known = set(slate.shown)
    first = [item for item in dict.fromkeys(order) if item in known]
    rest = [item for item in slate.items if item in known - set(first)]
    return {item: place for place, item in enumerate([*first, *rest])}


def _estimate(
    slates: Sequence[LoggedSlate], actual: Floats, target: Floats, weighted: Floats, required: Requirements
) -> OffPolicyEstimate:
    names = [slate.user_id or f"request {slate.request_id}" for slate in slates]
    users, user = np.unique(names, return_inverse=True)
    quantile = float(stdtrit(max(len(users) - 1, 1), (1 + LEVEL) / 2))
    value, gain = float(target.mean()), float((target - actual).mean())
    width = quantile * cluster_error(target - value, user)
    gain_width = quantile * cluster_error(target - actual - gain, user)
    effective = float(weighted.sum() ** 2 / max((weighted**2).sum(), 1e-300)) if len(weighted) else 0.0
    few = effective < required.min_effective
    return OffPolicyEstimate(
        estimator="examination",
        value=value,
        low=value - width,
        high=value + width,
        gain=gain,
        gain_low=gain - gain_width,
        gain_high=gain + gain_width,
        effective=effective,
        mean_weight=1.0,
        support=1.0,
        slates=len(slates),
        users=len(users),
        refusal=f"{effective:,.0f} effective rewarded places < {required.min_effective:,.0f}" if few else "",
    )
