"""Live window: the latest events of all replicas, read from their store, from which live counts are made.

Every replica reads the same log in the same order, so all count the same, whatever their number and whenever they
started. The window is bounded by the number of events and by their age; events of a forgotten user leave it.
"""

import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from txrec.index.live_log import ENGAGEMENTS, LiveEvent
from txrec.online.history import HistoryStore
from txrec.schema import DAY_US
from txrec.text import normalise

MAX_EVENTS = 200_000
"""Events of the window; some 40 MB."""
PAGE = 10_000
"""Events that are read at once."""


@dataclass(frozen=True)
class LiveStatistics:
    """Size of a live window.

    Attributes:
        num_events: events that it holds.
        num_items: products that they are about.
        num_queries: queries that led to them.
        newest_us: time of the newest one, microseconds since 1970 UTC; 0 = none.
        num_bytes: memory of the events.
    """

    num_events: int = 0
    num_items: int = 0
    num_queries: int = 0
    newest_us: int = 0
    num_bytes: int = 0


class LiveWindow:
    """The latest engagements with products.

    Args:
        store: the events of all replicas.
        days: length of the window, counted back from the latest event.
        max_events: events of the log that are looked at, counted from its end.
    """

    def __init__(self, store: HistoryStore, days: float, max_events: int = MAX_EVENTS) -> None:
        self._store = store
        self._span_us = int(days * DAY_US)
        self._max_events = max_events
        self._position = 0
        self._removals = 0
        self._events: deque[tuple[int, LiveEvent]] = deque()
        self._items: Counter[str] = Counter()
        self._queries: Counter[str] = Counter()
        self._num_bytes = 0
        self.version = 0
        """Changes whenever the events do."""
        self.statistics = LiveStatistics()
        """As of the last refresh."""

    def refresh(self) -> None:
        """Reads what is new; everything again where events were removed.

        Raises:
            UnavailableError: the store cannot be read; the window stays as it is.
        """
        changed = False
        while True:
            page = self._store.events_after(self._position, PAGE, self._max_events)
            if page.removals != self._removals:
                self._removals, self._position = page.removals, 0
                self._events.clear()
                self._items.clear()
                self._queries.clear()
                self._num_bytes = 0
                changed = True
                continue
            for number, logged in page.events:
                self._position = number
                event = logged.event
                if event.item_id is not None and event.event in ENGAGEMENTS:
                    query = normalise(event.query or "")
                    kind = ENGAGEMENTS[event.event]
                    self._append(number, LiveEvent(logged.user_id, event.item_id, query, kind, event.ts or 0))
                    changed = True
            if len(page.events) < PAGE:
                break
        while self._events and self._events[0][0] <= self._position - self._max_events:
            self._pop()
        self.version += changed
        newest = max((event.ts for event in self._all()), default=0) if changed else self.statistics.newest_us
        self.statistics = LiveStatistics(
            len(self._events), len(self._items), len(self._queries), newest, self._num_bytes
        )

    def events(self) -> list[LiveEvent]:
        """The events of the window."""
        latest = max((event.ts for event in self._all()), default=0)
        return [event for event in self._all() if event.ts > latest - self._span_us]

    def _append(self, number: int, event: LiveEvent) -> None:
        self._events.append((number, event))
        self._items[event.item_id] += 1
        if event.query:
            self._queries[event.query] += 1
        self._num_bytes += _size(number, event)

    def _pop(self) -> None:
        number, event = self._events.popleft()
        self._num_bytes -= _size(number, event)
        for counter, key in ((self._items, event.item_id), (self._queries, event.query)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def _all(self) -> Iterator[LiveEvent]:
        return (event for _, event in self._events)


def _size(number: int, event: LiveEvent) -> int:
    """Bytes of an event in memory."""
    return sum(map(sys.getsizeof, (number, event, *event)))
