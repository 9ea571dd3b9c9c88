"""A SQLite file shared by the processes of one machine: how it is opened, read and written.

A write-ahead log, so that readers never wait for writers; a commit is on the disk when it returns; whatever SQLite
reports becomes an `UnavailableError` that names the file.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from txrec.errors import UnavailableError

_BUSY_S = 5.0


class SqliteFile:
    """One connection, usable from any thread.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials.
        tables: statements that make what is not there yet.
    """

    def __init__(self, path: Path | None, tables: str) -> None:
        self._name = str(path or "memory")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with self._available():
            self._db = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # the log is on the disk when a commit returns
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(tables)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection for a statement that changes nothing."""
        with self._available(), self._lock:
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection inside a transaction: all of it is durable at the end of the block, or none."""
        with self._available(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError("", f"the event store {self._name} cannot be used now: {error}") from error
