"""Fit of the audience model on the validation window: who had an event on a category or a product then, and why.

Features come from the log before the window, labels are events of any kind in it. The history model was trained on the
log before the window too; the window chose its epoch, which no user's rank depends on much.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.data.prepared import PreparedData, Sequences
from txrec.recommender.audience_model import AudienceRegressions, Regression, TargetKind, features
from txrec.recommender.lists.audiences import before, select, wider_weights
from txrec.recommender.lists.next_items import NextItems, histories
from txrec.recommender.retrieval.retriever import Retriever
from txrec.schema import DAY_US, PAD, Split

MAX_USERS = 5_000
"""Users with events before the window that the fit reads, drawn at random."""
MAX_TARGETS: dict[TargetKind, int] = {"category": 60, "item": 120}
"""Targets of each kind: those with most users in the window."""
LEAST_USERS, LEAST_POSITIVES = 5, 500
"""Users with an event on a target that is read, and pairs of such a user and a target that a fit needs: fifty per
coefficient."""


class _Window(NamedTuple):
    """Users with their histories before the window, and their events in it."""

    users: Sequences
    now_us: int
    events: NDArray[np.int64]  # (M, 2) (row of `users`, item), each once


def fit_audience(
    data: PreparedData, retriever: Retriever, item_vectors: NDArray[np.float32], seed: int
) -> AudienceRegressions | None:
    """Fits a regression per kind of target.

    Args:
        data: the prepared data set.
        retriever: holds the history model.
        item_vectors: (N + 1, D) vectors of the products, as known before the window.
        seed: draws the users.

    Returns:
        None where the log has no times or the window too few events.
    """
    if not data.meta.has_time or data.meta.split_kind != "global_time":
        return None
    window = _window(data, seed)
    if window is None:
        return None
    items = NextItems(retriever, item_vectors)
    states = items.states(histories(window.users), window.now_us)
    category = np.append(PAD, data.items.column("category_idx").to_numpy()).astype(np.int64)
    by_kind: dict[TargetKind, Regression] = {}
    targets: dict[TargetKind, NDArray[np.int64]] = {"category": category, "item": np.arange(len(category))}
    for kind, codes in targets.items():
        rows, labels = _examples(window, items, states, codes, category, MAX_TARGETS[kind])
        if sum(int(one.sum()) for one in labels) >= LEAST_POSITIVES:
            by_kind[kind] = Regression.fit(np.concatenate(rows), np.concatenate(labels))
    days = (data.meta.test_start_ts - data.meta.validation_start_ts) / DAY_US
    return AudienceRegressions(days, by_kind) if by_kind else None


def _window(data: PreparedData, seed: int) -> _Window | None:
    users = before(data.sequences, Split.VALIDATION)
    if not len(users):
        return None
    if len(users) > MAX_USERS:
        chosen = np.random.default_rng(seed).choice(len(users), MAX_USERS, replace=False)
        users = select(users, np.sort(chosen))
    sequences = data.sequences
    row_of = {user: row for row, user in enumerate(users.user_id)}
    row = np.array([row_of.get(user, -1) for user in sequences.user_id], np.int64)
    user = np.repeat(row, np.diff(sequences.offsets))
    kept = (sequences.split == Split.VALIDATION) & (user >= 0) & (sequences.item_idx != PAD)
    kept &= schema.is_engagement(sequences.event)
    pairs = np.stack([user[kept], sequences.item_idx[kept].astype(np.int64)], axis=1)
    return _Window(users, int(users.ts.max(initial=0)), np.unique(pairs, axis=0))


def _examples(
    window: _Window,
    items: NextItems,
    states: NDArray[np.float32],
    codes: NDArray[np.int64],
    category: NDArray[np.int64],
    most: int,
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    """Features and labels of all users for the targets that most of them had an event on.

    Args:
        window: users and their events.
        items: probabilities of next products.
        states: (U, D) of the users.
        codes: (N + 1,) target that a product belongs to, PAD = none.
        category: (N + 1,) leaf categories.
        most: targets at most.
    """
    rows, labels = [], []
    for code in _targets(window, codes, most):
        weights = (codes == code).astype(np.float64)
        probability = items.probability(states, weights)
        rows.append(features(window.users, weights, wider_weights(weights, category), window.now_us, probability))
        wanting = np.zeros(len(window.users), np.bool_)
        wanting[window.events[codes[window.events[:, 1]] == code, 0]] = True
        labels.append(wanting)
    return rows, labels


def _targets(window: _Window, codes: NDArray[np.int64], most: int) -> Sequence[int]:
    pairs = np.unique(np.stack([window.events[:, 0], codes[window.events[:, 1]]], axis=1), axis=0)
    counts = np.bincount(pairs[pairs[:, 1] != PAD, 1], minlength=1)
    order = np.argsort(-counts, kind="stable")[:most]
    return [int(code) for code in order if counts[code] >= LEAST_USERS]
