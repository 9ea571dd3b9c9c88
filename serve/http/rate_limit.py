"""Rate limit: a token bucket per caller.

A caller is a key, or, where no key is needed or the key is unknown, a network address. Every ingress replica counts for
itself.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CALLERS = 10_000
"""Callers that are kept in mind; beyond, the one that has been silent longest is forgotten."""


class RateLimit:
    """Buckets that hold one second's worth of requests, at least one.

    Args:
        per_s: requests per second; 0 = no limit.
        clock: seconds, monotonic.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._capacity = max(1.0, per_s)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller = (tokens, when)

    def wait_s(self, caller: str) -> int:
        """0 = go ahead; otherwise whole seconds after which the caller may ask again."""
        if not self._per_s:
            return 0
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - then) * self._per_s)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1.0 - tokens) / self._per_s)
