"""Terminal display of running stages: one line per stage, a bar, figures and the remaining time of the current one."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule

from txrec.progress import Progress as ProgressCallback

_PLAIN_EVERY_S = 10.0
_FORECAST_AFTER_S = 3.0
"""Seconds that a phase runs before its whole time is estimated."""
_WORTH_A_FORECAST_S = 15.0
"""Shorter phases are not forecast."""
_PLAIN_WIDTH = 120  # of output that goes to a file or pipe


class Display:
    """Draws live bars on a terminal and prints plain lines, now and then, anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
        self._below: RenderableType = ""

    def title(self, text: str) -> None:
        """A rule with a title."""
        self.console.print(Rule(f"[bold]{text}", align="left"))

    def begins(self, name: str, title: str, forecast_s: float | None = None) -> None:
        """Prints the title of a stage and the seconds that it is likely to take, None = not known."""
        likely = "" if forecast_s is None else f", [dim]about {_rounded(forecast_s)}"
        self.console.print(f"[cyan]•[/] [bold]{name:<9}[/] {title}{likely}")

    def times(self, seconds: Mapping[str, float]) -> None:
        """Says how long each stage took, and, of several, all of them."""
        parts = [f"{name} {_clock(took)}" for name, took in seconds.items()]
        whole = f"; in all {_clock(sum(seconds.values()))}" if len(parts) > 1 else ""
        self.console.print(f"[dim]time: {', '.join(parts)}{whole}", soft_wrap=True)

    def reused(self, name: str, headline: str) -> None:
        """Says that a stage's earlier result is still valid."""
        self.console.print(f"[green]✓[/] [bold]{name:<9}[/] [dim]unchanged, reused:[/] {headline}")

    def done(self, name: str, headline: str, seconds: float) -> None:
        """Says that a stage has finished and what came out."""
        self.console.print(f"[green]✓[/] [bold]{name:<9}[/] {headline} [dim]({_clock(seconds)})")

    def failed(self, name: str) -> None:
        """Says that a stage did not finish; the error itself is printed by the caller."""
        self.console.print(f"[red]✗[/] [bold]{name:<9}[/] did not finish")

    def below(self, shown: RenderableType) -> None:
        """Replaces the table under the bar of the current stage."""
        self._below = shown

    @contextmanager
    def stage(self, name: str) -> Iterator[ProgressCallback]:
        """Yields the `Progress` of one stage."""
        if self.console.is_terminal:
            with self._bar(name) as callback:
                yield callback
        else:
            yield _Lines(self.console, name)

    def _forecast(self, name: str, clock: "_Clock") -> None:
        text = clock.forecast()
        if text:
            self.console.print(f"  {name:<9} {text}", soft_wrap=True)

    @contextmanager
    def _bar(self, name: str) -> Iterator[ProgressCallback]:
        bar = Progress(
            TextColumn("[cyan]•[/] [bold]{task.fields[stage]:<9}[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[step]}"),
            TextColumn("[dim]{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            console=self.console,
        )
        clock = _Clock()
        self._below = ""
        with Live(get_renderable=lambda: Group(bar, self._below), console=self.console, transient=True):
            task = bar.add_task("starting", total=None, stage=name, step="", figures="", left="")

            def update(phase: str, step: int, total: int | None, **figures: float) -> None:
                left = clock.left(phase, step, total)
                self._forecast(name, clock)
                bar.update(
                    task,
                    description=phase,
                    completed=step,
                    total=total,
                    step=_count(step, total),
                    figures=_figures(figures),
                    left=left,
                )

            yield update


class _Lines:
    """Progress without a terminal: a line when a phase begins and every ten seconds after."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._phase, self._printed = "", 0.0
        self._clock = _Clock()

    def __call__(self, phase: str, step: int, total: int | None, **figures: float) -> None:
        left = self._clock.left(phase, step, total)
        if text := self._clock.forecast():
            self._console.print(f"  {self._name:<9} {text}", soft_wrap=True)
        now = time.monotonic()
        if phase == self._phase and now - self._printed < _PLAIN_EVERY_S:
            return
        self._phase, self._printed = phase, now
        parts = [_count(step, total), _figures(figures), left]
        self._console.print(f"  {self._name:<9} {phase} " + "  ".join(part for part in parts if part), soft_wrap=True)


class _Clock:
    """Time left of a phase and its whole time, from its own speed so far."""

    def __init__(self) -> None:
        self._phase, self._began, self._first = "", 0.0, 0
        self._whole: float | None = None  # seconds of the phase, once they can be estimated
        self._printed_phases: set[str] = set()

    def left(self, phase: str, step: int, total: int | None) -> str:
        now = time.monotonic()
        if phase != self._phase or step < self._first:
            self._phase, self._began, self._first, self._whole = phase, now, step, None
        done, elapsed = step - self._first, now - self._began
        if not total or done <= 0 or step > total:
            return ""
        left = elapsed / done * (total - step)
        if elapsed >= _FORECAST_AFTER_S:
            self._whole = elapsed + left
        return f"{_clock(left)} left"

    def forecast(self) -> str:
        """The whole time of the phase under way, once for each phase that is worth it; otherwise nothing."""
        if self._whole is None or self._phase in self._printed_phases:
            return ""
        self._printed_phases.add(self._phase)
        if self._whole < _WORTH_A_FORECAST_S:
            return ""
        return f"{self._phase}: about {_clock(self._whole)} in all, at most"


def _count(step: int, total: int | None) -> str:
    if total is None:
        return f"{step:,}" if step else ""
    return f"{step:,}/{total:,}"


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{seconds:.1f} s"


def _rounded(seconds: float) -> str:
    """A forecast in words, no finer than it can be: tens of seconds, minutes, hours."""
    if seconds < 55:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60) if seconds >= 180 else round(seconds / 30) / 2
    return f"{minutes:g} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
