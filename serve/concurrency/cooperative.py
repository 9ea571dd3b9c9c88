"""Cooperative scheduling of computations in an event loop that also passes on calls and answers of other batches.

A batch is worked on for ten milliseconds or more. Without a pause an answer that arrives meanwhile, only to be passed
on, waits for the end of it, and so does every caller of that answer. A thread for the work does not help: it holds the
interpreter lock for most of the time.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from txrec.recommender.resumable import Resumable

T = TypeVar("T")

YIELDS_PER_STEP = 4
"""Iterations of the loop between two steps: an answer takes several callbacks from its socket to the next one."""


async def run_cooperatively(steps: Resumable[T], is_waiting: Callable[[], bool]) -> T:
    """Runs a resumable computation; while `is_waiting()`, ready callbacks of the loop run before each step."""
    while True:
        for _ in range(YIELDS_PER_STEP if is_waiting() else 0):
            await asyncio.sleep(0)
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
