"""Showings of products to a user since they last engaged with them, and the factor on the score that follows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.model.history_features import History
from txrec.schema import PAD, EventKind

Counts = tuple[NDArray[np.int32], NDArray[np.int64]]
"""(n,) dense indices, ascending, and how often each was shown."""


def num_showings(
    history: History, shown: Sequence[tuple[str, int]] = (), idx_of: Mapping[str, int] | None = None
) -> Counts:
    """Showings of items since the user last engaged with them; items of the history without any have 0.

    Args:
        history: events of the user in time order; an impression is a showing, every other event engagement.
        shown: products of logged slates with times, microseconds; the larger count of both logs holds.
        idx_of: item_id -> item_idx of those.
    """
    known = history.item_idx != PAD
    items, ts = history.item_idx[known], history.ts[known]
    is_showing = history.event[known] == EventKind.IMPRESSION
    reported = _since_engagement(items, is_showing)
    logged = [((idx_of or {}).get(key, PAD), when) for key, when in shown]
    logged = [one for one in logged if one[0] != PAD]
    if not logged:
        return reported
    slate_items, slate_ts = (np.array(column) for column in zip(*logged, strict=True))
    engaged = ~is_showing
    both_items = np.append(items[engaged], slate_items.astype(np.int32))
    order = np.argsort(np.append(ts[engaged], slate_ts), kind="stable")
    marks = np.append(np.zeros(int(engaged.sum()), np.bool_), np.ones(len(slate_items), np.bool_))
    return _larger(reported, _since_engagement(both_items[order], marks[order]))


def fatigue_factor(counts: Counts, item_idx: NDArray[np.int32], factors: Sequence[float]) -> NDArray[np.float32]:
    """(K,) factors on the click probabilities of candidates.

    Args:
        counts: showings of items.
        item_idx: (K,) candidates.
        factors: factor after 0, 1, 2 ... showings in vain; the last one also holds for more.
    """
    items, number = counts
    if not len(items):
        return np.ones(len(item_idx), np.float32)
    place = np.minimum(np.searchsorted(items, item_idx), len(items) - 1)
    showings = np.where(items[place] == item_idx, number[place], 0)
    return np.asarray(factors, np.float32)[np.minimum(showings, len(factors) - 1)]


def _since_engagement(items: NDArray[np.int32], is_showing: NDArray[np.bool_]) -> Counts:
    unique, place = np.unique(items, return_inverse=True)
    engaged = np.full(len(unique), -1)
    rows = np.arange(len(items))
    np.maximum.at(engaged, place[~is_showing], rows[~is_showing])
    counts: NDArray[Any] = np.bincount(place[is_showing & (rows > engaged[place])], minlength=len(unique))
    return np.asarray(unique, np.int32), counts.astype(np.int64)


def _larger(one: Counts, other: Counts) -> Counts:
    items = np.union1d(one[0], other[0]).astype(np.int32)
    counts = np.zeros(len(items), np.int64)
    for own, number in (one, other):
        place = np.searchsorted(items, own)
        counts[place] = np.maximum(counts[place], number)
    return items, counts
