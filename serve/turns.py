"""Turns of one event loop: a replica computes in it, and calls and answers of other batches pass through it.

A batch is worked on for ten milliseconds or more. Without a pause an answer that arrives meanwhile, only to be passed
on, waits for the end of it, and so does everybody behind that answer. A thread for the work does not help: it holds
the interpreter lock for most of the time.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from txrec.recommender.resumable import Resumable

T = TypeVar("T")

TURNS = 4
"""Turns of the loop between two steps: an answer takes several callbacks from its socket to the next one."""


async def in_turns(steps: Resumable[T], awaited: Callable[[], bool]) -> T:
    """Does work step by step and, while something is awaited, lets what is ready go first before each step."""
    while True:
        for _ in range(TURNS if awaited() else 0):
            await asyncio.sleep(0)
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
