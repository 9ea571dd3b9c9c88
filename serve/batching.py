"""Batches out of concurrent requests: whatever waited while the last batch ran goes next, together.

A lone request never waits for company, and under load batches grow by themselves. `ray.serve.batch` does neither: it
waits a fixed time for company, and with a wait of zero it cuts its batches before a running one has finished.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from txrec.errors import UnavailableError

A = TypeVar("A")
B = TypeVar("B")


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
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, argument: A) -> B:
        """The function's result for this argument."""
        if len(self._waiting) >= self._max_waiting:
            raise UnavailableError("", f"{len(self._waiting)} requests are waiting already; try again in a moment")
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, future))
        self._start()
        return await future

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            size = min(self._max_size, len(self._waiting))
            task = asyncio.create_task(self._run([self._waiting.popleft() for _ in range(size)]))  # noqa: RUF006 - kept below
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, batch: list[tuple[A, asyncio.Future[B]]]) -> None:
        batch = [(argument, future) for argument, future in batch if not future.done()]  # callers that gave up
        if not batch:
            return
        if self._observe is not None:
            self._observe(len(batch))
        results: Sequence[B | BaseException]
        try:
            results = await self._function([argument for argument, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
