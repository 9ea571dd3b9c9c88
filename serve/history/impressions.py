"""Impression log, off the request path: answered slates wait in memory and go to the store in batches.

No request waits for it. While the store is unavailable, impressions wait until it is back; where more wait than may,
the oldest ones are dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from serve.observability.logs import bind_request_ids, log
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
        count_dropped: is told the number of impressions that are lost.
    """

    def __init__(
        self,
        store: HistoryStore,
        keep_days: int,
        clock: Callable[[], float],
        max_waiting: int = MAX_WAITING,
        count_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._keep_days = keep_days
        self._clock = clock
        self._waiting: deque[Impression] = deque(maxlen=max_waiting)
        self._flushing: asyncio.Task[None] | None = None
        self._count_dropped = count_dropped
        self._unavailable = False
        self.num_dropped = 0
        """Impressions that are lost."""

    def add(self, impression: Impression) -> None:
        """Takes an impression; it is in the store half a second later."""
        if not self._keep_days:
            return
        if len(self._waiting) == self._waiting.maxlen:
            self._drop(1)
        self._waiting.append(impression)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Writes the waiting impressions; they wait on where the store is unavailable."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        keep_since = int(self._clock() * 1e6) - self._keep_days * DAY_US
        try:
            await asyncio.to_thread(self._store.log_impressions, batch, keep_since)
            self._unavailable = False
        except UnavailableError as error:
            self._take_back(batch, error)

    async def close(self) -> None:
        """Writes the waiting impressions for the last time; those that cannot be written are lost."""
        await self.flush()
        if self._waiting:
            self._drop(len(self._waiting))
            log.warning("%d impressions are lost: the server ended while their store was unavailable", self.num_dropped)
            self._waiting.clear()

    def _take_back(self, batch: list[Impression], error: UnavailableError) -> None:
        """Lets a batch wait again before those that came meanwhile, as far as there is room."""
        if not self._unavailable:
            log.warning("impressions wait until their store is available: %s", error)
        self._unavailable = True
        room = (self._waiting.maxlen or len(batch)) - len(self._waiting)
        lost = batch[: max(len(batch) - room, 0)]
        self._waiting.extendleft(reversed(batch[len(lost) :]))
        if lost:
            self._drop(len(lost))
            bind_request_ids(impression.request_id for impression in lost)
            log.warning("%d impressions are lost, %d so far: %s", len(lost), self.num_dropped, error)

    def _drop(self, number: int) -> None:
        self.num_dropped += number
        self._count_dropped(number)

    async def _flush_soon(self) -> None:
        while self._waiting:  # also those that came while a batch was written
            await asyncio.sleep(FLUSH_S)
            await self.flush()
