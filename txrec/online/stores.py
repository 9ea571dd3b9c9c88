"""Store factories: history store, item journal and document stores of the configured `serve.state`.

A state is a `redis://` or `rediss://` URL, the path of a SQLite file, or empty for this process's memory.
"""

from pathlib import Path

from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore
from txrec.online.journal import ItemJournal
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal

_REDIS_SCHEMES = ("redis://", "rediss://")


def open_history(state: str) -> HistoryStore:
    """Opens the history store of a state."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_history import RedisHistory  # the client is an optional dependency

        return RedisHistory(state)
    return SqliteHistory(Path(state) if state else None)


def open_journal(state: str) -> ItemJournal:
    """Opens the item journal of a state."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_journal import RedisJournal  # the client is an optional dependency

        return RedisJournal(state)
    return SqliteJournal(Path(state) if state else None)


def open_documents(state: str, kind: str) -> DocumentStore:
    """Opens the document store of a state, for one kind of documents."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_documents import RedisDocuments  # the client is an optional dependency

        return RedisDocuments(state, kind)
    return SqliteDocuments(Path(state) if state else None, kind)
