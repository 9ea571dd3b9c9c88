"""Ways of doing the same work that take turns on the same cores: each is stopped while another one runs.

A machine whose speed wanders from minute to minute is then equally fast for all of them, and what they did in one round
is a pair.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.stats import bootstrap

from txrec.progress import Progress

WARM_S = 1.0
"""Left out at the beginning of a turn: caches and clocks are still somebody else's."""
REPORT_S = 0.05
"""Least time between two reports."""
_END_S = 60
_SPAWN = get_context("spawn")


class Runner:
    """Work in a process of its own, with whatever processes it starts; a context in which it waits for its turns."""

    def __init__(self, work: Callable[[Progress], object]) -> None:
        """Takes what is to be done, which must be picklable, as must be all that it holds."""
        self._reports, there = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_report, args=(work, there))

    def __enter__(self) -> "Runner":
        """Starts the work and stops it after its first step.

        Raises:
            EOFError: the work ended before.
        """
        self._process.start()
        self._root = psutil.Process(self._process.pid)
        self._reports.recv()
        signal_all(self.processes(), psutil.Process.suspend)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, in good order if that is soon enough."""
        started = self.processes()
        signal_all(started, psutil.Process.resume)
        self._process.terminate()
        self._process.join(_END_S)
        signal_all(started, psutil.Process.kill)

    def processes(self) -> list[psutil.Process]:
        """Its process first, then all that descend from it."""
        return [self._root, *self._root.children(recursive=True)]

    def reports(self) -> list[tuple[float, int, int]]:
        """(time, step, steps in all) of what it reported since it was last asked."""
        reports = []
        while self._reports.poll():  # whole messages: they are far smaller than what a pipe takes at once
            reports.append(self._reports.recv())
        return reports


def _report(work: Callable[[Progress], object], there: Connection) -> None:
    last = 0.0

    def progress(phase: str, step: int, total: int | None, **_: float) -> None:
        nonlocal last
        now = time.monotonic()
        if phase == "training" and now - last >= REPORT_S:  # a full pipe would hold the work up
            last = now
            there.send((now, step, total))

    work(progress)


def signal_all(processes: Iterable[psutil.Process], signal: Callable[[psutil.Process], None]) -> None:
    """`psutil.Process.suspend`, `.resume` or `.kill` for all of them that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            signal(process)


@dataclass(frozen=True)
class Way:
    """One way of doing the work."""

    runner: Runner
    """Does it, and reports how far it is."""
    amount: Callable[[int, int], int]
    """Work done after (step, steps in all)."""


def race(ways: Mapping[str, Way], rounds: int, turn_s: float) -> dict[str, NDArray[np.float64]]:
    """(rounds,) work done per second by each of the ways; every other round goes through them backwards.

    NaN is a turn without two reports, where somebody else held the work up.

    Args:
        ways: by name; their runners have been entered and wait.
        rounds: turns of each.
        turn_s: how long a turn takes, `WARM_S` included.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for place in range(rounds):
        for name in list(ways)[:: -1 if place % 2 else 1]:
            way = ways[name]
            way.runner.reports()
            signal_all(way.runner.processes(), psutil.Process.resume)
            counted_from = time.monotonic() + WARM_S
            time.sleep(turn_s)
            signal_all(way.runner.processes(), psutil.Process.suspend)
            seen = [(when, way.amount(step, of)) for when, step, of in way.runner.reports() if when >= counted_from]
            rates[name].append(_rate(seen))
    return {name: np.array(amounts) for name, amounts in rates.items()}


def _rate(seen: list[tuple[float, int]]) -> float:
    """Amount per second from the first to the last of (time, amount); NaN where there are not two."""
    if len(seen) < 2:
        return float("nan")
    (started, before), (ended, after) = seen[0], seen[-1]
    return (after - before) / (ended - started)


def ratio(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of the pairs' ratios with its 95 % bootstrap interval (percentiles); pairs with NaN are left out."""
    pairs = (first / second)[~np.isnan(first / second)]
    interval = bootstrap((pairs,), np.median, method="percentile", rng=0).confidence_interval
    return float(np.median(pairs)), float(interval.low), float(interval.high)
