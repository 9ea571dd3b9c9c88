"""What shops changed about their products since the model was trained, kept so that every bundle can be told.

One entry a product: a change is merged with what was said before, so that the journal does not grow with every price
tag. Entries are numbered; who has applied all up to one number asks for what came after it. `ItemJournal` is the
contract; `SqliteJournal` keeps it beside the events, in the same file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from txrec.catalogue import ItemChange
from txrec.online.sqlite import SqliteFile

_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    item_id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    born INTEGER NOT NULL,
    retired INTEGER NOT NULL,
    fields TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS items_by_seq ON items (seq);
"""
_COLUMNS = "SELECT item_id, fields, retired, born, seq FROM items"
_WRITE = "INSERT OR REPLACE INTO items (item_id, fields, retired, born, seq) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Changes:
    """What came after some number.

    Attributes:
        version: number of the last change.
        items: every product that was changed, as it stands now.
    """

    version: int
    items: tuple[ItemChange, ...] = ()


class ItemJournal(Protocol):
    """Keeps changes of products. Every method may raise `UnavailableError`; what was acknowledged is never lost."""

    def put(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Stores rows of schema.ITEMS columns durably, all or none, before it returns.

        Only `item_id` is required. What a row leaves out stays as it was said before, None takes a value away; a
        retired product starts afresh.

        Returns:
            The number of the last change.
        """
        ...

    def retire(self, item_id: str) -> int:
        """Takes a product out of sale, durably; the number of the change."""
        ...

    def get(self, item_id: str) -> ItemChange | None:
        """What was said about a product; None = nothing."""
        ...

    def since(self, version: int) -> Changes:
        """What was changed after a number, 0 = everything."""
        ...

    def close(self) -> None:
        """Releases files and connections."""
        ...


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
                change = merged(_found(db, str(row["item_id"])), row, version)
                db.execute(_WRITE, _written(change, version))
        return version

    def retire(self, item_id: str) -> int:
        """Takes a product out of sale, durably."""
        with self._file.writing() as db:
            version = _last(db) + 1
            db.execute(_WRITE, _written(retired(_found(db, item_id), item_id), version))
        return version

    def get(self, item_id: str) -> ItemChange | None:
        """What was said about a product."""
        with self._file.reading() as db:
            return _found(db, item_id)

    def since(self, version: int) -> Changes:
        """What was changed after a number."""
        with self._file.reading() as db:
            rows = db.execute(f"{_COLUMNS} WHERE seq > ? ORDER BY seq", (version,)).fetchall()
        return Changes(rows[-1][-1] if rows else version, tuple(_read(row) for row in rows))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def open_journal(state: str) -> ItemJournal:
    """The journal that a configuration names: a `redis://` URL, a file, or, empty, this process's memory."""
    if state.startswith(("redis://", "rediss://")):
        from txrec.online.redis_journal import RedisJournal  # the client is an optional dependency

        return RedisJournal(state)
    return SqliteJournal(Path(state) if state else None)


def merged(before: ItemChange | None, row: Mapping[str, Any], number: int) -> ItemChange:
    """A product after a row was put."""
    said = {name: value for name, value in row.items() if name != "item_id"}
    if before is None:
        return ItemChange(str(row["item_id"]), said, False, number)
    known = {} if before.retired else before.fields
    return ItemChange(before.item_id, {**known, **said}, False, before.born or number)


def retired(before: ItemChange | None, item_id: str) -> ItemChange:
    """A product after it was retired; what was said about it stays, for histories that name it."""
    return ItemChange(item_id, before.fields if before else {}, True, before.born if before else 0)


def _last(db: Any) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM items").fetchone()[0])


def _found(db: Any, item_id: str) -> ItemChange | None:
    row = db.execute(f"{_COLUMNS} WHERE item_id = ?", (item_id,)).fetchone()
    return _read(row) if row else None


def _read(row: tuple[str, str, int, int, int]) -> ItemChange:
    item_id, fields, gone, born, _ = row
    return ItemChange(item_id, json.loads(fields), bool(gone), born)


def _written(change: ItemChange, number: int) -> tuple[str, str, bool, int, int]:
    return change.item_id, json.dumps(change.fields), change.retired, change.born, number
