"""Splits of events, users' last events and judged queries into training, validation and test.

`global_time`: two instants cut all histories, so that no training event is later than the first test event.
`leave_one_out`: a user's last item event is test, the one before it validation, as in published tables. Judgments are
split by query, so that no query is judged in two parts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.config import SplitConfig
from txrec.errors import DataError
from txrec.schema import DAY_US, Split, parse_instant

FIXED_DAYS = 7.0
"""Length of a window next to one whose length is a setting."""
HOUR_US = 3_600_000_000
LEAST_REQUESTS = 300
"""Users that a test window should hold, where the log has three times as many."""
_LEAST_ITEM_EVENTS = 3
"""leave_one_out: all events of users with fewer item events are training."""


@dataclass(frozen=True)
class TimeCounts:
    """Events and users by the hour. Keys are hours since 1970 as strings, so that it is plain JSON."""

    events: dict[str, int] = field(default_factory=dict)
    """Events of the hour."""
    last: dict[str, int] = field(default_factory=dict)
    """Users whose last event lies in the hour."""


def count_times(events: pl.DataFrame) -> TimeCounts:
    """Counts of a partition of users; `user_id`, `ts`."""
    hours = events.group_by(hour=pl.col("ts") // HOUR_US).len()
    last = events.group_by("user_id").agg(hour=pl.col("ts").max() // HOUR_US).group_by("hour").len()
    return TimeCounts(*({str(hour): count for hour, count in table.iter_rows()} for table in (hours, last)))


def total_times(parts: Iterable[TimeCounts]) -> TimeCounts:
    """Adds up the counts of partitions."""
    events, last = Counter[str](), Counter[str]()
    for part in parts:
        events.update(part.events)
        last.update(part.last)
    return TimeCounts(dict(events), dict(last))


def fitted_windows(counts: TimeCounts, first_us: int, last_us: int) -> tuple[int, int]:
    """Starts of the validation and the test window that suit a log, microseconds since 1970 UTC.

    The test window is the last week, or the last eighth of a log shorter than eight weeks; it grows back in time until
    `LEAST_REQUESTS` users (a third of them in a small log) and a fiftieth of the events lie in it, but over no more
    than a third of the events. The validation window before it has the same length, and grows until it holds half as
    many events.
    """
    hours = sorted(map(int, counts.events))
    events = np.array([counts.events[str(hour)] for hour in hours])
    users = np.array([counts.last.get(str(hour), 0) for hour in hours])
    length = min(7 * DAY_US, (last_us - first_us) // 8)
    least_users = min(LEAST_REQUESTS, users.sum() / 3)
    events_from, users_from = events[::-1].cumsum()[::-1], users[::-1].cumsum()[::-1]
    enough = (users_from >= least_users) & (events_from >= events.sum() / 50)
    at = int(np.flatnonzero(enough)[-1])
    most = np.flatnonzero(events_from <= events.sum() / 3)
    at = max(at, int(most[0]) if len(most) else len(hours) - 1)
    test_us = min(last_us - length, hours[at] * HOUR_US)
    tested = events[np.array(hours) * HOUR_US >= test_us].sum()
    before = np.flatnonzero(np.array(hours) * HOUR_US < test_us)
    reaching = np.flatnonzero(events[before][::-1].cumsum() >= tested / 2)
    hour = hours[int(before[::-1][reaching[0]])] if len(reaching) else hours[0]
    validation_us = min(test_us - length, hour * HOUR_US)
    if validation_us > first_us:
        return validation_us, test_us
    return last_us - 2 * length, last_us - length  # too few events for any better windows


def windows(cfg: SplitConfig, first_us: int, last_us: int, counts: TimeCounts | None = None) -> tuple[int, int]:
    """Starts of the validation and the test window, microseconds since 1970 UTC.

    Args:
        cfg: lengths of the windows, or the instant at which the test window starts.
        first_us: time of the first event.
        last_us: time of the last event.
        counts: events and users by the hour, for windows that `cfg` leaves to the log.

    Raises:
        ConfigError: `cfg.test_start` is not ISO 8601.
        DataError: a part would be empty; names the span of the log.
    """
    if cfg.test_days is None and not cfg.test_start and counts is not None and counts.events:
        validation_us, test_us = fitted_windows(counts, first_us, last_us)
    elif cfg.test_start:
        test_us = parse_instant(cfg.test_start, "prepare.split.test_start")
        validation_us = test_us - round((cfg.validation_days or FIXED_DAYS) * DAY_US)
    else:
        test_us = last_us - round((cfg.test_days or FIXED_DAYS) * DAY_US)
        validation_us = test_us - round((cfg.validation_days or FIXED_DAYS) * DAY_US)
    if cfg.validation_days is not None:
        validation_us = test_us - round(cfg.validation_days * DAY_US)
    if not first_us < validation_us < test_us <= last_us:
        raise DataError(
            f"the log spans {_day(first_us)} to {_day(last_us)}; validation from {_day(validation_us)} and test from "
            f"{_day(test_us)} leave a part empty: change prepare.split.test_days, validation_days or test_start"
        )
    return validation_us, test_us


def global_time(ts: NDArray[np.int64], validation_us: int, test_us: int) -> NDArray[np.int8]:
    """Split of every event by its time. Events at the very start of a window belong to it."""
    return ((ts >= validation_us).astype(np.int8) + (ts >= test_us)).astype(np.int8)


def leave_one_out(user: NDArray[np.int32], has_item: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Split of every event by its place in the user's history.

    A search belongs to the item event after it. All events of users with fewer than three item events are training.

    Args:
        user: (N,) number of the user; equal ones side by side, histories oldest first.
        has_item: (N,) whether the event is an engagement with an item.
    """
    if not len(user):
        return np.empty(0, np.int8)
    total = np.cumsum(has_item)
    last = np.concatenate([np.flatnonzero(user[1:] != user[:-1]), [len(user) - 1]])
    lengths = np.diff(np.concatenate([[-1], last]))
    before_user = np.concatenate([[0], total[last[:-1]]])
    num_items = np.repeat(total[last] - before_user, lengths)
    to_come = np.repeat(total[last], lengths) - total + has_item  # item events from here on, this one included
    split = np.select([to_come <= 1, to_come == 2], [Split.TEST, Split.VALIDATION], Split.TRAIN)
    return np.where(num_items < _LEAST_ITEM_EVENTS, Split.TRAIN, split).astype(np.int8)


def by_query(queries: Iterable[str], test_frac: float) -> list[int]:
    """Split of judged queries: a hash of the query decides, so a query never changes sides as data grows."""
    parts = []
    for query in queries:
        place = int.from_bytes(hashlib.blake2b(query.encode(), digest_size=8).digest()) / 2**64
        part = Split.TEST if place < test_frac else Split.VALIDATION if place < 2 * test_frac else Split.TRAIN
        parts.append(int(part))
    return parts


def _day(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M}"
