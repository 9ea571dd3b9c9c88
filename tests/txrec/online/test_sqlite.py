"""A shared SQLite file: readers wait neither for a transaction of another thread nor for each other."""

import threading
from pathlib import Path

import pytest

from txrec.errors import UnavailableError
from txrec.online.sqlite import SqliteFile

TABLES = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER)"


def count(file: SqliteFile) -> int:
    with file.reading() as db:
        return int(db.execute("SELECT count(*) FROM numbers").fetchone()[0])


def test_a_read_returns_while_another_thread_holds_a_write_transaction(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "file.sqlite", TABLES)
    begun, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with file.writing() as db:
            db.execute("INSERT INTO numbers VALUES (1)")
            begun.set()
            may_end.wait(timeout=30)

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(timeout=30)
    counts: list[int] = []
    reader = threading.Thread(target=lambda: counts.append(count(file)))
    reader.start()
    reader.join(timeout=20)
    assert counts == [0], "the reader saw the last commit without waiting for the writer"
    may_end.set()
    writer.join()
    assert count(file) == 1


def test_a_read_inside_a_read_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "file.sqlite", TABLES)
    with file.reading() as outer, file.reading() as inner:
        assert outer is not inner
    with file.reading() as again:
        assert again in (outer, inner), "connections are used again"


def test_readers_cannot_write(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "file.sqlite", TABLES)
    with pytest.raises(UnavailableError, match="readonly"), file.reading() as db:
        db.execute("INSERT INTO numbers VALUES (1)")


def test_a_closed_file_is_unavailable(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "file.sqlite", TABLES)
    count(file)
    file.close()
    with pytest.raises(UnavailableError, match="closed"):
        count(file)
