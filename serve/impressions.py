"""Impression log, off the request path: answered slates wait in memory and go to the store in batches.

No request waits for it: while the store is unavailable, or slower than slates come, the oldest impressions are dropped
and counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from serve.logs import bind_request_ids, log
from txrec.errors import UnavailableError
from txrec.online.history import HistoryStore, Impression
from txrec.schema import DAY_US

FLUSH_S = 0.5
MAX_WAITING = 10_000


class Impressions:
    """Impression log of one process.

    Args:
        store: where impressions are kept.
        keep_days: retention, days; 0 = nothing is logged.
        clock: seconds since 1970 UTC.
        max_waiting: impressions that may wait in memory.
    """

    def __init__(
        self, store: HistoryStore, keep_days: int, clock: Callable[[], float], max_waiting: int = MAX_WAITING
    ) -> None:
        self._store = store
        self._keep_days = keep_days
        self._clock = clock
        self._waiting: deque[Impression] = deque(maxlen=max_waiting)
        self._flushing: asyncio.Task[None] | None = None
        self.num_dropped = 0

    def add(self, impression: Impression) -> None:
        """Takes an impression; it is in the store half a second later."""
        if not self._keep_days:
            return
        self.num_dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(impression)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Writes the waiting impressions."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        keep_since = int(self._clock() * 1e6) - self._keep_days * DAY_US
        try:
            await asyncio.to_thread(self._store.log_impressions, batch, keep_since)
        except UnavailableError as error:
            self.num_dropped += len(batch)
            bind_request_ids(impression.request_id for impression in batch)
            log.warning("%d impressions are lost, %d so far: %s", len(batch), self.num_dropped, error)

    async def _flush_soon(self) -> None:
        while self._waiting:  # also those that came while a batch was written
            await asyncio.sleep(FLUSH_S)
            await self.flush()
