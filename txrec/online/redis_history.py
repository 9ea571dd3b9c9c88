"""The history store for many nodes: a `HistoryStore` in Redis, which all replicas share.

An acknowledged event is as durable as the server is set up to be: run it with `appendonly yes` and
`appendfsync always` (and replicas with `WAIT`, where a node may be lost) for what `SqliteHistory` gives on one machine.

    PREFIX:user:USER    sorted set, score = time, member = sequence number and the event as JSON
    PREFIX:ids          hash, event id = user
    PREFIX:users        set of users with events
    PREFIX:forgotten    set of forgotten users
    PREFIX:seq          counter
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import redis

from txrec import schema
from txrec.errors import UnavailableError
from txrec.online.history import MAX_EVENTS, LiveHistory, LoggedEvent
from txrec.slate import Event

_APPEND = """
local prefix, stored = KEYS[1], 0
for place = 1, #ARGV, 4 do
    local id, user, ts, event = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
    if redis.call('HSETNX', prefix .. ':ids', id, user) == 1 then
        local seq = redis.call('INCR', prefix .. ':seq')
        redis.call('ZADD', prefix .. ':user:' .. user, ts, string.format('%015d', seq) .. event)
        redis.call('SADD', prefix .. ':users', user)
        stored = stored + 1
    end
end
return stored
"""
_FORGET = """
local prefix, user = KEYS[1], ARGV[1]
local key = prefix .. ':user:' .. user
local members = redis.call('ZRANGE', key, 0, -1)
for _, member in ipairs(members) do
    redis.call('HDEL', prefix .. ':ids', cjson.decode(string.sub(member, 16))['event_id'])
end
redis.call('DEL', key)
redis.call('SREM', prefix .. ':users', user)
redis.call('SADD', prefix .. ':forgotten', user)
return #members
"""
_SEQUENCE_DIGITS = 15


class RedisHistory:
    """A `HistoryStore` in a Redis server.

    Args:
        url: `redis://host:port/db` or `rediss://...`.
        prefix: of all keys.
        timeout_s: a server that does not answer within this time is unavailable.
    """

    def __init__(self, url: str, prefix: str = "txrec", timeout_s: float = 0.5) -> None:
        self._prefix = prefix
        self._redis: Any = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._append = self._redis.register_script(_APPEND)
        self._forget = self._redis.register_script(_FORGET)

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events, all or none, before it returns; how many of each were new."""
        with self._available(), self._redis.pipeline(transaction=True) as pipeline:
            for batch in batches:
                arguments = [part for event in batch for part in _arguments(event)]
                self._append(keys=[self._prefix], args=arguments, client=pipeline)
            return [int(count) for count in pipeline.execute()]

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events."""
        with self._available(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zrange(f"{self._prefix}:user:{user_id}", -limit, -1)
            pipeline.sismember(f"{self._prefix}:forgotten", user_id)
            members, gone = pipeline.execute()
        return LiveHistory(tuple(_logged(member).event for member in members), bool(gone))

    def forget(self, user_id: str) -> int:
        """Removes a user's events and marks him as forgotten."""
        with self._available():
            return int(self._forget(keys=[self._prefix], args=[user_id]))

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS."""
        found: list[tuple[int, str, LoggedEvent]] = []
        with self._available():
            for user in self._redis.sscan_iter(f"{self._prefix}:users"):
                members = self._redis.zrangebyscore(f"{self._prefix}:user:{user}", since_us, "+inf")
                found.extend((_logged(one).event.ts or 0, one[:_SEQUENCE_DIGITS], _logged(one)) for one in members)
        found.sort(key=lambda entry: entry[:2])
        return pa.Table.from_pylist([_exported(logged) for _, _, logged in found], schema=schema.EVENTS)

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise UnavailableError("", f"the event store in Redis cannot be used now: {error}") from error


def _arguments(logged: LoggedEvent) -> tuple[str, str, int, str]:
    return logged.event_id, logged.user_id, logged.event.ts or 0, json.dumps(asdict(logged))


def _logged(member: str) -> LoggedEvent:
    fields = json.loads(member[_SEQUENCE_DIGITS:])
    return LoggedEvent(**{**fields, "event": Event(**fields["event"])})


def _exported(logged: LoggedEvent) -> dict[str, Any]:
    return {
        "user_id": logged.user_id,
        "session_id": logged.session_id,
        "request_id": logged.request_id,
        **asdict(logged.event),
    }
