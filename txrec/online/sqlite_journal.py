"""SQLite item journal: live catalogue changes in one file, for the processes of one machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from txrec.online.journal import Changes, merged, retired
from txrec.online.sqlite import SqliteFile
from txrec.recommender.catalogue import ItemChange

_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    item_id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    retired INTEGER NOT NULL,
    fields TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS items_by_seq ON items (seq);
"""
_COLUMNS = "SELECT item_id, fields, retired, first_seq, seq FROM items"
_WRITE = "INSERT OR REPLACE INTO items (item_id, fields, retired, first_seq, seq) VALUES (?, ?, ?, ?, ?)"


class SqliteJournal:
    """An `ItemJournal` in one file, for any number of processes of one machine.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = SqliteFile(path, _TABLES)

    def put(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Stores rows durably, all or none, before it returns."""
        with self._file.writing() as db:
            version = _last(db)
            for version, row in enumerate(rows, start=version + 1):  # noqa: B020 - goes on from the last one
                change = merged(_change_of(db, str(row["item_id"])), row, version)
                db.execute(_WRITE, _written(change, version))
        return version

    def retire(self, item_id: str) -> int:
        """Takes a product out of sale, durably."""
        with self._file.writing() as db:
            version = _last(db) + 1
            db.execute(_WRITE, _written(retired(_change_of(db, item_id), item_id), version))
        return version

    def get(self, item_id: str) -> ItemChange | None:
        """Latest change of a product."""
        with self._file.reading() as db:
            return _change_of(db, item_id)

    def since(self, version: int) -> Changes:
        """Changes after a number."""
        with self._file.reading() as db:
            rows = db.execute(f"{_COLUMNS} WHERE seq > ? ORDER BY seq", (version,)).fetchall()
        return Changes(rows[-1][-1] if rows else version, tuple(_read(row) for row in rows))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _last(db: Any) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM items").fetchone()[0])


def _change_of(db: Any, item_id: str) -> ItemChange | None:
    row = db.execute(f"{_COLUMNS} WHERE item_id = ?", (item_id,)).fetchone()
    return _read(row) if row else None


def _read(row: tuple[str, str, int, int, int]) -> ItemChange:
    item_id, fields, gone, first_seq, _ = row
    return ItemChange(item_id, json.loads(fields), bool(gone), first_seq)


def _written(change: ItemChange, number: int) -> tuple[str, str, bool, int, int]:
    return change.item_id, json.dumps(change.fields), change.retired, change.first_seq, number
