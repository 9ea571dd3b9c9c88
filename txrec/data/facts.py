"""Figures of the prepared events for the data report: small, and they add up over partitions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from txrec.schema import DAY_US, Split


@dataclass(frozen=True)
class Facts:
    """Counts of one partition, or of all. Keys are strings so that a Facts is plain JSON."""

    num_users: int = 0
    num_events: int = 0
    num_sessions: int = 0
    num_test_users: int = 0
    """Users with an event in the test part."""
    num_cold_test_users: int = 0
    """Of those, users without an event in training."""
    by_day: dict[str, int] = field(default_factory=dict)
    """`day event` = events; day counts from 1970, event is the EventKind code."""
    by_split: dict[str, int] = field(default_factory=dict)
    """split label = events."""
    by_event: dict[str, int] = field(default_factory=dict)
    """EventKind code = events."""
    history_lengths: dict[str, int] = field(default_factory=dict)
    """Events of a user = users."""
    query_words: dict[str, int] = field(default_factory=dict)
    """Words of an event's query = events."""


def of(events: pl.DataFrame) -> Facts:
    """Counts ordered events that have `split` and `session`."""
    users = events.group_by("user").agg(
        pl.len(),
        sessions=pl.col("session").max() + 1,
        tests=(pl.col("split") == int(Split.TEST)).any(),
        trains=(pl.col("split") == int(Split.TRAIN)).any(),
    )
    days = events.group_by(day=pl.col("ts") // DAY_US, kind=pl.col("event")).len()
    queries = events.filter(pl.col("query").is_not_null()).group_by("query").len()
    words = queries.group_by(words=pl.col("query").cast(pl.String).str.count_matches(" ") + 1).agg(pl.col("len").sum())
    return Facts(
        users.height,
        events.height,
        int(users["sessions"].sum()),
        int(users["tests"].sum()),
        int((users["tests"] & ~users["trains"]).sum()),
        {f"{day} {kind}": count for day, kind, count in days.iter_rows()},
        by_split(events["split"]),
        _counted(events["event"]),
        _counted(users["len"]),
        {str(count): num for count, num in words.iter_rows()},
    )


def by_split(column: pl.Series) -> dict[str, int]:
    """Rows of every part; parts without rows included."""
    counts = np.bincount(column.to_numpy(), minlength=len(Split))
    return {part.label: int(counts[part]) for part in Split}


def _counted(column: pl.Series) -> dict[str, int]:
    return {str(value): count for value, count in column.value_counts().iter_rows()}


def total(parts: Iterable[Facts]) -> Facts:
    """Adds up the figures of partitions."""
    whole: dict[str, Counter[str] | int] = {}
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, int):
                whole[name] = whole.get(name, 0) + value  # type: ignore[operator]
            else:
                counter = whole.setdefault(name, Counter())
                assert isinstance(counter, Counter)
                counter.update(value)
    return Facts(**{name: dict(value) if isinstance(value, Counter) else value for name, value in whole.items()})  # type: ignore[arg-type]
