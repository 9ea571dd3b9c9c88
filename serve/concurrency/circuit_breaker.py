"""Circuit breaker: a dependency that failed is not called again before a cooldown has passed."""

import time
from collections.abc import Callable


class CircuitBreaker:
    """State of one dependency; callers ask `is_open` before a call and report a failure with `trip`.

    While it is open, requests do not queue up behind a dependency that does not answer.

    Args:
        cooldown_s: calls are refused for this long after a failure, seconds.
        clock: seconds, from any origin.
    """

    def __init__(self, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._open_until = float("-inf")

    @property
    def is_open(self) -> bool:
        """True while calls are refused."""
        return self._clock() < self._open_until

    def trip(self) -> None:
        """Records a failure: calls are refused from now on for the cooldown."""
        self._open_until = self._clock() + self._cooldown_s
