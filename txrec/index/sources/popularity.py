"""Popularity source: items by exponentially time-decayed event counts. Always has an answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from txrec.index.array_files import load_arrays, save_arrays
from txrec.index.live_log import LiveLog
from txrec.index.source import CatalogueUpdate, FitContext, Hits, Mask, OpenContext, Scored, Source, SourceQuery
from txrec.index.training_log import EventLog


class Popularity(Source):
    """Time-decayed event counts; items without events follow in catalogue order: a slate can always be filled."""

    fallback_reason = "popular now"

    def __init__(self, counts: NDArray[np.float32]) -> None:
        """Takes (N + 1,) decayed counts, row 0 unused."""
        self.counts = counts
        self._order = (np.argsort(-counts[1:], kind="stable") + 1).astype(np.int32)

    @classmethod
    def fit(cls, log: EventLog, num_items: int, half_life_days: float) -> "Popularity":
        """Counts item events, the last ones most."""
        counts = np.bincount(log.item_idx, weights=log.weights(half_life_days), minlength=num_items + 1)
        return cls(counts.astype(np.float32))

    @classmethod
    def fit_source(cls, context: FitContext) -> "Popularity":
        """The source fitted on a log."""
        half_life = context.popularity_half_life_days or context.config.half_life_days
        return cls.fit(context.log, context.data.meta.num_items, half_life)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "Popularity":  # noqa: ARG003
        """The source that `save` wrote."""
        return cls.open(path)

    def search(
        self,
        queries: SourceQuery,  # noqa: ARG002
        k: int,
        allowed: Sequence[Mask],
    ) -> Hits:
        """The most popular allowed items, in the same order for every request."""
        rows = []
        for mask in allowed:
            order = self._order[:k] if mask is None else self._first_allowed(mask, k)
            rows.append(Scored(order, self.counts[order]))
        return Hits.stack(rows, k)

    def with_items(self, update: CatalogueUpdate) -> "Popularity":
        """The same counts over the updated catalogue; new items have none."""
        return Popularity(np.pad(self.counts, (0, update.num_items + 1 - len(self.counts))))

    def with_live(self, live: LiveLog) -> "Popularity":
        """Fitted and live counts together."""
        return Popularity(self.counts + Popularity.fit(live.log, live.num_items, live.half_life_days).counts)

    def save(self, path: Path) -> None:
        """One small array."""
        save_arrays(path / "popularity.safetensors", {"counts": self.counts})

    @classmethod
    def open(cls, path: Path) -> "Popularity":
        """Reads the file of `save`."""
        return cls(load_arrays(path / "popularity.safetensors")["counts"])

    def _first_allowed(self, mask: NDArray[np.bool_], k: int) -> NDArray[np.int32]:
        head = self._order[: 4 * k]
        allowed_items = head[mask[head]]
        if len(allowed_items) < k and len(head) < len(self._order):
            allowed_items = self._order[mask[self._order]]
        return allowed_items[:k]
