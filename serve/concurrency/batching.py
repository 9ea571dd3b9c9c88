"""Dynamic batching of concurrent calls: whatever waited while the last batch ran goes next, together.

A lone request is never delayed to fill a batch, and under load batches grow by themselves. `ray.serve.batch` does
neither: it waits a fixed time, and with a wait of zero it cuts its batches before a running one has finished.

Where several batches may run, they are to be of one size: callers whose answers came together call again within a
moment, so without care the first of them would go alone and all the others together, again and again. The states:

    idle       nothing runs: a call starts a batch at once
    running    a batch of at least an even share of the waiting and running calls starts at once; a smaller one
               waits up to `BATCH_WAIT_FRAC` of the last batch's time for more calls (`_timer`)
    full       `max_running` batches run: calls wait; the end of a batch starts the next
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from txrec.errors import UnavailableError

A = TypeVar("A")
B = TypeVar("B")

BATCH_WAIT_FRAC, MAX_BATCH_WAIT_S = 0.2, 0.01
"""While other batches run, a small one waits for more calls: this share of the last batch's time, but at most
`MAX_BATCH_WAIT_S` seconds."""


class BatchSizeError(RuntimeError):
    """A batch function returned another number of results than it got arguments: a bug of that function."""


class Batcher(Generic[A, B]):
    """Calls an asynchronous function of many with one argument each.

    Args:
        function: takes a list and returns as many results; an exception instance as a result is raised to its caller
            alone, a raised one to all callers of the batch, and so is a wrong number of results.
        max_size: longest batch.
        max_running: batches that may run at the same time.
        max_waiting: callers that may wait; one more is refused.
        observe: called with the size of every batch.

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
        self._batch_wait_s = 0.0

    async def __call__(self, argument: A) -> B:
        """The function's result for this argument."""
        if len(self._waiting) >= self._max_waiting:
            raise UnavailableError("", f"{len(self._waiting)} requests are waiting already; try again in a moment")
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, future))
        self._start()
        return await future

    def _start(self, may_wait: bool = True) -> None:
        while self._waiting and len(self._running) < self._max_running:
            share = -(-(len(self._waiting) + sum(self._running.values())) // self._max_running)
            if may_wait and self._running and len(self._waiting) < share:
                self._timer = self._timer or asyncio.get_running_loop().call_later(
                    self._batch_wait_s, self._start, False
                )
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
        batch = [(argument, future) for argument, future in batch if not future.done()]  # without cancelled calls
        if not batch:
            return
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            if self._observe is not None:
                self._observe(len(batch))
            self._resolve(batch, await self._function([argument for argument, _ in batch]))
        except Exception as error:
            _fail(batch, error)
        finally:
            _fail(batch, UnavailableError("", "the call was cancelled; try again in a moment"))
            self._batch_wait_s = min(BATCH_WAIT_FRAC * (clock() - started), MAX_BATCH_WAIT_S)

    def _resolve(self, batch: list[tuple[A, asyncio.Future[B]]], results: Sequence[B | BaseException]) -> None:
        if len(results) != len(batch):
            raise BatchSizeError(f"a batch of {len(batch)} calls got {len(results)} results")
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


def _fail(batch: list[tuple[A, asyncio.Future[B]]], error: Exception) -> None:
    """Raises an error to every caller that has no result yet."""
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
