"""Stage runner of every command: which stages are valid, run the others in order, print their summaries."""

import time
from collections.abc import Callable
from typing import Any

from pipelines import stages
from pipelines.command_line.display import Display
from pipelines.command_line.forecast import forecast
from txrec.config import Config
from txrec.progress import Progress


def run_through(config: Config, last: str, display: Display, again: bool = False, **options: Any) -> None:
    """Runs a stage and, before it, every earlier one whose result is missing or outdated.

    Args:
        last: name of the stage to end with.
        again: run the last stage even if its earlier result still holds.
        options: of the last stage's own `run`.
    """
    display.title(f"txrec: {config.name}")
    seconds: dict[str, float] = {}
    for stage in stages.STAGES.values():
        is_last = stage.name == last
        started = time.monotonic()
        if run_stage(config, stage, display, again and is_last, **(options if is_last else {})):
            seconds[stage.name] = time.monotonic() - started
        if is_last:
            break
    if len(seconds) > 1:
        display.times(seconds)


def run_stage(config: Config, stage: stages.Stage, display: Display, again: bool = False, **options: Any) -> bool:
    """Runs one stage and prints its summary, or says that its earlier result still holds; whether it ran."""
    record = None if again else stages.finished(config, stage)
    if record is not None:
        display.reused(stage.name, record.headline)
        return False
    display.begins(stage.name, stage.title, forecast(config, stage.name))
    show(stage.name, display, lambda progress: stages.execute(config, stage, progress, **options)[0])
    return True


def show(name: str, display: Display, job: Callable[[Progress], stages.Summary]) -> None:
    """Runs a job under the display and prints its summary."""
    started = time.monotonic()
    try:
        with display.stage(name) as progress:
            summary = job(progress)
    except BaseException:
        display.failed(name)
        raise
    display.done(name, summary.headline(), time.monotonic() - started)
    display.console.print(summary.render())
