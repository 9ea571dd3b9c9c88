"""Fatigue: products that a user was shown several times without engaging sink to the end of the slate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from txrec.model.history_features import History
from txrec.recommender.ranking import Ranked
from txrec.recommender.types import Candidates
from txrec.schema import PAD, EventKind


def fatigued_items(history: History, max_showings: int) -> NDArray[np.int32]:
    """Items that a user was shown at least so often since they last engaged with them.

    Args:
        history: events of the user in time order; an impression is a showing, every other event engagement.
        max_showings: impressions from which on an item counts as fatigued, at least 1.

    Returns:
        (n,) dense indices, ascending.
    """
    has_item = history.item_idx != PAD
    items, is_impression = history.item_idx[has_item], history.event[has_item] == EventKind.IMPRESSION
    unique, place = np.unique(items, return_inverse=True)
    engaged = np.full(len(unique), -1)
    rows = np.arange(len(items))
    np.maximum.at(engaged, place[~is_impression], rows[~is_impression])
    showings = np.bincount(place[is_impression & (rows > engaged[place])], minlength=len(unique))
    return np.asarray(unique[showings >= max_showings], np.int32)


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


def with_fatigue(ranked: Sequence[Ranked], candidates: Sequence[Candidates]) -> list[Ranked]:
    """Orders of requests with fatigued items behind all others, for the requests that set `max_showings`."""
    return [
        sink(order, one.item_idx, fatigued_items(one.history, one.request.max_showings))
        if one.request.max_showings
        else order
        for order, one in zip(ranked, candidates, strict=True)
    ]
