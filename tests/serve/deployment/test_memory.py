"""Freed memory of a replica is kept: what the C library is told, on which platforms."""

import ctypes
import subprocess
import sys

import pytest

from serve.deployment import memory


class CLibrary:
    """Records the calls of `mallopt` and answers as told: 1 = taken."""

    def __init__(self, *answers: int) -> None:
        self.calls: list[tuple[int, int]] = []
        self._answers = list(answers)

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return self._answers[len(self.calls) - 1]


class WithoutMallopt:
    """A C library like musl's."""


def on(monkeypatch: pytest.MonkeyPatch, library: object, platform: str = "linux") -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


def test_large_blocks_come_from_the_heap_and_its_free_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    library = CLibrary(1, 1)
    on(monkeypatch, library)
    assert memory.keep_freed() is True
    m_mmap_threshold, m_trim_threshold = -3, -1  # as malloc.h defines them
    assert library.calls == [(m_mmap_threshold, 32 * 2**20), (m_trim_threshold, 256 * 2**20)]


def test_a_value_that_the_library_refuses_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for answers in ((0, 1), (1, 0)):
        on(monkeypatch, CLibrary(*answers))
        assert memory.keep_freed() is False


def test_other_platforms_and_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    library = CLibrary(1, 1)
    on(monkeypatch, library, platform="darwin")
    assert memory.keep_freed() is False
    assert library.calls == []
    on(monkeypatch, WithoutMallopt())
    assert memory.keep_freed() is False


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_the_c_library_of_this_machine_takes_both_values() -> None:
    command = [sys.executable, "-c", "from serve.deployment import memory; print(memory.keep_freed())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
