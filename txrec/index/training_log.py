"""Event log of the count-based sources: flat arrays, cut off before the events that are to be predicted."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec import schema
from txrec.data.prepared import PreparedData
from txrec.schema import PAD, Split

FAST_HALF_LIFE_FACTOR = 0.25
"""Half-life of the fast-decaying counts as a share of the configured one."""
NUM_TIME_DECAYS = 3
"""Time decays of every count, in this order: the configured half-life, the fast one, none."""


@dataclass(frozen=True, eq=False)
class EventLog:
    """Item events (no bare searches, no impressions), users one after the other, each oldest first."""

    user_idx: NDArray[np.int32]  # (E,) row of the user
    item_idx: NDArray[np.int32]  # (E,) dense
    query_idx: NDArray[np.int32]  # (E,) dense, PAD = none
    kind: NDArray[np.int8]  # (E,) EventKind
    ts: NDArray[np.int64]  # (E,) microseconds, 0 = unknown
    end_us: int
    """Time just after the last event, microseconds; ages are counted from here."""
    row: NDArray[np.int64] | None = None
    """(E,) place of every event among those of the data set; None for live events."""

    def __len__(self) -> int:
        return len(self.item_idx)

    @classmethod
    def before(cls, data: PreparedData, split: Split) -> "EventLog":
        """The events before a split begins."""
        return cls.select(data, data.sequences.split < split)

    @classmethod
    def select(cls, data: PreparedData, keep: NDArray[np.bool_]) -> "EventLog":
        """The item events among those marked in `keep` (E,)."""
        sequences = data.sequences
        keep = keep & (sequences.item_idx != schema.PAD) & schema.is_engagement(sequences.event)
        user = np.repeat(np.arange(len(sequences), dtype=np.int32), np.diff(sequences.offsets))
        ts = sequences.ts[keep]
        return cls(
            user[keep],
            sequences.item_idx[keep],
            sequences.query_idx[keep],
            sequences.event[keep],
            ts,
            int(ts.max()) if len(ts) else 0,
            np.flatnonzero(keep),
        )

    def weights(self, half_life_days: float) -> NDArray[np.float32]:
        """(E,) weight of every event, 1 at the end of the log and halving every `half_life_days`; 1 without times."""
        age_days = np.where(self.ts > 0, self.end_us - self.ts, 0) / schema.DAY_US
        return np.exp2(-age_days / half_life_days).astype(np.float32)

    def first_ts(self, num_items: int) -> NDArray[np.int64]:
        """(N + 1,) each item's first event, microseconds, 0 = none or unknown."""
        first = np.full(num_items + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, self.item_idx, self.ts)
        return np.where(np.bincount(self.item_idx, minlength=num_items + 1) > 0, first, 0)


def engaged(data: PreparedData, split: Split) -> NDArray[np.bool_]:
    """Events of a split in which a user did something with a product, and not only saw it."""
    events = data.sequences
    return np.asarray((events.item_idx != PAD) & schema.is_engagement(events.event) & (events.split == int(split)))


class QueryClickPairs(NamedTuple):
    """Queries and the items that users engaged with after them, in dense indices."""

    query_idx: NDArray[np.int32]
    item_idx: NDArray[np.int32]


def clicks(data: PreparedData, split: Split) -> QueryClickPairs:
    """Queries and items of a split's events in which a user engaged with a product that a search had led to."""
    events = data.sequences
    after_search = engaged(data, split) & (events.query_idx != PAD)
    return QueryClickPairs(events.query_idx[after_search], events.item_idx[after_search])
