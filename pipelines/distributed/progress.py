"""Progress across processes: Ray workers report into an actor, the driver pumps it into a `Progress`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from txrec.progress import Progress, silent

_POLL_S = 0.3


@ray.remote(num_cpus=0)
class _Board:
    """Latest report of a job; unread ones are overwritten, which is enough for a display."""

    def __init__(self) -> None:
        self._latest: tuple[str, int, int | None, dict[str, float]] | None = None

    def put(self, phase: str, step: int, total: int | None, figures: dict[str, float]) -> None:
        self._latest = (phase, step, total, figures)

    def take(self) -> tuple[str, int, int | None, dict[str, float]] | None:
        latest, self._latest = self._latest, None
        return latest


class RemoteProgress:
    """A `Progress` that can be pickled into a Ray worker."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def __call__(self, phase: str, step: int, total: int | None, **figures: float) -> None:
        """Sends the report without waiting for it to arrive."""
        self._board.put.remote(phase, step, total, figures)


@contextmanager
def channel(progress: Progress) -> Iterator[Progress]:
    """Progress channel: reports to the yielded object anywhere in the cluster reach `progress` in this process."""
    if progress is silent:  # an actor for nobody would be a process more
        yield silent
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = _Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # lives as long as this
    done = threading.Event()

    def pump() -> None:
        while not done.wait(_POLL_S):
            _forward(board, progress)

    thread = threading.Thread(target=pump, name="progress", daemon=True)
    thread.start()
    try:
        yield RemoteProgress(board)
    finally:
        done.set()
        thread.join()
        _forward(board, progress)
        ray.kill(board)


def _forward(board: Any, progress: Progress) -> None:
    latest = ray.get(board.take.remote())
    if latest is not None:
        phase, step, total, figures = latest
        progress(phase, step, total, **figures)
