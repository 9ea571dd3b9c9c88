"""Statistics of the prepared events for the data report: small, and they add up over partitions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.data.preparation.row_order import count_pairs
from txrec.schema import DAY_US, Split


@dataclass(frozen=True)
class EventStatistics:
    """Counts of one partition, or of all. Keys are strings, so that it is plain JSON."""

    num_users: int = 0
    num_events: int = 0
    num_sessions: int = 0
    num_test_users: int = 0
    """Users with an event in the test part."""
    num_cold_test_users: int = 0
    """Number of those users without an event in training."""
    num_item_pairs: int = 0
    """Neighbouring events of one user with two products, in a log without times."""
    num_sorted_pairs: int = 0
    """Number of those in the order of their item_ids."""
    by_day: dict[str, int] = field(default_factory=dict)
    """`day event` = events; day counts from 1970, event is the EventKind code."""
    by_split: dict[str, int] = field(default_factory=dict)
    """split label = events."""
    by_event: dict[str, int] = field(default_factory=dict)
    """EventKind code = events."""
    history_lengths: dict[str, int] = field(default_factory=dict)
    """Length of a history = users with it."""
    query_words: dict[str, int] = field(default_factory=dict)
    """Words of a query = events with it."""


def count(
    events: pl.DataFrame, queries: pl.DataFrame, words: NDArray[np.int32], item_ids: pl.Series
) -> EventStatistics:
    """Counts the events of a partition.

    Args:
        events: `user`, `item`, `event`, `ts`, `split`, `session`; users and items as codes, a session's number from 0
            for each user.
        queries: `query` as codes, `total` events with it.
        words: (Q,) words of the query with each code.
        item_ids: (I,) item_id of each code.
    """
    users = events.group_by("user").agg(
        pl.len(),
        sessions=pl.col("session").max() + 1,
        tests=(pl.col("split") == int(Split.TEST)).any(),
        trains=(pl.col("split") == int(Split.TRAIN)).any(),
    )
    days = events.group_by(day=pl.col("ts") // DAY_US, kind=pl.col("event")).len().sort("day", "kind")
    has_time = bool((events["ts"] != 0).any())
    pairs, sorted_pairs = (0, 0) if has_time else count_pairs(events["user"], item_ids[events["item"]])
    lengths = np.bincount(words[queries["query"].to_numpy()], weights=queries["total"].to_numpy())
    return EventStatistics(
        num_users=users.height,
        num_events=events.height,
        num_sessions=int(users["sessions"].sum()),
        num_test_users=int(users["tests"].sum()),
        num_cold_test_users=int((users["tests"] & ~users["trains"]).sum()),
        num_item_pairs=pairs,
        num_sorted_pairs=sorted_pairs,
        by_day={f"{day} {kind}": count for day, kind, count in days.iter_rows()},
        by_split=by_split(events["split"]),
        by_event=_counted(events["event"]),
        history_lengths=_counted(users["len"]),
        query_words={str(num_words): int(num) for num_words, num in enumerate(lengths) if num},
    )


def by_split(column: pl.Series) -> dict[str, int]:
    """Rows of every part; parts without rows included."""
    counts = np.bincount(column.to_numpy(), minlength=len(Split))
    return {part.label: int(counts[part]) for part in Split}


def _counted(column: pl.Series) -> dict[str, int]:
    return {str(value): count for value, count in column.value_counts().sort(column.name).iter_rows()}


def total(parts: Iterable[EventStatistics]) -> EventStatistics:
    """Adds up the statistics of partitions."""
    numbers: Counter[str] = Counter()
    tables: dict[str, Counter[str]] = {}
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, int):
                numbers[name] += value
            else:
                tables.setdefault(name, Counter()).update(value)
    return EventStatistics(**numbers, **{name: _sorted(table) for name, table in tables.items()})  # type: ignore[arg-type]


def _sorted(table: Counter[str]) -> dict[str, int]:
    """Counts by key, numbers by size: the order does not depend on which partition came first."""
    return dict(
        sorted(table.items(), key=lambda entry: [int(word) if word.isdigit() else 0 for word in entry[0].split()])
    )
