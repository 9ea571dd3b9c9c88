"""What users were shown, logged off the request path: a slate waits in memory, and a batch goes to the store at a time.

An impression is worth less than an answer: while the store is away, or slower than the slates come, the oldest ones are
dropped and counted, and nobody waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from serve.logs import concern, log
from txrec.errors import UnavailableError
from txrec.online.history import HistoryStore, Impression
from txrec.schema import DAY_US

FLUSH_S = 0.5
MAX_WAITING = 10_000


class Impressions:
    """The log of one process.

    Args:
        store: where they go.
        keep_days: they are dropped when they are older, 0 = nothing is logged.
        clock: seconds since 1970 UTC.
        max_waiting: longest queue in memory.
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
        """Writes what waits."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        keep_since = int(self._clock() * 1e6) - self._keep_days * DAY_US
        try:
            await asyncio.to_thread(self._store.show, batch, keep_since)
        except UnavailableError as error:
            self.num_dropped += len(batch)
            concern(impression.request_id for impression in batch)
            log.warning("%d impressions are lost, %d so far: %s", len(batch), self.num_dropped, error)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_S)
        await self.flush()
