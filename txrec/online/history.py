"""What users did since the model was trained: stored when it is acknowledged, seen by the next request.

`HistoryStore` is the contract; `SqliteHistory` keeps it for the replicas of one machine in one file, with one fsync a
batch. An event is known by its id: sending it twice changes nothing. Beside what users did stands what they were shown,
the impressions, so that the two can be joined by request. A user who is forgotten stays forgotten: what a bundle still
holds about him is not used any more, and nothing that he is shown is logged.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from txrec import schema
from txrec.online.sqlite import SqliteFile
from txrec.slate import Event

MAX_EVENTS = 500
"""Events of a user that one request reads, latest first to go in."""
_TABLES = """
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
CREATE TABLE IF NOT EXISTS impressions (
    request_id TEXT NOT NULL,
    variant TEXT NOT NULL,
    ts INTEGER NOT NULL,
    user_id TEXT,
    model_version TEXT NOT NULL,
    query TEXT,
    fallback TEXT,
    item_ids TEXT NOT NULL,
    scores TEXT NOT NULL,
    overlap REAL,
    PRIMARY KEY (request_id, variant)
);
CREATE INDEX IF NOT EXISTS impressions_in_time ON impressions (ts);
CREATE INDEX IF NOT EXISTS impressions_of_user ON impressions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS impressions_of_shadow ON impressions (model_version) WHERE variant = 'shadow';
"""
_INSERT = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RECENT = """
SELECT event, item_id, query, ts, value FROM events WHERE user_id = ? ORDER BY ts DESC, seq DESC LIMIT ?
"""
_EXPORT = """
SELECT user_id, ts, event, item_id, query, session_id, request_id, value FROM events WHERE ts >= ? ORDER BY ts, seq
"""

_SHOW = """
INSERT OR IGNORE INTO impressions
SELECT :request_id, :variant, :ts, :user_id, :model_version, :query, :fallback, :item_ids, :scores, :overlap
WHERE :user_id IS NULL OR :user_id NOT IN (SELECT user_id FROM forgotten)
"""
_SHOWN = """
SELECT request_id, variant, ts, user_id, model_version, query, fallback, item_ids, scores, overlap
FROM impressions WHERE ts >= ? ORDER BY ts, request_id, variant
"""
_SHADOW = "SELECT count(*), avg(overlap) FROM impressions WHERE variant = 'shadow' AND model_version = ?"
IMPRESSIONS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),  # joins the events that followed
        pa.field("variant", pa.string(), nullable=False),  # production or canary was shown, shadow was not
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("user_id", pa.string()),  # null for somebody anonymous
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("query", pa.string()),
        pa.field("fallback", pa.string()),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),  # best first
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("overlap", pa.float32()),  # of a shadow slate: its share of items that were really shown
    ]
)


@dataclass(frozen=True)
class Impression:
    """A slate that was answered, or that a shadow model would have answered.

    Attributes:
        request_id: of the slate.
        ts: microseconds since 1970 UTC.
        variant: `production`, `canary` or `shadow`.
        model_version: of the bundle that made it.
        item_ids: raw ids, best first.
        scores: in the same order.
        user_id: None for somebody anonymous.
        query: search text.
        fallback: why it is simpler than asked for.
        overlap: of a shadow slate: share of its items that are in the slate that was answered, 0 to 1.
    """

    request_id: str
    ts: int
    variant: str
    model_version: str
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    user_id: str | None = None
    query: str | None = None
    fallback: str | None = None
    overlap: float | None = None


@dataclass(frozen=True)
class Overlap:
    """How much a shadow model agrees with what was shown: requests compared and mean share of common items."""

    num_requests: int = 0
    mean: float | None = None


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
        """Removes a user's events and impressions and marks him as forgotten; the number of removed events."""
        ...

    def show(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        """Stores impressions, those of forgotten users excepted, and drops those from before a time."""
        ...

    def shown(self, since_us: int = 0) -> pa.Table:
        """All impressions from a time on as IMPRESSIONS, in time order."""
        ...

    def overlap(self, model_version: str) -> Overlap:
        """How much a version's shadow slates agree with what was shown."""
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
        self._file = SqliteFile(path, _TABLES)

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events durably, all or none, before it returns; how many of each were new."""
        counts = []
        with self._file.writing() as db:
            for batch in batches:
                before = db.total_changes
                db.executemany(_INSERT, [_row(event) for event in batch])
                counts.append(db.total_changes - before)
        return counts

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events."""
        with self._file.reading() as db:
            rows = db.execute(_RECENT, (user_id, limit)).fetchall()
            gone = db.execute("SELECT 1 FROM forgotten WHERE user_id = ?", (user_id,)).fetchone()
        return LiveHistory(tuple(Event(*row) for row in reversed(rows)), gone is not None)

    def forget(self, user_id: str) -> int:
        """Removes a user's events and impressions and marks him as forgotten."""
        with self._file.writing() as db:
            removed = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            db.execute("DELETE FROM impressions WHERE user_id = ?", (user_id,))
            db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (user_id,))
        return removed

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS."""
        with self._file.reading() as db:
            rows = db.execute(_EXPORT, (since_us,)).fetchall()
        names = schema.EVENTS.names
        return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema.EVENTS)

    def show(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        """Stores impressions and drops those from before a time."""
        with self._file.writing() as db:
            db.executemany(_SHOW, [_shown(one) for one in impressions])
            db.execute("DELETE FROM impressions WHERE ts < ?", (keep_since_us,))

    def shown(self, since_us: int = 0) -> pa.Table:
        """All impressions from a time on as IMPRESSIONS."""
        with self._file.reading() as db:
            rows = db.execute(_SHOWN, (since_us,)).fetchall()
        named = [dict(zip(IMPRESSIONS.names, row, strict=True)) for row in rows]
        return as_table([{**row, **{name: json.loads(row[name]) for name in ("item_ids", "scores")}} for row in named])

    def overlap(self, model_version: str) -> Overlap:
        """How much a version's shadow slates agree with what was shown."""
        with self._file.reading() as db:
            return Overlap(*db.execute(_SHADOW, (model_version,)).fetchone())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def open_history(state: str) -> HistoryStore:
    """The store that a configuration names: a `redis://` URL, a file, or, empty, this process's memory."""
    if state.startswith(("redis://", "rediss://")):
        from txrec.online.redis_history import RedisHistory  # the client is an optional dependency

        return RedisHistory(state)
    return SqliteHistory(Path(state) if state else None)


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Impressions as IMPRESSIONS."""
    return pa.Table.from_pylist(rows, schema=IMPRESSIONS)


def _shown(impression: Impression) -> dict[str, Any]:
    lists = {name: json.dumps(getattr(impression, name)) for name in ("item_ids", "scores")}
    return {**impression.__dict__, **lists}


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
