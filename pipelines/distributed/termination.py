"""Termination by SIGTERM, which container runtimes and service managers send: an orderly end, exit status 143."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_STATUS = 128 + signal.SIGTERM
"""Exit status of a process that SIGTERM ended, by the convention of shells."""


_received = threading.Event()


def install() -> None:
    """Makes the first SIGTERM raise `KeyboardInterrupt` in the main thread, so that everything ends as by Ctrl-C.

    Ray passes this exception on from its waits; of `SystemExit` it loses the status.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def is_received() -> bool:
    """True after SIGTERM."""
    return _received.is_set()


def receive() -> None:
    """Notes that SIGTERM has arrived."""
    _received.set()


@contextmanager
def handler_kept() -> Iterator[None]:
    """Block in which Ray connects and sets handlers of SIGTERM of its own, which end the process with other statuses.

    A SIGTERM inside the block has Ray end its processes and raise `SystemExit`.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        receive()
        raise KeyboardInterrupt from None
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if not _received.is_set():  # further ones must not interrupt the end
        receive()
        raise KeyboardInterrupt
