"""Fatigue: products that a user was shown several times without engaging sink to the end of the slate.

A showing is an `impression` event of the history, or a product of a slate that the server logged. Where a shop reports
impressions and the server logs slates, the larger of the two counts holds, so that nothing counts twice.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from txrec.model.history_features import History
from txrec.recommender.ranking.ranking import Ranked
from txrec.recommender.ranking.showings import num_showings
from txrec.recommender.types import Candidates


def fatigued_items(history: History, max_showings: int) -> NDArray[np.int32]:
    """Items that a user was shown at least so often since they last engaged with them.

    Args:
        history: events of the user in time order; an impression is a showing, every other event engagement.
        max_showings: impressions from which on an item counts as fatigued, at least 1.

    Returns:
        (n,) dense indices, ascending.
    """
    items, counts = num_showings(history)
    return items[counts >= max_showings]


def sink(ranked: Ranked, item_idx: NDArray[np.int32], fatigued: NDArray[np.int32]) -> Ranked:
    """An order with fatigued items behind all others; within both groups it stays as it is.

    Args:
        ranked: an order of K candidates.
        item_idx: (K,) dense indices of the candidates, by their place.
        fatigued: dense indices of the fatigued items.
    """
    behind = np.isin(item_idx[ranked.order], fatigued)
    if not behind.any():
        return ranked
    return ranked.reordered(np.argsort(behind, kind="stable"))


def with_fatigue(
    ranked: Sequence[Ranked], candidates: Sequence[Candidates], idx_of: Mapping[str, int] | None = None
) -> list[Ranked]:
    """Orders of requests with fatigued items behind all others, for the requests that set `max_showings`.

    Args:
        ranked: orders of B requests.
        candidates: of the same.
        idx_of: item_id -> item_idx, for slates that the server logged; None = they do not count.
    """
    orders = []
    for order, one in zip(ranked, candidates, strict=True):
        most = one.request.max_showings
        if most:
            items, counts = num_showings(one.history, one.request.shown, idx_of or {})
            orders.append(sink(order, one.item_idx, items[counts >= most]))
        else:
            orders.append(order)
    return orders
