"""Exposure figures of an evaluation: shares of product groups, alarms of limits, and the price of keeping to them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.evals import bootstrap, metrics
from txrec.evals.protocol import EvalRequests
from txrec.loop.exposure import ProductGroups, alarms, attention, limited, report_rows


def exposure_figures(
    config: Config, data: PreparedData, requests: EvalRequests, ranked: NDArray[np.int32], unit: NDArray[np.int64]
) -> dict[str, Any]:
    """`shares` of product groups, `alarms`, and `prices` of the limits; empty without requests.

    Args:
        config: of the run; limits are those of `[exposure]`.
        data: the prepared data set.
        requests: of the split, with their relevant items.
        ranked: (C, K) lists of the recommender.
        unit: (C,) user of each request, for intervals.
    """
    if not len(requests):
        return {}
    groups, num_items = ProductGroups.of(data, config.exposure.attributes), data.meta.num_items
    relevance = np.bincount(requests.truth.items, minlength=num_items + 1)[1:].astype(np.float64)
    shares = groups.shares(attention(ranked, num_items), relevance)
    metric, ks = config.publish.metric, config.evaluate.ks
    before = metrics.per_case(ranked, requests.truth, ks)[metric]
    prices = []
    for limit in config.exposure.limits:
        within_limits = limited(ranked, groups, limit)
        after = metrics.per_case(within_limits, requests.truth, ks)[metric]
        paired = bootstrap.paired(after, before, unit, max(config.evaluate.bootstrap, 1), config.seed)
        share = next(
            (one.exposure for one in groups.shares(attention(within_limits, num_items), relevance)
             if (one.group, one.part) == (limit.group, limit.part)),
            0.0,
        )  # fmt: skip
        prices.append({**limit.model_dump(), "metric": metric, "exposure": share, "difference": paired.to_dict()})
    return {
        "shares": report_rows(shares, config.exposure),
        "alarms": alarms(shares, config.exposure),
        "prices": prices,
    }


def price_line(price: dict[str, Any]) -> str:
    """One line: the limit, the exposure that it leads to, and the change of the metric."""
    change = price["difference"]
    return (
        f"{price['group']} {price['part']!r} between {price['floor']:.0%} and {price['ceiling']:.0%} of the places:"
        f" exposure {price['exposure']:.1%}, {price['metric']} {change['mean']:+.4f}"
        f" ({change['low']:+.4f} to {change['high']:+.4f})"
    )
