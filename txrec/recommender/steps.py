"""Work that can be interrupted: a generator that yields between its steps and returns the result."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]


def complete(steps: Steps[T]) -> T:
    """Does all steps in one go."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
