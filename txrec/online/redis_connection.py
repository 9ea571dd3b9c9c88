"""Redis connection: client, key prefix, and the errors of a server as `UnavailableError` with a reason and a remedy."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from txrec.errors import UnavailableError

MAX_REASON_CHARS = 200
_MAX_EPOCH = 2**48
"""Numbers on top of it remain exact as the scores of sorted sets, and have the digits of sequence numbers."""
_REASONS: tuple[tuple[tuple[type[redis.RedisError], ...], str], ...] = (
    (
        (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError),
        "it refuses the user or the password; set TXREC_REDIS_PASSWORD and, where it has users, TXREC_REDIS_USER",
    ),
    (
        (redis.OutOfMemoryError,),
        "its memory is full; raise its `maxmemory`, or keep fewer days (serve.event_days, serve.impression_days)",
    ),
    ((redis.ReadOnlyError,), "it is a read-only replica; name the primary in serve.state"),
    ((redis.TimeoutError,), "it does not answer in time"),
)
"""Reasons by the errors of the client that mean them."""


def hash_tag(prefix: str) -> str:
    """A key prefix as a Redis Cluster hash tag: `txrec` -> `{txrec}`."""
    return prefix if "{" in prefix else f"{{{prefix}}}"


def connect(url: str, timeout_s: float) -> Any:
    """A client of a Redis server; nothing is sent before the first call."""
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def random_epoch() -> int:
    """Random number from which a server's numbering starts, so that a reader knows it from an earlier one.

    A server that comes back without its data numbers anew. Had both numberings begun at 1, a reader that was away
    could take the new one for the continuation of the old one, and miss what is below its last number.
    """
    return 1 + secrets.randbelow(_MAX_EPOCH)


@contextmanager
def available() -> Iterator[None]:
    """Makes an `UnavailableError` of whatever Redis reports."""
    try:
        yield
    except redis.RedisError as error:
        raise UnavailableError("", f"the live state in Redis cannot be used now: {_reason(error)}") from error


def _reason(error: redis.RedisError) -> str:
    """Reason of an error, without the command that met it: commands hold users' data."""
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return reason
    return str(error).rpartition("caused error: ")[2][:MAX_REASON_CHARS]
