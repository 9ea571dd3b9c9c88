import asyncio

import pytest

from serve.concurrency.cooperative import run_cooperatively
from txrec.recommender.resumable import Resumable


def counting(times: list[int], end: int) -> Resumable[str]:
    for number in range(end):
        times.append(number)
        yield
    return "done"


def test_work_and_whatever_else_is_ready_take_turns() -> None:
    order: list[int] = []

    async def message() -> None:
        for number in range(10, 14):  # a few callbacks, one after the other
            order.append(number)
            await asyncio.sleep(0)

    async def both() -> str:
        work = asyncio.create_task(run_cooperatively(counting(order, 3), lambda: True))
        await asyncio.gather(work, message())
        return await work

    assert asyncio.run(both()) == "done"
    assert sorted(order) == [0, 1, 2, 10, 11, 12, 13]
    assert order.index(13) < order.index(1), "a step began before the message had passed"


def test_an_error_of_a_step_is_the_caller_s() -> None:
    def broken() -> Resumable[None]:
        yield
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        asyncio.run(run_cooperatively(broken(), lambda: False))
