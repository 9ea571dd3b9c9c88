"""SQLite file shared by threads and processes: one writer at a time, concurrent readers that never wait for it.

The file has a write-ahead log. Writes go over one connection, reads over a pool of others, so a reader sees the last
commit and waits neither for a transaction nor for the fsync of a commit. Whatever SQLite reports becomes an
`UnavailableError` that names the file.
"""

import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from txrec.errors import UnavailableError
from txrec.storage import make_folder

_BUSY_S = 5.0
_MAX_IDLE_READERS = 8


class SqliteFile:
    """Connections to one SQLite file, usable from any thread.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials: then
            there is one connection, which readers and writers share.
        tables: statements that make the tables that are missing.

    Raises:
        UnavailableError: the file is not a database, or cannot be written.
    """

    def __init__(self, path: Path | None, tables: str) -> None:
        self._path = path
        self._name = str(path or "memory")
        if path is not None:
            make_folder(path.parent)
        self._lock = threading.Lock()
        self._closed = False
        self._readers: deque[sqlite3.Connection] = deque()  # idle; append and pop are atomic
        with self._available():
            self._db = self._connect()
            self._close = weakref.finalize(self, _close, self._db, self._readers)  # also of a file that nobody closed
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # the log is on the disk when a commit returns
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(tables)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for statements that change nothing; it sees every commit that has returned."""
        if self._path is None:
            with self._available(), self._lock:
                yield self._db
            return
        with self._available():
            reader = self._reader()
            try:
                yield reader
            finally:
                if self._closed or len(self._readers) >= _MAX_IDLE_READERS:
                    reader.close()
                else:
                    self._readers.append(reader)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside a transaction: all of it is durable at the end of the block, or none."""
        with self._available(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes all connections; later calls raise `UnavailableError`."""
        self._closed = True
        self._close()

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("it was closed")
        try:
            return self._readers.pop()
        except IndexError:
            reader = self._connect()
            reader.execute("PRAGMA query_only = ON")
            return reader

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError("", f"the event store {self._name} cannot be used now: {error}") from error


def _close(writer: sqlite3.Connection, readers: deque[sqlite3.Connection]) -> None:
    writer.close()
    while readers:
        readers.pop().close()
