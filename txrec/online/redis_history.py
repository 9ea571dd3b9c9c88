"""Redis history store: a `HistoryStore` that the replicas of all nodes share.

An acknowledged event is as durable as the server is set up to be: run it with `appendonly yes` and
`appendfsync always` (and replicas with `WAIT`, where a node may be lost) for the durability of `SqliteHistory`.

Reads are no transactions: a server whose memory is full refuses those, and answers single reads.

All keys carry the same hash tag, `{PREFIX}`, so that on a Redis Cluster they lie in one slot: the scripts and
transactions below touch several keys at once, which a cluster allows within a slot only. The scripts name every key
that they touch in KEYS.

    {PREFIX}:user:USER         sorted set, score = time, member = sequence number and the event as JSON
    {PREFIX}:ids               hash, event id = user
    {PREFIX}:log               sorted set of the latest events of all users, score = sequence number, member as above
    {PREFIX}:removals          counter of removals of events, from a random number on: the epoch of the sequence numbers
    {PREFIX}:users             set of users with events
    {PREFIX}:forgotten         set of forgotten users
    {PREFIX}:seq               counter
    {PREFIX}:days              set of days with impressions
    {PREFIX}:shown:DAY         hash, request id and variant = the impression as JSON
    {PREFIX}:slates-of:USER    sorted set, score = time, member = `DAY REQUEST VARIANT`
    {PREFIX}:shown-to:USER     set of such members, written by earlier versions; it expires by itself
    {PREFIX}:overlap:VERSION   hash, number and sum of a shadow model's overlaps
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from txrec import schema
from txrec.online.history import (
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
from txrec.online.redis_connection import available, connect, hash_tag, random_epoch
from txrec.recommender.types import Event

_APPEND = """
local ids, seq, users, log, removals = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local stored = 0
redis.call('SETNX', removals, ARGV[2])
for place = 3, #ARGV, 4 do
    local id, user, ts, event = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
    if redis.call('HSETNX', ids, id, user) == 1 then
        local number = redis.call('INCR', seq)
        local key = KEYS[5 + (place + 1) / 4]
        local member = string.format('%015d', number) .. event
        redis.call('ZADD', key, ts, member)
        redis.call('ZADD', log, number, member)
        redis.call('SADD', users, user)
        stored = stored + 1
    end
end
redis.call('ZREMRANGEBYRANK', log, 0, -tonumber(ARGV[1]) - 1)
return stored
"""
_FORGET = """
local ids, users, forgotten, log, removals, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local members = redis.call('ZRANGE', key, 0, -1)
for _, member in ipairs(members) do
    redis.call('HDEL', ids, cjson.decode(string.sub(member, 16))['event_id'])
    redis.call('ZREM', log, member)
end
if #members > 0 then redis.call('INCR', removals) end
redis.call('DEL', key)
redis.call('SREM', users, ARGV[1])
redis.call('SADD', forgotten, ARGV[1])
return #members
"""
_PRUNE = """
local ids, users, log, removals, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local members = redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. ARGV[2])
for _, member in ipairs(members) do
    redis.call('HDEL', ids, cjson.decode(string.sub(member, 16))['event_id'])
    redis.call('ZREM', log, member)
end
if #members > 0 then redis.call('INCR', removals) end
redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. ARGV[2])
if redis.call('EXISTS', key) == 0 then redis.call('SREM', users, ARGV[1]) end
return #members
"""
_SEQUENCE_DIGITS = 15
MAX_LOG_EVENTS = 200_000
"""Events of all users that can be read in the order in which they were stored."""
EMPTIED = -1
"""Number of removals that no other page has: its reader reads all events again."""


class RedisHistory:
    """A `HistoryStore` in a Redis server.

    Args:
        url: `redis://host:port/db` or `rediss://...`.
        prefix: of all keys; it becomes their hash tag.
        timeout_s: a server that does not answer within this time is unavailable.
    """

    def __init__(self, url: str, prefix: str = "txrec", timeout_s: float = 0.5) -> None:
        self._prefix = hash_tag(prefix)
        self._redis = connect(url, timeout_s)
        self._append = self._redis.register_script(_APPEND)
        self._forget = self._redis.register_script(_FORGET)
        self._prune = self._redis.register_script(_PRUNE)

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events, all or none, before it returns; how many of each were new."""
        with available(), self._redis.pipeline(transaction=True) as pipeline:
            for batch in batches:
                arguments = [part for event in batch for part in _arguments(event)]
                users = [self._user_key(event.user_id) for event in batch]
                keys = [*self._keys("ids", "seq", "users", "log", "removals"), *users]
                self._append(keys=keys, args=[MAX_LOG_EVENTS, random_epoch(), *arguments], client=pipeline)
            return [int(count) for count in pipeline.execute()]

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events."""
        with available(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrange(self._user_key(user_id), -limit, -1)
            pipeline.sismember(f"{self._prefix}:forgotten", user_id)
            members, gone = pipeline.execute()
        return LiveHistory(tuple(_logged(member).event for member in members), bool(gone))

    def forget(self, user_id: str) -> int:
        """Removes a user's events and impressions and marks them as forgotten."""
        with available():
            keys = [*self._keys("ids", "users", "forgotten", "log", "removals"), self._user_key(user_id)]
            removed = int(self._forget(keys=keys, args=[user_id]))
            known, known_before = self._slate_keys(user_id)
            for place in (*self._redis.zrange(known, 0, -1), *self._redis.smembers(known_before)):
                day, _, name = place.partition(" ")
                self._redis.hdel(f"{self._prefix}:shown:{day}", name)
            self._redis.delete(known, known_before)
        return removed

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS."""
        rows: list[tuple[int, str, LoggedEvent]] = []
        with available():
            for user in self._redis.sscan_iter(f"{self._prefix}:users"):
                members = self._redis.zrangebyscore(self._user_key(user), since_us, "+inf")
                rows.extend((_logged(one).event.ts or 0, one[:_SEQUENCE_DIGITS], _logged(one)) for one in members)
        rows.sort(key=lambda entry: entry[:2])
        return pa.Table.from_pylist([_exported(logged) for _, _, logged in rows], schema=schema.EVENTS)

    def events_after(self, number: int, limit: int, newest: int) -> EventPage:
        """Events in the order in which they were stored, at most the last `MAX_LOG_EVENTS`."""
        with available(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.get(f"{self._prefix}:removals")
            pipeline.get(f"{self._prefix}:seq")
            pipeline.zrange(f"{self._prefix}:log", -1, -1)
            pipeline.zrangebyscore(f"{self._prefix}:log", f"({number}", "+inf", 0, limit)
            removals, sequence, last, members = pipeline.execute()
        if number > int(sequence or 0):  # the server lost its latest events: the reader begins anew
            return EventPage((), EMPTIED)
        first = int(last[0][:_SEQUENCE_DIGITS]) - newest if last else 0
        if members and int(members[0][:_SEQUENCE_DIGITS]) <= first:  # far behind: what is too old is passed over
            return self.events_after(first, limit, newest)
        events = tuple((int(member[:_SEQUENCE_DIGITS]), _logged(member)) for member in members)
        return EventPage(events, int(removals or 0))

    def prune(self, keep_since_us: int) -> int:
        """Removes the events from before a time; the number of removed events."""
        names = self._keys("ids", "users", "log", "removals")
        with available():
            return sum(
                int(self._prune(keys=[*names, self._user_key(user)], args=[user, keep_since_us]))
                for user in self._redis.sscan_iter(f"{self._prefix}:users")
            )

    def log_impressions(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        """Stores impressions; whole days from before a time are dropped."""

        def attempt(pipeline: Any) -> None:
            gone = self._forgotten(pipeline, {one.user_id for one in impressions if one.user_id is not None})
            days = self._days()
            pipeline.multi()
            for one in impressions:
                if one.user_id not in gone:
                    self._log_impression(pipeline, one, keep_since_us)
            for day in days:
                if (day + 1) * schema.DAY_US <= keep_since_us:
                    pipeline.delete(f"{self._prefix}:shown:{day}").srem(f"{self._prefix}:days", day)

        with available():  # tried again where a user is forgotten meanwhile
            self._redis.transaction(attempt, f"{self._prefix}:forgotten")

    def impressions(self, since_us: int = 0) -> pa.Table:
        """All impressions from a time on as IMPRESSIONS."""
        with available():
            texts = [one for day in self._days() for one in self._redis.hvals(f"{self._prefix}:shown:{day}")]
        rows = [row for row in map(json.loads, texts) if row["ts"] >= since_us]
        return as_table(sorted(rows, key=lambda row: (row["ts"], row["request_id"], row["variant"])))

    def slates_of(self, user_id: str, limit: int = MAX_SLATES) -> tuple[ShownSlate, ...]:
        """The latest slates that were answered to a user."""
        by_day: dict[int, list[str]] = {}
        slates: list[ShownSlate] = []
        with available():
            known, known_before = self._slate_keys(user_id)
            latest = self._redis.zrevrange(known, 0, 2 * limit - 1)  # beside a slate there may be that of a shadow
            for place in (*latest, *self._redis.smembers(known_before)):
                day, _, name = place.partition(" ")
                if not name.endswith(" shadow"):
                    by_day.setdefault(int(day), []).append(name)
            for day in sorted(by_day, reverse=True):
                texts = self._redis.hmget(f"{self._prefix}:shown:{day}", sorted(by_day[day]))
                rows = [json.loads(text) for text in texts if text is not None]
                slates += [ShownSlate(row["ts"], tuple(row["item_ids"])) for row in rows]
                if len(slates) >= limit:
                    break
        return tuple(sorted(slates, key=lambda slate: slate.ts)[-limit:])

    def overlap(self, model_version: str) -> Overlap:
        """Agreement of a version's shadow slates with the slates that were shown."""
        with available():
            number, total = self._redis.hmget(f"{self._prefix}:overlap:{model_version}", "number", "sum")
        return Overlap(int(number), float(total) / int(number)) if number else Overlap()

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _keys(self, *names: str) -> list[str]:
        return [f"{self._prefix}:{name}" for name in names]

    def _user_key(self, user_id: str) -> str:
        return f"{self._prefix}:user:{user_id}"

    def _slate_keys(self, user_id: str) -> tuple[str, str]:
        """Keys of a user's slates: of this version, and of earlier ones."""
        return f"{self._prefix}:slates-of:{user_id}", f"{self._prefix}:shown-to:{user_id}"

    def _log_impression(self, pipeline: Any, one: Impression, keep_since_us: int) -> None:
        day, name = one.ts // schema.DAY_US, f"{one.request_id} {one.variant}"
        pipeline.sadd(f"{self._prefix}:days", day)
        pipeline.hsetnx(f"{self._prefix}:shown:{day}", name, json.dumps(asdict(one)))
        if one.user_id is not None:
            known, _ = self._slate_keys(one.user_id)
            pipeline.zadd(known, {f"{day} {name}": one.ts})
            pipeline.zremrangebyscore(known, "-inf", f"({keep_since_us // schema.DAY_US * schema.DAY_US}")
            pipeline.expire(known, (one.ts - keep_since_us + schema.DAY_US) // 1_000_000)
        if one.overlap is not None:
            pipeline.hincrby(f"{self._prefix}:overlap:{one.model_version}", "number", 1)
            pipeline.hincrbyfloat(f"{self._prefix}:overlap:{one.model_version}", "sum", one.overlap)

    def _days(self) -> list[int]:
        return sorted(int(day) for day in self._redis.smembers(f"{self._prefix}:days"))

    def _forgotten(self, client: Any, users: set[str]) -> set[str]:
        names = sorted(users)
        flags = client.smismember(f"{self._prefix}:forgotten", names) if names else []
        return {user for user, forgotten in zip(names, flags, strict=True) if forgotten}


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
