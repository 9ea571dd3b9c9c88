"""Waiting for a condition of another process, however long a loaded machine takes for it."""

import time
from collections.abc import Callable


def wait_until(what: str, holds: Callable[[], object], timeout_s: float = 120.0, every_s: float = 0.05) -> None:
    """Returns once a condition holds; fails with its name."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(every_s)
