"""Evaluation slices: kinds of requests, and kinds of relevant items.

A slice of requests keeps some cases whole. A slice of items keeps, in every case, only the right items of its kind, and
the cases that have one: its recall is the recall of such items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.data.head import head_of
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, GroundTruth
from txrec.schema import PAD

LENGTHS: tuple[tuple[str, int, int], ...] = (
    ("history_1_5", 1, 5),
    ("history_6_20", 6, 20),
    ("history_21_100", 21, 100),
    ("history_over_100", 101, 1 << 40),
)
"""(name, fewest, most) item events before the request."""
MAX_SEGMENTS = 20
"""Segments of the users table that are slices, those with most cases."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Selected cases, and their relevant items."""

    name: str
    rows: NDArray[np.int64]  # cases, ascending
    truth: GroundTruth  # of those cases


def slices(data: PreparedData, cases: EvalRequests) -> list[Slice]:
    """Every slice that has a case, in a fixed order."""
    slices = [Slice(name, rows, cases.truth.select(rows)) for name, rows in _by_request(data, cases)]
    right = {name: marked[cases.truth.items] for name, marked in _by_item(data)}
    searched = (cases.query_idx != PAD)[cases.truth.case]
    right["cold_item_searched"] = right["cold_item"] & searched
    if searched.any():  # else the same as without these
        right["tail_item_without_query"] = right["tail_item"] & ~searched
        right["cold_item_without_query"] = right["cold_item"] & ~searched
    slices += [_of_items(name, cases.truth, kept) for name, kept in right.items()]
    return [part for part in slices if len(part.rows)]


def _by_request(data: PreparedData, cases: EvalRequests) -> list[tuple[str, NDArray[np.int64]]]:
    requests = cases.query_idx != PAD
    known = np.append(0, np.asarray(data.queries.column("train_count")))[cases.query_idx] > 0
    length = cases.lengths
    marked = {
        "with_query": requests,
        "without_query": ~requests,
        "seen_query": requests & known,
        "unseen_query": requests & ~known,
        "new_user": length == 0,
        **({"new_user_without_query": ~requests & (length == 0)} if requests.any() else {}),
        **{name: (length >= low) & (length <= high) for name, low, high in LENGTHS},
    }
    return [*((name, np.flatnonzero(rows)) for name, rows in marked.items()), *_by_segment(data, cases)]


def _by_segment(data: PreparedData, cases: EvalRequests) -> list[tuple[str, NDArray[np.int64]]]:
    """Cases of the users of each segment; none without a users table that names segments."""
    stored = data.profiles
    if stored is None:
        return []
    rows: dict[str, list[int]] = {}
    for case, user in enumerate(cases.user.tolist()):
        known = stored.of(str(data.sequences.user_id[user])) if user >= 0 else None
        for segment in known.segments if known is not None else ():
            rows.setdefault(segment, []).append(case)
    largest = sorted(rows, key=lambda name: (-len(rows[name]), name))[:MAX_SEGMENTS]
    return [(f"segment_{name}", np.array(rows[name], np.int64)) for name in largest]


def _by_item(data: PreparedData) -> list[tuple[str, NDArray[np.bool_]]]:
    """(name, (N + 1,) mark) of each kind of item."""
    count = np.append(0, np.asarray(data.items.column("train_count")))
    trained = count > 0
    head = head_of(count)
    cold = ~trained
    cold[PAD] = False
    return [("head_item", head & trained), ("tail_item", trained & ~head), ("cold_item", cold)]


def _of_items(name: str, truth: GroundTruth, kept: NDArray[np.bool_]) -> Slice:
    """The right items marked in `kept` (T,)."""
    rows, case = np.unique(truth.case[kept], return_inverse=True)
    return Slice(name, rows, GroundTruth.group(case.astype(np.int64), truth.items[kept], len(rows)))
