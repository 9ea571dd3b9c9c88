"""Splits of events, users' last events and judged queries into training, validation and test.

`global_time`: two instants cut all histories, so that no training event is later than the first test event.
`leave_one_out`: a user's last item event is test, the one before it validation, as in published tables. Judgments are
split by query, so that no query is judged in two parts.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from txrec.config import SplitConfig
from txrec.errors import DataError
from txrec.schema import DAY_US, Split, parse_instant

_LEAST_ITEM_EVENTS = 3
"""leave_one_out: all events of users with fewer item events are training."""


def windows(cfg: SplitConfig, first_us: int, last_us: int) -> tuple[int, int]:
    """Starts of the validation and the test window, microseconds since 1970 UTC.

    Args:
        cfg: lengths of the windows, or the instant at which the test window starts.
        first_us: time of the first event.
        last_us: time of the last event.

    Raises:
        ConfigError: `cfg.test_start` is not ISO 8601.
        DataError: a part would be empty; says what the log spans.
    """
    test_us = (
        parse_instant(cfg.test_start, "prepare.split.test_start")
        if cfg.test_start
        else last_us - round(cfg.test_days * DAY_US)
    )
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
