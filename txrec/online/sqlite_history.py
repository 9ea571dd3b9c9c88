"""SQLite history store: events and impressions in one file, for the processes of one machine, one fsync per batch."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from txrec import schema
from txrec.online.history import (
    IMPRESSIONS,
    MAX_EVENTS,
    MAX_SLATES,
    EventPage,
    Impression,
    LiveHistory,
    LoggedEvent,
    Overlap,
    ShownSlate,
    as_table,
)
from txrec.online.sqlite import SqliteFile
from txrec.recommender.types import Event

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
CREATE INDEX IF NOT EXISTS events_in_time ON events (ts);
CREATE TABLE IF NOT EXISTS forgotten (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removals (number INTEGER PRIMARY KEY AUTOINCREMENT);
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
    took_ms REAL,
    sources TEXT,
    exploration TEXT,
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
_AFTER = """
SELECT seq, event_id, user_id, event, item_id, query, ts, value, session_id, request_id FROM events
WHERE seq > max(?, (SELECT coalesce(max(seq), 0) FROM events) - ?) ORDER BY seq LIMIT ?
"""
_EXPORT = """
SELECT user_id, ts, event, item_id, query, session_id, request_id, value FROM events WHERE ts >= ? ORDER BY ts, seq
"""

_LOG_IMPRESSION = """
INSERT OR IGNORE INTO impressions (
    request_id, variant, ts, user_id, model_version, query, fallback, item_ids, scores, overlap,
    took_ms, sources, exploration, placement, experiments, rules, teams
)
SELECT :request_id, :variant, :ts, :user_id, :model_version, :query, :fallback, :item_ids, :scores, :overlap,
    :took_ms, :sources, :exploration, :placement, :experiments, :rules, :teams
WHERE :user_id IS NULL OR :user_id NOT IN (SELECT user_id FROM forgotten)
"""
_IMPRESSIONS_SINCE = """
SELECT request_id, variant, ts, user_id, model_version, query, fallback, item_ids, scores, overlap,
    took_ms, sources, exploration, placement, experiments, rules, teams
FROM impressions WHERE ts >= ? ORDER BY ts, request_id, variant
"""
_SLATES_OF = """
SELECT ts, item_ids FROM impressions WHERE user_id = ? AND variant <> 'shadow' ORDER BY ts DESC, request_id LIMIT ?
"""
_ADDED_COLUMNS = {
    "took_ms": "REAL",
    "sources": "TEXT",
    "exploration": "TEXT",
    "placement": "TEXT",
    "experiments": "TEXT",
    "rules": "TEXT",
    "teams": "TEXT",
}
"""Columns of impressions that files of earlier versions do not have."""
_SHADOW = "SELECT count(*), avg(overlap) FROM impressions WHERE variant = 'shadow' AND model_version = ?"


_LISTS = ("item_ids", "scores", "sources", "experiments", "rules", "teams")


class SqliteHistory:
    """A `HistoryStore` in one file, for any number of processes of one machine.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = SqliteFile(path, _TABLES)
        with self._file.writing() as db:
            present = {row[1] for row in db.execute("PRAGMA table_info(impressions)")}
            for name, kind in _ADDED_COLUMNS.items():
                if name not in present:
                    db.execute(f"ALTER TABLE impressions ADD COLUMN {name} {kind}")

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

    def events_after(self, number: int, limit: int, newest: int) -> EventPage:
        """Events in the order in which they were stored."""
        with self._file.reading() as db:
            removals = db.execute("SELECT coalesce(max(number), 0) FROM removals").fetchone()[0]
            rows = db.execute(_AFTER, (number, newest, limit)).fetchall()
        return EventPage(
            tuple((row[0], LoggedEvent(row[1], row[2], Event(*row[3:8]), row[8], row[9])) for row in rows), removals
        )

    def forget(self, user_id: str) -> int:
        """Removes a user's events and impressions and marks them as forgotten."""
        with self._file.writing() as db:
            removed = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            _note_removal(db, removed)
            db.execute("DELETE FROM impressions WHERE user_id = ?", (user_id,))
            db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (user_id,))
        return removed

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS."""
        with self._file.reading() as db:
            rows = db.execute(_EXPORT, (since_us,)).fetchall()
        names = schema.EVENTS.names
        return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema.EVENTS)

    def prune(self, keep_since_us: int) -> int:
        """Removes the events from before a time; the number of removed events."""
        with self._file.writing() as db:
            removed = int(db.execute("DELETE FROM events WHERE ts < ?", (keep_since_us,)).rowcount)
            _note_removal(db, removed)
        return removed

    def log_impressions(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        """Stores impressions and drops those from before a time."""
        with self._file.writing() as db:
            db.executemany(_LOG_IMPRESSION, [_impression_row(one) for one in impressions])
            db.execute("DELETE FROM impressions WHERE ts < ?", (keep_since_us,))

    def impressions(self, since_us: int = 0) -> pa.Table:
        """All impressions from a time on as IMPRESSIONS."""
        with self._file.reading() as db:
            rows = db.execute(_IMPRESSIONS_SINCE, (since_us,)).fetchall()
        named = [dict(zip(IMPRESSIONS.names, row, strict=True)) for row in rows]
        return as_table([{**row, **{name: json.loads(row[name] or "null") for name in _LISTS}} for row in named])

    def slates_of(self, user_id: str, limit: int = MAX_SLATES) -> tuple[ShownSlate, ...]:
        """The latest slates that were answered to a user."""
        with self._file.reading() as db:
            rows = db.execute(_SLATES_OF, (user_id, limit)).fetchall()
        return tuple(ShownSlate(ts, tuple(json.loads(item_ids))) for ts, item_ids in reversed(rows))

    def overlap(self, model_version: str) -> Overlap:
        """Agreement of a version's shadow slates with the slates that were shown."""
        with self._file.reading() as db:
            return Overlap(*db.execute(_SHADOW, (model_version,)).fetchone())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _note_removal(db: sqlite3.Connection, removed: int) -> None:
    """Tells readers of the event log that events are gone."""
    if removed:
        db.execute("INSERT INTO removals DEFAULT VALUES")
        db.execute("DELETE FROM removals WHERE number < (SELECT max(number) FROM removals)")


def _impression_row(impression: Impression) -> dict[str, Any]:
    lists = {name: json.dumps(getattr(impression, name)) for name in _LISTS}
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
