"""SQLite document store: named JSON documents in one file, for the processes of one machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from sqlite3 import Connection

from txrec.online.documents import Document, Documents
from txrec.online.sqlite import SqliteFile

_TABLES = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS document_versions (kind TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
"""
_NEXT_VERSION = """
INSERT INTO document_versions VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET version = version + 1 RETURNING version
"""


class SqliteDocuments:
    """A `DocumentStore` in one file, for any number of processes of one machine.

    Args:
        path: the file, made with its folder if need be; None keeps everything in memory, for tests and trials.
        kind: of the documents; each kind has its own names and version.
    """

    def __init__(self, path: Path | None = None, kind: str = "documents") -> None:
        self._file = SqliteFile(path, _TABLES)
        self._kind = kind

    def version(self) -> int:
        """Number of the last change."""
        with self._file.reading() as db:
            return self._version(db)

    def all(self) -> Documents:
        """All documents, as of one version."""
        with self._file.reading() as db:
            db.execute("BEGIN")  # one snapshot for both statements
            try:
                version = self._version(db)
                rows = db.execute("SELECT name, body FROM documents WHERE kind = ?", (self._kind,)).fetchall()
            finally:
                db.execute("COMMIT")
        return Documents(version, {name: json.loads(body) for name, body in rows})

    def get(self, name: str) -> Document | None:
        """One document."""
        statement = "SELECT body FROM documents WHERE kind = ? AND name = ?"
        with self._file.reading() as db:
            row = db.execute(statement, (self._kind, name)).fetchone()
        document: Document | None = json.loads(row[0]) if row else None
        return document

    def put(self, documents: Mapping[str, Document], expected_version: int | None = None) -> int | None:
        """Adds or replaces documents durably, all or none."""
        rows = [(self._kind, name, json.dumps(document)) for name, document in documents.items()]
        with self._file.writing() as db:
            if expected_version is not None and self._version(db) != expected_version:
                return None
            db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)
            return self._next_version(db)

    def delete(self, name: str) -> bool:
        """Removes a document durably; whether there was one."""
        with self._file.writing() as db:
            removed = db.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (self._kind, name)).rowcount
            if removed:
                self._next_version(db)
        return bool(removed)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _version(self, db: Connection) -> int:
        row = db.execute("SELECT version FROM document_versions WHERE kind = ?", (self._kind,)).fetchone()
        return int(row[0]) if row else 0

    def _next_version(self, db: Connection) -> int:
        return int(db.execute(_NEXT_VERSION, (self._kind,)).fetchone()[0])
