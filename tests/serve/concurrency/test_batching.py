"""Batches form by themselves: one runs, the rest waits and goes together."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from serve.concurrency.batching import BATCH_WAIT_FRAC, MAX_BATCH_WAIT_S, Batcher, BatchSizeError
from txrec.errors import UnavailableError


class Doubler:
    """Doubles numbers, one batch at a time, when the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> list[int | BaseException]:
        self.batches.append(numbers)
        await self.gate.wait()
        return [ValueError("negative") if number < 0 else 2 * number for number in numbers]


class Server:
    """One batch after the other, each in a time of its own and some more for every number in it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._busy = asyncio.Lock()

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.sizes.append(len(numbers))
        async with self._busy:
            await asyncio.sleep(0.005 + 0.001 * len(numbers))
        return numbers


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing is ready: no test waits, none is late."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        selector: Any = vars(self)["_selector"]
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            self._now_s += timeout or 0.0
            return select(0)

        selector.select = jump

    def time(self) -> float:
        return self._now_s


def run_in_virtual_time(scenario: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


async def started(count: int, batcher: Batcher[int, int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher(number)) for number in range(count)]
    while not batcher._running:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_what_waits_while_a_batch_runs_goes_together_up_to_the_limit() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        tasks = await started(10, Batcher(doubler, max_size=4))
        doubler.gate.set()
        assert await asyncio.gather(*tasks) == [2 * number for number in range(10)]
        assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]

    asyncio.run(scenario())


def test_a_result_that_is_an_error_reaches_its_own_caller_only() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        doubler.gate.set()
        batcher = Batcher(doubler, max_size=4)
        results = await asyncio.gather(batcher(1), batcher(-1), batcher(2), return_exceptions=True)
        assert results[0] == 2
        assert isinstance(results[1], ValueError)
        assert results[2] == 4

    asyncio.run(scenario())


def test_an_error_of_the_batch_reaches_every_caller_and_the_next_batch_runs() -> None:
    calls = 0

    async def fails_once(numbers: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("down")
        return numbers

    async def scenario() -> None:
        batcher = Batcher(fails_once, max_size=4)
        with pytest.raises(RuntimeError, match="down"):
            await batcher(1)
        assert await batcher(2) == 2

    asyncio.run(scenario())


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(doubler, max_size=1, max_waiting=2)
        tasks = await started(3, batcher)
        with pytest.raises(UnavailableError, match="waiting already"):
            await batcher(9)
        doubler.gate.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]

    asyncio.run(scenario())


def test_a_caller_that_gave_up_takes_no_place_in_a_batch() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        tasks = await started(3, Batcher(doubler, max_size=4))
        tasks[1].cancel()
        await asyncio.sleep(0)
        doubler.gate.set()
        assert await asyncio.gather(tasks[0], tasks[2]) == [0, 4]
        assert doubler.batches == [[0], [2]]

    asyncio.run(scenario())


def test_callers_who_ask_again_and_again_share_the_batches_that_may_run() -> None:
    async def asks(batcher: Batcher[int, int]) -> None:
        for number in range(20):
            await batcher(number)
            await asyncio.sleep(0.0001)  # a client's own time

    async def scenario() -> None:
        server = Server()
        batcher = Batcher(server, max_size=16, max_running=2)
        await asyncio.gather(*(asks(batcher) for _ in range(16)))
        halves = sum(size for size in server.sizes if 5 <= size <= 11)
        assert halves > 0.9 * sum(server.sizes), server.sizes

    run_in_virtual_time(scenario())


def test_where_nothing_runs_nobody_waits_for_company() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher = Batcher(doubler, max_size=4, max_running=2)
        tasks = await started(1, batcher)
        assert doubler.batches == [[0]]
        tasks.append(asyncio.create_task(batcher(1)))  # as many as run
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert doubler.batches == [[0], [1]]
        doubler.gate.set()
        assert await asyncio.gather(*tasks) == [0, 2]

    run_in_virtual_time(scenario())


async def beside_three(doubler: Doubler, count: int) -> tuple[Batcher[int, int], list[asyncio.Task[int]]]:
    """A batcher with a batch of three that runs until the gate is opened, and what is left of `count` waiting."""
    batcher = Batcher(doubler, max_size=3, max_running=2)
    tasks = await started(count, batcher)
    await asyncio.sleep(MAX_BATCH_WAIT_S / BATCH_WAIT_FRAC)  # what the first two take
    before, doubler.gate = doubler.gate, asyncio.Event()
    before.set()
    await asyncio.gather(*tasks[:2])
    assert doubler.batches == [[0], [1], [2, 3, 4]]
    return batcher, tasks


def test_a_request_beside_a_larger_batch_goes_with_whoever_comes_in_a_moment() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher, tasks = await beside_three(doubler, 6)
        tasks += [asyncio.create_task(batcher(number)) for number in (6, 7)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert doubler.batches[3:] == [[5, 6, 7]]
        doubler.gate.set()
        await asyncio.gather(*tasks)

    run_in_virtual_time(scenario())


def test_a_request_beside_a_larger_batch_goes_alone_if_nobody_comes() -> None:
    async def scenario() -> None:
        doubler = Doubler()
        batcher, tasks = await beside_three(doubler, 6)
        await asyncio.sleep(10 * MAX_BATCH_WAIT_S)
        assert doubler.batches[3:] == [[5]]
        doubler.gate.set()
        await asyncio.gather(*tasks)
        doubler.gate = asyncio.Event()
        tasks = await started(6, batcher)  # and the next one does again
        before, doubler.gate = doubler.gate, asyncio.Event()
        before.set()
        await asyncio.sleep(10 * MAX_BATCH_WAIT_S)
        assert doubler.batches[4:] == [[0], [1], [2, 3, 4], [5]]
        doubler.gate.set()
        await asyncio.gather(*tasks)

    run_in_virtual_time(scenario())


async def answers_nothing(numbers: list[int]) -> list[int]:
    return []


async def is_cancelled(numbers: list[int]) -> list[int]:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("function", "error"), [(answers_nothing, BatchSizeError), (is_cancelled, UnavailableError)])
def test_no_caller_hangs_where_the_function_gives_no_results(function: Any, error: type[Exception]) -> None:
    async def scenario() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(function, max_size=4)
        calls = asyncio.gather(*(batcher(number) for number in range(3)), return_exceptions=True)
        return await asyncio.wait_for(calls, timeout=5)

    outcomes = asyncio.run(scenario())
    assert [type(outcome) for outcome in outcomes] == [error] * 3


def test_no_caller_hangs_where_the_observer_fails() -> None:
    def observe(size: int) -> None:
        raise LookupError("metrics")

    async def scenario() -> None:
        doubler = Doubler()
        doubler.gate.set()
        with pytest.raises(LookupError):
            await asyncio.wait_for(Batcher(doubler, max_size=4, observe=observe)(1), timeout=5)

    asyncio.run(scenario())
