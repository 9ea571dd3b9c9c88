"""Half-life of the popularity source, chosen on earlier requests about which nothing but popularity is known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.protocol import EvalRequests
from txrec.index.source import SourceQuery
from txrec.index.sources.popularity import Popularity
from txrec.index.training_log import EventLog
from txrec.schema import PAD, Split

HALF_LIVES_DAYS = (3.0, 1e9)
"""Half-lives tried in addition to the configured one: popular just now, and popular at any time."""
MIN_REQUESTS = 30
"""Least requests of new users that decide; with fewer all without a query do, with fewer of those the setting stays."""
K = 10


def popularity_half_life(windows: Sequence[tuple[PreparedData, EvalRequests]], configured_days: float) -> float:
    """The half-life, in days, whose popular items new users want most, by NDCG@10.

    New users without a query get nothing but this list, so it must not be worse than plain or recent popularity. One
    window has few new users and its own season, so earlier ones count as well.

    Args:
        windows: data sets cut at the validation part and at earlier windows, with the requests of each.
        configured_days: `retrieval.half_life_days`, kept where nothing is better.
    """
    logs = [(EventLog.before(data, Split.VALIDATION), data.meta.num_items) for data, _ in windows]
    for only_new in (True, False):
        rows = [_home(requests, only_new) for _, requests in windows]
        if sum(map(len, rows)) >= MIN_REQUESTS:
            break
    else:
        return configured_days
    truths = [requests.truth.select(kept) for (_, requests), kept in zip(windows, rows, strict=True)]
    nothing = SourceQuery([""], np.zeros((1, 1), np.float32), [np.empty(0, np.int32)])
    best, best_sum = configured_days, -1.0
    for days in dict.fromkeys((configured_days, *HALF_LIVES_DAYS)):
        total = 0.0
        for (log, num_items), truth in zip(logs, truths, strict=True):
            items = Popularity.fit(log, num_items, days).search(nothing, K, [None]).item_idx
            total += float(metrics.per_case(np.repeat(items, len(truth), axis=0), truth, [K])[f"ndcg@{K}"].sum())
        if total > best_sum + 1e-9:
            best, best_sum = days, total
    return best


def _home(requests: EvalRequests, only_new: bool) -> NDArray[np.int64]:
    """Requests without a query, of new users or of all."""
    return np.flatnonzero((requests.query_idx == PAD) & ((requests.lengths == 0) | (not only_new)))
