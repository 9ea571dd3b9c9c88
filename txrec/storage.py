"""Atomic writes of files and folders: written next to the target and renamed, so that no reader sees a part."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from txrec.errors import StorageError

PARTIAL = ".partial"
"""Suffix of files that are being written."""


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
        StorageError: the file system refuses, e.g. below a file or below /proc; names the folder and a remedy.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is there" if isinstance(error, FileExistsError) else error.strerror
        raise StorageError(
            f"{folder}: this folder cannot be made ({reason}); name another place, or give this user the right to "
            "write there"
        ) from error


def require_writable(file: Path) -> None:
    """Makes sure, before long work, that a file can be written at its place; folders above are created.

    Raises:
        StorageError: a folder above cannot be made, or refuses files; names it and a remedy.
    """
    make_folder(file.parent)
    probe = file.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"{file}: no file can be written in this folder ({error.strerror}); name another place, or give this user "
            "the right to write there"
        ) from error
    if file.is_dir():
        raise StorageError(f"{file}: a folder is there; name a file")


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Path to write a file's new content to; takes the place of `target` at the end, and is removed on an error.

    The path ends in `PARTIAL`, so that readers of `*.parquet` pass over it. Folders above are created.

    Raises:
        StorageError: a folder above cannot be made.
    """
    make_folder(target.parent)
    fresh = target.with_name(f".{uuid.uuid4().hex}.{target.name}{PARTIAL}")
    try:
        yield fresh
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; its content is on the disk before the file takes its place."""
    with replace_file(target) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Empty folder to fill; takes the place of `target` at the end, and is removed on an error.

    Folders cannot be exchanged in one step everywhere: a process that is killed between the two renames leaves the old
    folder under a name that begins with a dot, and no `target`. It never leaves a partly written one.

    Raises:
        StorageError: a folder above cannot be made.
    """
    make_folder(target.parent)
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
