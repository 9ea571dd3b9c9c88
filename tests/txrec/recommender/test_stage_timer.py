"""Stage timer: consecutive stages in milliseconds, with a clock of the test's own."""

import pytest

from txrec.recommender.stage_timer import StageTimer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the next readings of the clock return."""
    readings: list[float] = []
    monkeypatch.setattr("txrec.recommender.stage_timer.time.perf_counter", lambda: readings.pop(0))
    return readings


def test_a_stage_lasts_from_the_end_of_the_one_before_to_its_own(clock: list[float]) -> None:
    clock += [1.0, 1.25, 3.25]
    timer = StageTimer()
    timer.end("encode")
    timer.end("search")
    assert timer.timings_ms == {"encode": 250.0, "search": 2_000.0}


def test_earlier_timings_stay_and_are_not_changed(clock: list[float]) -> None:
    clock += [1.0, 1.5]
    earlier = {"encode": 1.0}
    assert StageTimer().joined("decorate", earlier) == {"encode": 1.0, "decorate": 500.0}
    assert earlier == {"encode": 1.0}
