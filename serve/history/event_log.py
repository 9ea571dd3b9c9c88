"""Live event log of an ingress replica: durable writes in batches, and reads of a user's recent events.

Events that arrive together are written together, with one fsync. The store is read and written in threads, so that
neither a slow disk nor a slow Redis holds up the event loop.
"""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial

from serve.api.events import EventsReply, LiveEvent, SessionEvent
from serve.concurrency.batching import Batcher
from serve.concurrency.circuit_breaker import CircuitBreaker
from serve.observability.metrics import Metrics
from txrec.errors import RequestError, UnavailableError
from txrec.online.history import HistoryStore, LiveHistory, LoggedEvent, ShownSlate
from txrec.recommender.types import Event

STORE_COOLDOWN_S = 1.0
"""Time without reads of the event store after a failure, seconds."""
MAX_FUTURE_US = 86_400_000_000
"""An event may be dated this far ahead of the server's clock, microseconds."""
MAX_WRITES_PER_BATCH = 64


class EventLog:
    """Events of users as requests write and read them.

    Args:
        store: where events are kept.
        clock: seconds since 1970 UTC.
        metrics: counts the batches.
    """

    def __init__(self, store: HistoryStore, clock: Callable[[], float], metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._breaker = CircuitBreaker(STORE_COOLDOWN_S, clock)
        self._write: Batcher[list[LoggedEvent], int] = Batcher(
            self._append, max_size=MAX_WRITES_PER_BATCH, observe=partial(metrics.batch, "events")
        )

    async def append(self, events: tuple[LiveEvent, ...]) -> EventsReply:
        """Stores events; they are on disk when this returns.

        Raises:
            RequestError: an event is dated more than a day ahead; names its place.
            UnavailableError: the store cannot be written now.
        """
        now_us = self.now_us()
        logged = [_logged(event, now_us) for event in events]
        for place, one in enumerate(events):
            check_time(one, event_prefix(place, events), now_us)
        stored = await self._write(logged)
        ids = [one.event_id for one in logged]
        return EventsReply(stored=stored, repeated=len(logged) - stored, event_ids=ids)

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return int(self._clock() * 1e6)

    async def recent(self, user_id: str | None) -> LiveHistory:
        """A user's events since the model was trained; empty without a user.

        Raises:
            UnavailableError: the store cannot be read; it is then not tried again before a cooldown has passed.
        """
        if user_id is None:
            return LiveHistory()
        if self._breaker.is_open:
            raise UnavailableError("", "the event store does not answer; try again in a moment")
        try:
            return await asyncio.to_thread(self._store.recent, user_id)
        except UnavailableError:
            self._breaker.trip()
            raise

    async def slates_of(self, user_id: str | None) -> tuple[ShownSlate, ...]:
        """The latest slates that were answered to a user, oldest first; none without a user.

        Raises:
            UnavailableError: the store cannot be read.
        """
        if user_id is None:
            return ()
        if self._breaker.is_open:
            raise UnavailableError("", "the event store does not answer; try again in a moment")
        try:
            return await asyncio.to_thread(self._store.slates_of, user_id)
        except UnavailableError:
            self._breaker.trip()
            raise

    async def forget(self, user_id: str) -> int:
        """Removes a user; the number of removed events."""
        return await asyncio.to_thread(self._store.forget, user_id)

    async def _append(self, batches: list[list[LoggedEvent]]) -> list[int | BaseException]:
        return [*await asyncio.to_thread(self._store.append, *batches)]


def event_prefix(place: int, events: tuple[LiveEvent, ...]) -> str:
    """Prefix of the field names of one event in an error; a lone event has none."""
    return f"{place}." if len(events) > 1 else ""


def check_event(event: SessionEvent, prefix: str) -> None:
    """Raises a `RequestError` for an event without the item or the query that its kind needs."""
    if event.item_id is None and event.event != "search":
        raise RequestError(f"{prefix}item_id", f"is missing; a {event.event} needs an item")
    if event.event == "search" and not (event.query or "").strip():
        raise RequestError(f"{prefix}query", "is missing; a search needs its text")


def check_time(event: SessionEvent, prefix: str, now_us: int) -> None:
    """Raises a `RequestError` for an event dated more than a day ahead: it would make all others look old."""
    if (event.ts or 0) > now_us + MAX_FUTURE_US:
        raise RequestError(f"{prefix}ts", "lies more than a day in the future; expected microseconds since 1970")


def _logged(event: LiveEvent, now_us: int) -> LoggedEvent:
    logged = Event(event.event, event.item_id, event.query, event.ts or now_us, event.value)
    return LoggedEvent(event.event_id or uuid.uuid4().hex, event.user_id, logged, event.session_id, event.request_id)
