"""Resumable work: a generator that yields between its steps and returns the result."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Resumable = Generator[None, None, T]
"""Work that may pause after every step; its return value is the result."""


def run_to_completion(work: Resumable[T]) -> T:
    """Result of the work, all steps done without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
