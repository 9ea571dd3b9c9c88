"""What users did since the model was trained: stored when it is acknowledged, seen by the next request.

`HistoryStore` is the contract; `SqliteHistory` keeps it for the replicas of one machine in one file: a write-ahead log,
one fsync a batch, readers that never wait for writers. An event is known by its id: sending it twice changes nothing.
A user who is forgotten stays forgotten: what a bundle still holds about him is not used any more.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from txrec import schema
from txrec.errors import UnavailableError
from txrec.slate import Event

MAX_EVENTS = 500
"""Events of a user that one request reads, latest first to go in."""
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    ts INTEGER NOT NULL,
    event TEXT NOT NULL,
    item_id TEXT,
    query TEXT,
    session_id TEXT,
    request_id TEXT,
    value REAL
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id, ts, seq);
CREATE TABLE IF NOT EXISTS forgotten (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_INSERT = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RECENT = """
SELECT event, item_id, query, ts, value FROM events WHERE user_id = ? ORDER BY ts DESC, seq DESC LIMIT ?
"""
_EXPORT = """
SELECT user_id, ts, event, item_id, query, session_id, request_id, value FROM events WHERE ts >= ? ORDER BY ts, seq
"""


@dataclass(frozen=True)
class LoggedEvent:
    """An event as a shop reports it.

    Attributes:
        event_id: the same id again is the same event.
        user_id: who.
        event: what; `ts` is set.
        session_id: of the shop.
        request_id: of the slate that the event came from.
    """

    event_id: str
    user_id: str
    event: Event
    session_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class LiveHistory:
    """What a store knows about a user.

    Attributes:
        events: his latest events, oldest first.
        forgotten: he asked to be forgotten; older sources about him must not be used.
    """

    events: tuple[Event, ...] = ()
    forgotten: bool = False


class HistoryStore(Protocol):
    """Keeps events. Every method may raise `UnavailableError`; nothing that `append` acknowledged is ever lost."""

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events durably, all or none, before it returns; how many of each were new."""
        ...

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events; every append that has returned is seen."""
        ...

    def forget(self, user_id: str) -> int:
        """Removes a user's events and marks him as forgotten; the number of removed events."""
        ...

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS, in time order: the next training's log."""
        ...

    def close(self) -> None:
        """Releases files and connections."""
        ...


class SqliteHistory:
    """A `HistoryStore` in one file, for any number of processes of one machine.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials.
    """

    def __init__(self, path: Path | None = None) -> None:
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
            self._db.executescript(_SCHEMA)

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events durably, all or none, before it returns; how many of each were new."""
        counts = []
        with self._transaction() as db:
            for batch in batches:
                before = db.total_changes
                db.executemany(_INSERT, [_row(event) for event in batch])
                counts.append(db.total_changes - before)
        return counts

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events."""
        with self._available(), self._lock:
            rows = self._db.execute(_RECENT, (user_id, limit)).fetchall()
            gone = self._db.execute("SELECT 1 FROM forgotten WHERE user_id = ?", (user_id,)).fetchone()
        return LiveHistory(tuple(Event(*row) for row in reversed(rows)), gone is not None)

    def forget(self, user_id: str) -> int:
        """Removes a user's events and marks him as forgotten."""
        with self._transaction() as db:
            removed = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (user_id,))
        return removed

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS."""
        with self._available(), self._lock:
            rows = self._db.execute(_EXPORT, (since_us,)).fetchall()
        names = schema.EVENTS.names
        return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema.EVENTS)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._available(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError("", f"the event store {self._name} cannot be used now: {error}") from error


def open_history(state: str) -> HistoryStore:
    """The store that a configuration names: a `redis://` URL, a file, or, empty, this process's memory."""
    if state.startswith(("redis://", "rediss://")):
        from txrec.online.redis_history import RedisHistory  # the client is an optional dependency

        return RedisHistory(state)
    return SqliteHistory(Path(state) if state else None)


def _row(logged: LoggedEvent) -> tuple[str | int | float | None, ...]:
    event = logged.event
    return (
        logged.event_id,
        logged.user_id,
        event.ts or 0,
        event.event,
        event.item_id,
        event.query,
        logged.session_id,
        logged.request_id,
        event.value,
    )
