"""Item activity: time-decayed popularity, trend and recency per item, fitted on a log for the ranker features."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.index.array_files import load_arrays, save_arrays
from txrec.index.live_log import LiveLog
from txrec.index.training_log import FAST_HALF_LIFE_FACTOR, EventLog
from txrec.schema import DAY_US

PRIOR_EVENTS = 0.05
"""Pseudo-count: events added to every item's count."""


@dataclass(frozen=True, eq=False)
class Activity:
    """Decayed event counts and first and last event times per item, at the end of a log."""

    slow: NDArray[np.float32]  # (N + 1,) events, decayed by the configured half-life
    fast: NDArray[np.float32]  # (N + 1,) events, decayed by FAST_HALF_LIFE_FACTOR of it
    plain: NDArray[np.float32]  # (N + 1,) events
    last_ts: NDArray[np.int64]  # (N + 1,) microseconds, 0 = never or unknown
    first_ts: NDArray[np.int64]  # (N + 1,) microseconds, 0 = never or unknown
    end_us: int
    """End of the log, microseconds."""

    @classmethod
    def fit(cls, log: EventLog, num_items: int, half_life_days: float) -> "Activity":
        """Counts the item events of a log.

        Args:
            log: the events.
            num_items: N.
            half_life_days: of the slow decay.
        """
        size = num_items + 1
        counts = [
            np.bincount(log.item_idx, weights=log.weights(half_life), minlength=size).astype(np.float32)
            for half_life in (half_life_days, half_life_days * FAST_HALF_LIFE_FACTOR, np.inf)
        ]
        last = np.zeros(size, np.int64)
        np.maximum.at(last, log.item_idx, log.ts)
        return cls(counts[0], counts[1], counts[2], last, log.first_ts(num_items), log.end_us)

    def with_items(self, num_items: int) -> "Activity":
        """The same over a larger catalogue; new items have no events."""
        more = num_items + 1 - len(self.slow)
        if not more:
            return self
        grown: dict[str, Any] = {name: np.pad(array, (0, more)) for name, array in self._arrays().items()}
        return Activity(**grown, end_us=self.end_us)

    def with_live(self, live: LiveLog) -> "Activity":
        """Fitted and live counts together."""
        more = Activity.fit(live.log, live.num_items, live.half_life_days)
        first = np.where(self.first_ts > 0, self.first_ts, more.first_ts)
        last = np.maximum(self.last_ts, more.last_ts)
        counts = (self.slow + more.slow, self.fast + more.fast, self.plain + more.plain)
        return Activity(*counts, last, first, self.end_us)

    def features(self, ids: NDArray[np.int32], now_us: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Columns, each (P,): popularity per time decay, trend, log days since the last and the first event.

        Args:
            ids: (P,) items.
            now_us: (P,) time per item; 0 = end of the log.
        """
        now = np.where(now_us > 0, now_us, self.end_us)
        has_events = self.last_ts[ids] > 0
        since_last = np.where(has_events, np.maximum(now - self.last_ts[ids], 0) / DAY_US, 365.0)
        since_first = np.where(has_events, np.maximum(now - self.first_ts[ids], 0) / DAY_US, 0.0)
        return [*self._popularity[ids].T, np.log1p(since_last), np.log1p(since_first)]

    def warm(self) -> None:
        """Fills the cached logarithms and shares before the first request."""
        for name in ("_popularity", "shares"):
            getattr(self, name)

    def save(self, path: Path) -> None:
        """Writes one safetensors file into the folder."""
        save_arrays(path / "activity.safetensors", {**self._arrays(), "end_us": np.array([self.end_us])})

    @classmethod
    def open(cls, path: Path) -> "Activity":
        """Reads the file of `save`."""
        arrays = load_arrays(path / "activity.safetensors")
        end_us = int(arrays.pop("end_us")[0])
        return cls(**arrays, end_us=end_us)

    @cached_property
    def _popularity(self) -> NDArray[np.float32]:
        """(N + 1, 4) popularity per time decay and its trend, as logarithms."""
        trend = np.log((self.fast + 0.5) / (self.slow + 2.0))
        return np.stack([np.log1p(self.slow), np.log1p(self.fast), np.log1p(self.plain), trend], axis=1)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """(N + 1, NUM_TIME_DECAYS) each item's share of all events per time decay, smoothed, hence never 0."""
        counts = np.stack([self.slow, self.fast, self.plain], axis=1) + np.float32(PRIOR_EVENTS)
        return np.asarray(counts / counts[1:].sum(axis=0), np.float32)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "end_us"}
