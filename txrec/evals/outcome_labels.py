"""Outcome labels of logged requests: items that the user was shown, put into the cart, or bought."""

import numpy as np
from numpy.typing import NDArray

from txrec.data.prepared import Sequences
from txrec.evals.protocol import EvalRequests
from txrec.model.history_features import NEW_SEARCH_US
from txrec.model.outcome_heads import OUTCOMES
from txrec.schema import PAD, EventKind

_CODES = {"cart": (EventKind.CART, EventKind.PURCHASE), "purchase": (EventKind.PURCHASE,)}
"""A purchase implies that the product was in the cart."""


def outcome_items(requests: EvalRequests, sequences: Sequences, row: int, window_us: int) -> list[NDArray[np.int32]]:
    """Per kind of `OUTCOMES`, the items with such an event after a request.

    Args:
        requests: of one split.
        sequences: the log that they are from.
        row: of the request.
        window_us: microseconds after a search in which an event counts; without a search, all events of the split do.
    """
    part = slice(int(requests.end[row]), int(sequences.offsets[requests.user[row] + 1]))
    counted = sequences.split[part] == sequences.split[part][:1]
    if requests.query_idx[row] != PAD and requests.now_us[row]:
        counted &= sequences.ts[part] <= requests.now_us[row] + window_us
    kind, items = sequences.event[part][counted], sequences.item_idx[part][counted]
    return [np.asarray(items[np.isin(kind, _CODES[name])], np.int32) for name in OUTCOMES]


def shown_items(requests: EvalRequests, sequences: Sequences, row: int) -> NDArray[np.int32]:
    """Items with impressions that answer a request: until the next query, or for `NEW_SEARCH_US`."""
    part = slice(int(requests.end[row]), int(sequences.offsets[requests.user[row] + 1]))
    query, own, now = sequences.query_idx[part], requests.query_idx[row], requests.now_us[row]
    answered: NDArray[np.bool_] = sequences.split[part] == sequences.split[part][:1]
    if own != PAD:
        other = (query != PAD) & (query != own)
        answered &= ~np.maximum.accumulate(other) & (sequences.ts[part] <= now + NEW_SEARCH_US)
    else:
        answered &= query == PAD
    shown: NDArray[np.int32] = sequences.item_idx[part][answered & (sequences.event[part] == EventKind.IMPRESSION)]
    return shown


def has_outcome(sequences: Sequences) -> dict[str, bool]:
    """Kind of `OUTCOMES` = whether the log has such events."""
    codes = {"cart": EventKind.CART, "purchase": EventKind.PURCHASE}
    return {name: bool((sequences.event == codes[name]).any()) for name in OUTCOMES}
