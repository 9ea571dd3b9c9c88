"""Stage timer: durations of the consecutive stages of an answer, in milliseconds."""

import time
from collections.abc import Mapping


class StageTimer:
    """Stopwatch of consecutive stages; each begins where the one before ended.

    Attributes:
        timings_ms: stage = milliseconds, of the stages that have ended.
    """

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, stage: str) -> None:
        """Ends a stage, and begins the next one."""
        now = time.perf_counter()
        self.timings_ms[stage] = 1e3 * (now - self._since)
        self._since = now

    def joined(self, stage: str, earlier: Mapping[str, float]) -> dict[str, float]:
        """Ends a stage; earlier timings and those of this timer as one."""
        self.end(stage)
        return {**earlier, **self.timings_ms}
