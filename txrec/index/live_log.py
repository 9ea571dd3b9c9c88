"""Live counts: recent events of a shop as the count-based sources add them to what was fitted.

A fitted count weighs an event by its age at the end of the training log. A live event counts on the same scale: 1 at
the start of the live period and doubling every half-life after it, so that fitted counts need not be decayed again. The
live period starts with the first live event after the log, however long the shop was not served in between.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec import schema
from txrec.index.training_log import EventLog
from txrec.schema import EventKind

MAX_LIVE_QUERIES = 5_000
"""Queries whose live clicks are counted; of more, those with most clicks, then the latest."""


class LiveEvent(NamedTuple):
    """An event with a product, in the shop's words.

    Attributes:
        user_id: raw id.
        item_id: raw id.
        query: normalised search text that led to it, empty = none.
        kind: `schema.EventKind`.
        ts: microseconds since 1970 UTC.
    """

    user_id: str
    item_id: str
    query: str
    kind: int
    ts: int


@dataclass(frozen=True, eq=False)
class LiveLog:
    """Live events in dense indices.

    Attributes:
        log: the events; ages are counted from the start of the live period, so that weights are 1 or more.
        queries: column `query` of the texts by `log.query_idx`, from 1.
        num_items: N.
        half_life_days: of the slow decay.
        popularity: (N + 1,) fitted event counts, decayed.
        profiles: properties of each user by `log.user_idx`; empty = none are known of any.
    """

    log: EventLog
    queries: pa.Table
    num_items: int
    half_life_days: float
    popularity: NDArray[np.float32]
    profiles: Sequence[Mapping[str, str]] = ()

    @classmethod
    def of(
        cls,
        events: Sequence[LiveEvent],
        idx_of: Mapping[str, int],
        end_us: int,
        half_life_days: float,
        popularity: NDArray[np.float32],
        profile_of: Callable[[str], Mapping[str, str]] | None = None,
    ) -> "LiveLog | None":
        """The events that count; None where there are none.

        Args:
            events: any order; those on unknown products, and those that the training log may hold, are left out.
            idx_of: item_id -> item_idx.
            end_us: end of the training log, microseconds.
            half_life_days: of the slow decay.
            popularity: (N + 1,) fitted event counts.
            profile_of: properties of a user; None = of nobody.
        """
        new_events = [event for event in events if event.ts > end_us and event.item_id in idx_of]
        if not new_events:
            return None
        clicks = Counter(event.query for event in new_events if event.query)
        latest = {event.query: event.ts for event in sorted(new_events, key=lambda event: event.ts)}
        texts = sorted(clicks, key=lambda text: (-clicks[text], -latest[text], text))[:MAX_LIVE_QUERIES]
        query_idx = {text: place for place, text in enumerate(sorted(texts), start=1)}
        users = {user: place for place, user in enumerate(sorted({event.user_id for event in new_events}))}
        columns: list[NDArray[Any]] = [
            np.array([users[event.user_id] for event in new_events], np.int32),
            np.array([idx_of[event.item_id] for event in new_events], np.int32),
            np.array([query_idx.get(event.query, schema.PAD) for event in new_events], np.int32),
            np.array([event.kind for event in new_events], np.int8),
            np.array([event.ts for event in new_events], np.int64),
        ]
        order = np.lexsort((columns[1], columns[4], columns[0]))
        user, item, query, kind, ts = (column[order] for column in columns)
        log = EventLog(user, item, query, kind, ts, int(ts.min()))
        table = pa.table({"query": pa.array(sorted(texts), pa.string())})
        profiles = tuple(profile_of(user) for user in users) if profile_of else ()
        return cls(log, table, len(popularity) - 1, half_life_days, popularity, profiles)


ENGAGEMENTS = {
    kind.label: int(kind) for kind in EventKind if bool(schema.is_engagement(np.array([int(kind)], np.int8))[0])
}
"""Codes of the event kinds that count, by label."""
