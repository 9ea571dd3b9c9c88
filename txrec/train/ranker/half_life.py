"""Half-life of the popularity source, chosen on validation requests about which nothing but popularity is known."""

import numpy as np

from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.protocol import EvalRequests
from txrec.index.log import EventLog
from txrec.index.popularity import Popularity
from txrec.index.source import SourceQuery
from txrec.schema import PAD, Split

HALF_LIVES_DAYS = (3.0, 1e9)
"""Half-lives tried in addition to the configured one: popular just now, and popular at any time."""
MIN_REQUESTS = 30
"""Least requests of new users that decide; with fewer all without a query do, with fewer of those the setting stays."""
K = 10


def popularity_half_life(data: PreparedData, requests: EvalRequests, configured_days: float) -> float:
    """The half-life, in days, whose popular items new users want most, by NDCG@10.

    New users without a query get nothing but this list, so it must not be worse than plain or recent popularity.

    Args:
        data: the log, cut at the validation part.
        requests: of the validation part.
        configured_days: `retrieval.half_life_days`, kept where nothing is better.
    """
    home = requests.query_idx == PAD
    for rows in (np.flatnonzero(home & (requests.lengths == 0)), np.flatnonzero(home)):
        if len(rows) >= MIN_REQUESTS:
            break
    else:
        return configured_days
    log, truth = EventLog.before(data, Split.VALIDATION), requests.truth.select(rows)
    nothing = SourceQuery([""], np.zeros((1, 1), np.float32), [np.empty(0, np.int32)])
    best, best_ndcg = configured_days, -1.0
    for days in (configured_days, *HALF_LIVES_DAYS):
        items = Popularity.fit(log, data.meta.num_items, days).search(nothing, K, [None]).item_idx
        ndcg = float(metrics.per_case(np.repeat(items, len(rows), axis=0), truth, [K])[f"ndcg@{K}"].mean())
        if ndcg > best_ndcg + 1e-9:
            best, best_ndcg = days, ndcg
    return best
