"""The display, drawn on a console that writes to a string."""

import io

import pytest
from rich.console import Console

from pipelines.command_line.display import Display
from pipelines.distributed import progress
from txrec.progress import silent


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("pipelines.command_line.display.time.monotonic", lambda: now[0])
    return now


def plain(output: io.StringIO) -> Display:
    return Display(Console(file=output, force_terminal=False, width=100, highlight=False))


def test_without_a_terminal_a_phase_prints_its_first_line_and_then_one_every_ten_seconds(
    output: io.StringIO, clock: list[float]
) -> None:
    with plain(output).stage("train") as progress:
        for step in range(31):
            progress("training", step, 30, loss=1.0 / (step + 1))
            clock[0] += 1.0
    lines = [line for line in output.getvalue().splitlines() if "in all" not in line]
    assert [line.split()[2] for line in lines] == ["0/30", "10/30", "20/30", "30/30"]


def test_the_time_left_follows_the_speed_so_far(output: io.StringIO, clock: list[float]) -> None:
    with plain(output).stage("train") as progress:
        progress("training", 0, 400)
        clock[0] += 20.0
        progress("training", 100, 400)
    assert "1 min 00 s left" in output.getvalue()


def test_on_a_terminal_the_bar_shows_stage_step_loss_and_time_left(output: io.StringIO, clock: list[float]) -> None:
    shown = Display(Console(file=output, force_terminal=True, width=120, highlight=False, _environ={}))
    with shown.stage("train") as progress:
        progress("training", 1, 40, loss=2.5)
        clock[0] += 2.0
        progress("training", 2, 40, loss=2.345)
    text = output.getvalue()
    assert "train" in text
    assert "2/40" in text
    assert "loss 2.345" in text
    assert "left" in text


def test_a_table_stands_below_the_bar_while_a_stage_runs(output: io.StringIO) -> None:
    shown = Display(Console(file=output, force_terminal=True, width=120, highlight=False, _environ={}))
    with shown.stage("tune") as progress:
        progress("trial train.lr=0.002", 1, 8)
        shown.below("a1b2  running  0.3718")
    text = output.getvalue()
    assert text.rindex("trial train.lr=0.002") < text.rindex("a1b2  running  0.3718")


def test_without_a_terminal_no_table_is_repeated(output: io.StringIO, clock: list[float]) -> None:
    shown = plain(output)
    with shown.stage("tune"):
        shown.below("a1b2  running  0.3718")
    assert not output.getvalue()


def test_a_reused_stage_says_so(output: io.StringIO) -> None:
    plain(output).reused("prepare", "12 events")
    assert "unchanged, reused: 12 events" in output.getvalue()


def test_the_whole_time_of_a_phase_is_told_once_after_its_first_steps(output: io.StringIO, clock: list[float]) -> None:
    with plain(output).stage("train") as progress:
        for step in range(0, 100, 2):
            progress("training", step, 100)
            clock[0] += 2.0
    forecasts = [line for line in output.getvalue().splitlines() if "in all" in line]
    assert forecasts == ["  train     training: about 1 min 40 s in all, at most"]


def test_short_phases_are_not_forecast(output: io.StringIO, clock: list[float]) -> None:
    with plain(output).stage("train") as progress:
        for step in range(5):
            progress("training", step, 5)
            clock[0] += 2.0
    assert "in all" not in output.getvalue()


def test_the_times_of_the_stages_are_added_up(output: io.StringIO) -> None:
    plain(output).times({"prepare": 9.0, "pretrain": 75.0})
    assert "prepare 9.0 s, pretrain 1 min 15 s; in all 1 min 24 s" in output.getvalue()


@pytest.mark.parametrize(
    ("likely", "text"), [(3.0, "10 s"), (41.0, "40 s"), (80.0, "1.5 min"), (290.0, "5 min"), (9_000.0, "2.5 h")]
)
def test_a_stage_begins_with_its_likely_time(output: io.StringIO, likely: float, text: str) -> None:
    plain(output).begins("train", "train the recommender", likely)
    assert output.getvalue().rstrip().endswith(f"train the recommender, about {text}")


def test_a_stage_whose_time_is_not_known_states_none(output: io.StringIO) -> None:
    plain(output).begins("publish", "register the candidate")
    assert "about" not in output.getvalue()


def test_progress_that_nobody_looks_at_starts_no_actor_for_it() -> None:
    with progress.channel(silent) as reports:  # without a cluster, an actor could not start
        assert reports is silent
