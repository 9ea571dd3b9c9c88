"""Oracle upper bound on the generated shop: NDCG of a ranking by the true preferences, and of the recommender."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.arrays import ndcg
from txrec.config import ShopConfig
from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.metrics import Floats
from txrec.evals.protocol import EvalRequests
from txrec.progress import Progress, silent
from txrec.schema import PAD
from txrec.simulator import Shop
from txrec.simulator.oracle import Oracle

K = 10
BATCH = 512


def oracle_bound(
    shop: ShopConfig, data: PreparedData, requests: EvalRequests, reached: Floats, progress: Progress = silent
) -> dict[str, Any]:
    """NDCG@10 of the true ranking on the same cases, and the share of it that was reached.

    Args:
        shop: settings of the generated shop.
        data: the prepared data set of that shop.
        requests: C cases.
        reached: (C,) the recommender's NDCG@10 of each.
        progress: called after every batch.
    """
    oracle = Oracle.of(Shop.generate(shop))
    users = data.sequences.user_id
    has_search = np.array([_is_known(oracle, requests, users, case) for case in range(len(requests))], bool)
    rows = np.flatnonzero(has_search)
    best = ndcg(_hits(oracle, data, requests, rows, progress), requests.truth.counts[rows], K)
    searched = requests.query_idx[rows] != PAD
    whole = np.ones(len(rows), bool)
    figures: dict[str, Any] = {"num_cases": len(rows)}
    for name, part in (("all", whole), ("with_query", searched), ("without_query", ~searched)):
        if part.any():
            limit, value = float(best[part].mean()), float(reached[rows][part].mean())
            figures[name] = {f"ndcg@{K}": limit, "reached": value, "share": value / limit if limit else 0.0}
    return figures


def _is_known(oracle: Oracle, requests: EvalRequests, users: NDArray[np.object_], case: int) -> bool:
    user = str(users[requests.user[case]])
    if requests.query_idx[case] == PAD:
        return user in oracle.user_index
    return oracle.has_search(user, int(requests.now_us[case]))


def _hits(
    oracle: Oracle, data: PreparedData, requests: EvalRequests, rows: NDArray[np.int64], progress: Progress
) -> NDArray[np.bool_]:
    """(R, K) hits of the true ranking."""
    dense = {key: item_id for item_id, key in enumerate(data.items.column("item_id").to_pylist(), start=1)}
    column = np.array([dense.get(key, PAD) for key in oracle.item_ids], np.int32)
    top = np.zeros((len(rows), K), np.int32)
    done = 0
    for searched in (True, False):
        kind = np.flatnonzero((requests.query_idx[rows] != PAD) == searched)
        for start in range(0, len(kind), BATCH):
            part = kind[start : start + BATCH]
            scores = _scores(oracle, data, requests, rows[part], searched)
            scores[:, column == PAD] = -np.inf  # products that preparation dropped cannot be right
            top[part] = column[np.argsort(-scores, axis=1, kind="stable")[:, :K]]
            done += len(part)
            progress("oracle", done, len(rows))
    return metrics.hits(top, requests.truth.select(rows))


def _scores(
    oracle: Oracle, data: PreparedData, requests: EvalRequests, rows: NDArray[np.int64], searched: bool
) -> NDArray[np.float32]:
    users = [str(user) for user in data.sequences.user_id[requests.user[rows]]]
    if searched:
        return oracle.searches(users, requests.now_us[rows].tolist())
    return oracle.window(users, int(requests.now_us[rows[0]]))
