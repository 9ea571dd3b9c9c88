"""Progress callback of long-running work. The worker calls it, the caller displays the progress."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then by anything that takes longer than a second."""

    def __call__(self, phase: str, step: int, total: int | None, **figures: float) -> None:
        """Reports that `step` of `total` steps of a phase are done.

        Args:
            phase: name of the work, e.g. `training`, `reading events`; a word or two.
            step: steps done so far.
            total: steps in all; None where it is not known.
            figures: further values to display, e.g. loss=2.31, tokens_per_s=48_000.
        """


def silent(phase: str, step: int, total: int | None, **figures: float) -> None:
    """A `Progress` that shows nothing."""
