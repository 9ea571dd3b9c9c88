"""Batches out of concurrent requests: whatever waited while the last batch ran goes next, together.

A lone request never waits for company, and under load batches grow by themselves. `ray.serve.batch` does neither: it
waits a fixed time for company, and with a wait of zero it cuts its batches before a running one has finished.

Where several batches may run, they are to be of one size: callers whose answers came together ask again within a
moment, so without care the first of them would go alone and all the others together, again and again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from txrec.errors import UnavailableError

A = TypeVar("A")
B = TypeVar("B")

COMPANY_FRAC, MAX_COMPANY_S = 0.2, 0.01
"""Where other batches run, a small one waits for company: as long as this share of what the last one took, but not
longer than so many seconds."""


class Batcher(Generic[A, B]):
    """Calls an asynchronous function of many with one argument each.

    Args:
        function: takes a list and returns as many results; an exception instance as a result is raised to its caller
            alone, a raised one to all callers of the batch.
        max_size: longest batch.
        max_running: batches that may run at the same time.
        max_waiting: callers that may wait; one more is refused.
        observe: is told the size of every batch.

    Raises:
        UnavailableError: by a call, where `max_waiting` calls wait already.
    """

    def __init__(
        self,
        function: Callable[[list[A]], Awaitable[Sequence[B | BaseException]]],
        max_size: int,
        max_running: int = 1,
        max_waiting: int = 1_000,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self._function = function
        self._max_size = max_size
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._observe = observe
        self._waiting: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._running: dict[asyncio.Task[None], int] = {}  # with the sizes of their batches
        self._timer: asyncio.TimerHandle | None = None
        self._company_s = 0.0

    async def __call__(self, argument: A) -> B:
        """The function's result for this argument."""
        if len(self._waiting) >= self._max_waiting:
            raise UnavailableError("", f"{len(self._waiting)} requests are waiting already; try again in a moment")
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, future))
        self._start()
        return await future

    def _start(self, patient: bool = True) -> None:
        while self._waiting and len(self._running) < self._max_running:
            share = -(-(len(self._waiting) + sum(self._running.values())) // self._max_running)
            if patient and self._running and len(self._waiting) < share:
                self._timer = self._timer or asyncio.get_running_loop().call_later(self._company_s, self._start, False)
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            size = min(share, self._max_size, len(self._waiting))
            task = asyncio.create_task(self._run([self._waiting.popleft() for _ in range(size)]))  # noqa: RUF006 - kept below
            self._running[task] = size
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._start()

    async def _run(self, batch: list[tuple[A, asyncio.Future[B]]]) -> None:
        batch = [(argument, future) for argument, future in batch if not future.done()]  # callers that gave up
        if not batch:
            return
        if self._observe is not None:
            self._observe(len(batch))
        results: Sequence[B | BaseException]
        started = time.monotonic()
        try:
            results = await self._function([argument for argument, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        self._company_s = min(COMPANY_FRAC * (time.monotonic() - started), MAX_COMPANY_S)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
