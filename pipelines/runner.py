"""Stage runner of every command: which stages are valid, run the others in order, print their summaries."""

import time
from collections.abc import Callable
from typing import Any

from pipelines import stages
from pipelines.display import Display
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
    for stage in stages.STAGES.values():
        if stage.name == last:
            run_stage(config, stage, display, again, **options)
            return
        run_stage(config, stage, display)


def run_stage(config: Config, stage: stages.Stage, display: Display, again: bool = False, **options: Any) -> None:
    """Runs one stage, or says that its earlier result still holds, and prints what it has to say."""
    record = None if again else stages.finished(config, stage)
    if record is not None:
        display.reused(stage.name, record.headline)
        return
    show(stage.name, display, lambda progress: stages.execute(config, stage, progress, **options)[0])


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
