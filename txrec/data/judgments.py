"""Judged pairs of a prepared data set: how well a product suits a query, graded by people."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData, Sequences
from txrec.schema import EventKind, Split

RELEVANT_GRADE_FRAC = 0.5
"""A judged item is relevant if its grade lies above this share of the way from the lowest to the highest grade."""


@dataclass(frozen=True, eq=False)
class Judgments:
    """J graded pairs of one split, in dense indices, ordered by query."""

    query: NDArray[np.int32]  # (J,)
    item: NDArray[np.int32]  # (J,)
    grade: NDArray[np.float32]  # (J,)
    share: NDArray[np.float64]  # (J,) where the grade lies between the lowest (0) and the highest (1) of all

    @classmethod
    def of(cls, data: PreparedData, split: Split) -> "Judgments":
        """Reads the judgments of a split; none where the data set has no judgments."""
        file = data.path / "judgments.parquet"
        if not file.is_file():
            none = np.empty(0)
            return cls(none.astype(np.int32), none.astype(np.int32), none.astype(np.float32), none)
        table = pq.read_table(file)
        grade = np.asarray(table["grade"], np.float32)
        query_idx = {text: row for row, text in enumerate(data.queries["query"].to_pylist(), start=1)}
        item_id = {key: row for row, key in enumerate(data.items["item_id"].to_pylist(), start=1)}
        query = np.array([query_idx[text] for text in table["query"].to_pylist()], np.int32)
        item = np.array([item_id[key] for key in table["item_id"].to_pylist()], np.int32)
        rows = np.flatnonzero(np.asarray(table["split"]) == split)
        rows = rows[np.lexsort((item[rows], query[rows]))]
        low, high = float(grade.min(initial=np.inf)), float(grade.max(initial=-np.inf))
        share = (grade[rows] - low) / max(high - low, 1e-9)
        return cls(query[rows], item[rows], grade[rows], share.astype(np.float64))

    def select(self, rows: NDArray[np.int64]) -> "Judgments":
        """Some of the pairs, in the order of `rows`."""
        return Judgments(self.query[rows], self.item[rows], self.grade[rows], self.share[rows])

    def __len__(self) -> int:
        return len(self.query)


def judged_sequences(data: PreparedData) -> Sequences:
    """Judged (query, product) pairs as histories, for data without events: a search and a click on the right one.

    Every right pair of the training part is a user of its own.
    """
    table = pq.read_table(data.path / "judgments.parquet")
    grade = np.asarray(table["grade"])
    least = grade.min() + RELEVANT_GRADE_FRAC * (grade.max() - grade.min()) if len(grade) else 0.0
    right = (grade > least) & (np.asarray(table["split"]) == Split.TRAIN)
    table = table.take(np.flatnonzero(right))
    query = pc.index_in(table["query"], data.queries["query"].combine_chunks()).to_numpy() + 1
    item = pc.index_in(table["item_id"], data.items["item_id"].combine_chunks()).to_numpy() + 1
    num = len(query)
    none = np.zeros(2 * num)
    return Sequences(
        user_id=np.arange(num).astype(str).astype(object),
        offsets=np.arange(num + 1) * 2,
        item_idx=np.stack([np.zeros(num), item], axis=1).ravel().astype(np.int32),
        query_idx=np.repeat(query, 2).astype(np.int32),
        event=np.tile([EventKind.SEARCH, EventKind.CLICK], num).astype(np.int8),
        ts=none.astype(np.int64),
        value=none.astype(np.float32),
        split=np.full(2 * num, Split.TRAIN, np.int8),
    )
