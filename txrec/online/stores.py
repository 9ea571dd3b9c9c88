"""Store factories: history store, item journal and document stores of the configured `serve.state`.

A state is a `redis://` or `rediss://` URL, the path of a SQLite file, or empty for this process's memory. The password
of a Redis server comes from the environment variable `TXREC_REDIS_PASSWORD` (its user from `TXREC_REDIS_USER`), so that
no configuration holds it.
"""

import os
from pathlib import Path
from urllib.parse import quote

from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore
from txrec.online.journal import ItemJournal
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.sqlite_journal import SqliteJournal

PASSWORD_VARIABLE = "TXREC_REDIS_PASSWORD"  # noqa: S105  # a name, no password
USER_VARIABLE = "TXREC_REDIS_USER"
_REDIS_SCHEMES = ("redis://", "rediss://")


def with_credentials(url: str) -> str:
    """A Redis URL with user and password of the environment; one that names them itself is left as it is."""
    scheme, _, rest = url.partition("://")
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password or "@" in rest:
        return url
    user = quote(os.environ.get(USER_VARIABLE, ""), safe="")
    return f"{scheme}://{user}:{quote(password, safe='')}@{rest}"


def open_history(state: str) -> HistoryStore:
    """Opens the history store of a state."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_history import RedisHistory  # the client is an optional dependency

        return RedisHistory(with_credentials(state))
    return SqliteHistory(Path(state) if state else None)


def open_journal(state: str) -> ItemJournal:
    """Opens the item journal of a state."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_journal import RedisJournal  # the client is an optional dependency

        return RedisJournal(with_credentials(state))
    return SqliteJournal(Path(state) if state else None)


def open_documents(state: str, kind: str) -> DocumentStore:
    """Opens the document store of a state, for one kind of documents."""
    if state.startswith(_REDIS_SCHEMES):
        from txrec.online.redis_documents import RedisDocuments  # the client is an optional dependency

        return RedisDocuments(with_credentials(state), kind)
    return SqliteDocuments(Path(state) if state else None, kind)
