"""Redis item journal: live catalogue changes that the replicas of all nodes share.

{PREFIX}:items         hash, item id = the change as JSON, with its number
{PREFIX}:items-order   sorted set of item ids, score = number of the last change
{PREFIX}:items-seq     counter, from a random number on
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from txrec.online.journal import Changes, merged, retired
from txrec.online.redis_connection import available, connect, hash_tag, random_epoch
from txrec.recommender.catalogue import ItemChange


class RedisJournal:
    """An `ItemJournal` in a Redis server; durability is the server's, see `RedisHistory`.

    Args:
        url: `redis://host:port/db` or `rediss://...`.
        prefix: of all keys; it becomes their hash tag.
        timeout_s: a server that does not answer within this time is unavailable.
    """

    def __init__(self, url: str, prefix: str = "txrec", timeout_s: float = 0.5) -> None:
        self._items, self._order, self._seq = (
            f"{hash_tag(prefix)}:{name}" for name in ("items", "items-order", "items-seq")
        )
        self._redis = connect(url, timeout_s)

    def put(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Stores rows, all or none, before it returns."""
        ids = [str(row["item_id"]) for row in rows]

        def change(known: dict[str, ItemChange], first: int) -> dict[str, tuple[ItemChange, int]]:
            made: dict[str, tuple[ItemChange, int]] = {}
            for number, row in enumerate(rows, start=first):
                item_id = str(row["item_id"])
                before = made[item_id][0] if item_id in made else known.get(item_id)
                made[item_id] = (merged(before, row, number), number)
            return made

        return self._write(ids, len(rows), change)

    def retire(self, item_id: str) -> int:
        """Takes a product out of sale."""
        return self._write([item_id], 1, lambda known, first: {item_id: (retired(known.get(item_id), item_id), first)})

    def get(self, item_id: str) -> ItemChange | None:
        """Latest change of a product."""
        with available():
            return self._known(self._redis, [item_id]).get(item_id)

    def since(self, version: int) -> Changes:
        """Changes after a number."""
        with available():
            last = int(self._redis.get(self._seq) or 0)
            start = version if version <= last else 0  # later: the server came back without its data
            ids = self._redis.zrangebyscore(self._order, f"({start}", "+inf")
            texts = self._redis.hmget(self._items, ids) if ids else []
        entries = [json.loads(text) for text in texts]
        reached = [entry for entry in entries if entry["seq"] <= last]  # later changes are for the next call
        return Changes(last if reached or version <= last else version, tuple(_read(entry) for entry in reached))

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _write(
        self,
        ids: Sequence[str],
        count: int,
        change: Callable[[dict[str, ItemChange], int], dict[str, tuple[ItemChange, int]]],
    ) -> int:
        def attempt(pipeline: Any) -> int:
            last = int(pipeline.get(self._seq) or random_epoch())
            made = change(self._known(pipeline, ids), last + 1)
            pipeline.multi()
            pipeline.set(self._seq, last + count)
            for item_id, (entry, number) in made.items():
                pipeline.hset(self._items, item_id, json.dumps({**asdict(entry), "seq": number}))
                pipeline.zadd(self._order, {item_id: number})
            return last + count

        with available():
            return int(self._redis.transaction(attempt, self._seq, value_from_callable=True))

    def _known(self, client: Any, ids: Sequence[str]) -> dict[str, ItemChange]:
        item_ids = list(dict.fromkeys(ids))
        texts = client.hmget(self._items, item_ids) if item_ids else []
        return {item_id: _read(json.loads(text)) for item_id, text in zip(item_ids, texts, strict=True) if text}


def _read(entry: Mapping[str, Any]) -> ItemChange:
    return ItemChange(**{name: value for name, value in entry.items() if name != "seq"})
