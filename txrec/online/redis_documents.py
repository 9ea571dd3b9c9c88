"""Redis document store: named JSON documents that the replicas of all nodes share.

{PREFIX}:documents:KIND           hash, name = the document as JSON
{PREFIX}:documents-version:KIND   counter, from a random number on
"""

import json
from collections.abc import Mapping
from typing import Any

from txrec.online.documents import Document, Documents
from txrec.online.redis_connection import available, connect, hash_tag, random_epoch

_DELETE = """
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
if removed > 0 then redis.call('INCR', KEYS[2]) end
return removed
"""
"""Works where the server's memory is full too, as the first write frees some."""


class RedisDocuments:
    """A `DocumentStore` in a Redis server; durability is the server's, see `RedisHistory`.

    Args:
        url: `redis://host:port/db` or `rediss://...`.
        kind: of the documents; each kind has its own names and version.
        prefix: of all keys; it becomes their hash tag.
        timeout_s: a server that does not answer within this time is unavailable.
    """

    def __init__(self, url: str, kind: str = "documents", prefix: str = "txrec", timeout_s: float = 0.5) -> None:
        self._documents = f"{hash_tag(prefix)}:documents:{kind}"
        self._counter = f"{hash_tag(prefix)}:documents-version:{kind}"
        self._redis = connect(url, timeout_s)
        self._delete = self._redis.register_script(_DELETE)

    def version(self) -> int:
        """Number of the last change."""
        with available():
            return int(self._redis.get(self._counter) or 0)

    def all(self) -> Documents:
        """All documents, as of one version or, while others write, a later one: then the next version is soon there.

        No transaction: a server whose memory is full would refuse it.
        """
        with available(), self._redis.pipeline(transaction=False) as pipeline:
            version, rows = pipeline.get(self._counter).hgetall(self._documents).execute()
        return Documents(int(version or 0), {name: json.loads(body) for name, body in rows.items()})

    def get(self, name: str) -> Document | None:
        """One document."""
        with available():
            body = self._redis.hget(self._documents, name)
        document: Document | None = json.loads(body) if body else None
        return document

    def put(self, documents: Mapping[str, Document], expected_version: int | None = None) -> int | None:
        """Adds or replaces documents, all or none."""

        def attempt(pipeline: Any) -> int | None:
            version = int(pipeline.get(self._counter) or 0)
            if expected_version is not None and version != expected_version:
                return None
            pipeline.multi()
            following = version + 1 if version else random_epoch()
            pipeline.set(self._counter, following)
            if documents:
                pipeline.hset(self._documents, mapping={name: json.dumps(body) for name, body in documents.items()})
            return following

        with available():
            written: int | None = self._redis.transaction(attempt, self._counter, value_from_callable=True)
        return written

    def delete(self, name: str) -> bool:
        """Removes a document; whether there was one."""
        with available():
            return bool(self._delete(keys=[self._documents, self._counter], args=[name]))

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()
