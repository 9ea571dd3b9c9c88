"""Runners that take turns: one works at a time, rates are those of their own turns, and pairs are compared."""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from txrec.progress import Progress

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import turns


def count(step_s: float, progress: Progress) -> None:
    for step in range(1_000_000):
        progress("training", step, 1_000_000)
        time.sleep(step_s)


def fail(_: Progress) -> None:
    raise SystemExit(3)


@pytest.mark.slow
def test_rates_are_those_of_own_turns_and_nothing_runs_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WARM_S", 0.2)
    highest = 0

    def amount(step: int, of: int) -> int:
        nonlocal highest
        highest = max(highest, step)
        return 10 * step + of - 1_000_000

    with turns.Runner(partial(count, 0.01)) as fast, turns.Runner(partial(count, 0.04)) as slow:
        ways = {"fast": turns.Way(fast, amount), "slow": turns.Way(slow, amount)}
        rates = turns.race(ways, rounds=2, turn_s=0.8)
        assert {p.status() for runner in (fast, slow) for p in runner.processes()} == {psutil.STATUS_STOPPED}
        pids = [p.pid for runner in (fast, slow) for p in runner.processes()]
    assert rates["fast"].shape == rates["slow"].shape == (2,)
    assert 0 < np.median(rates["slow"]) <= 250, "a step takes .04 s at least, however busy the machine is"
    assert np.median(rates["slow"]) < np.median(rates["fast"]) <= 1000
    assert highest < 250, "steps of two turns of .8 s, not of all four"
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.slow
def test_work_that_ends_before_its_first_step_is_an_error() -> None:
    with pytest.raises(EOFError), turns.Runner(fail):
        pass


def test_ratio_is_the_median_of_the_pairs_within_its_interval() -> None:
    alone = np.array([100.0, 50.0, 80.0, 100.0, 60.0, 90.0, 70.0])
    beside = alone * [0.9, 0.9, 0.8, 0.9, 1.0, 0.9, np.nan]
    median, low, high = turns.ratio(beside, alone)
    assert median == pytest.approx(0.9)
    assert 0.8 <= low <= median <= high <= 1.0
