"""Batches form by themselves: one runs, the rest waits and goes together."""

import asyncio

import pytest

from serve.batching import Batcher
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
