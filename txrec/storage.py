"""Atomic writes of files and folders: written next to the target and renamed, so that no reader sees a part."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of files that are being written."""


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Path to write a file's new content to; takes the place of `target` at the end, and is removed on an error.

    The path ends in `PARTIAL`, so that readers of `*.parquet` pass over it. Folders above are created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{uuid.uuid4().hex}.{target.name}{PARTIAL}")
    try:
        yield fresh
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with replace_file(target) as fresh:
        fresh.write_text(text, encoding="utf-8")


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Empty folder to fill; takes the place of `target` at the end, and is removed on an error.

    Folders cannot be exchanged in one step everywhere: a process that is killed between the two renames leaves the old
    folder under a name that begins with a dot, and no `target`. It never leaves a partly written one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (target.with_name(f".{uuid.uuid4().hex}.{target.name}") for _ in range(2))
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
