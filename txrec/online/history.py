"""History store interface: live events and impressions, durable when acknowledged and visible to the next request.

Implementations: `sqlite_history.py` for the replicas of one machine, `redis_history.py` for several;
`stores.open_history` opens the one that a configuration names. An event is identified by its id: sending it twice
changes nothing. Impressions are stored next to events, so that the two can be joined by request id. A forgotten user
stays forgotten: the history that a bundle still holds about them is not used any more, and no impression of theirs is
logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from txrec.recommender.types import Event

MAX_EVENTS = 500
"""Events of a user that one request reads, latest first to go in."""
MAX_SLATES = 200
"""Answered slates of a user that one request reads, latest first to go in."""
IMPRESSIONS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),  # joins the events that followed
        pa.field("variant", pa.string(), nullable=False),  # production or canary was shown, shadow was not
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("user_id", pa.string()),  # null for an anonymous user
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("query", pa.string()),
        pa.field("fallback", pa.string()),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),  # best first
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("overlap", pa.float32()),  # of a shadow slate: its share of items that were really shown
        pa.field("took_ms", pa.float32()),  # time to the answer; null of a shadow slate
        pa.field("sources", pa.list_(pa.string())),  # candidate source of each item, in the same order
        pa.field("exploration", pa.string()),  # `exploration_log.Record` as JSON; null where none was possible
        pa.field("placement", pa.string()),  # name of the place; null = the request named none
        pa.field("experiments", pa.list_(pa.string())),  # `experiment:variant` of each one that the user takes part in
        pa.field("rules", pa.list_(pa.string())),  # merchandising rules that acted on it
        pa.field("teams", pa.list_(pa.int8())),  # of interleaved items: 0 = control's, 1 = the other's, -1 = of both
    ]
)


@dataclass(frozen=True)
class Impression:
    """A slate that was answered, or that a shadow model would have answered.

    Attributes:
        request_id: of the slate.
        ts: microseconds since 1970 UTC.
        variant: `production`, `canary` or `shadow`.
        model_version: of the bundle that made it.
        item_ids: raw ids, best first.
        scores: in the same order.
        user_id: None for an anonymous user.
        query: search text.
        fallback: reason of a simpler answer.
        overlap: of a shadow slate: share of its items that are in the slate that was answered, 0 to 1.
        took_ms: time to the answer, milliseconds.
        sources: candidate source of each item, in the same order; empty = unknown.
        exploration: how exploration made the slate, as JSON; None where it could not have changed it.
        placement: name of the place where the slate is shown; None = the request named none.
        experiments: `experiment:variant` of every experiment that the user takes part in.
        rules: merchandising rules that acted on it.
        teams: of the items of an interleaved slate: 0 = the control's, 1 = the other one's, -1 = both had it next.
    """

    request_id: str
    ts: int
    variant: str
    model_version: str
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    user_id: str | None = None
    query: str | None = None
    fallback: str | None = None
    overlap: float | None = None
    took_ms: float | None = None
    sources: tuple[str, ...] = ()
    exploration: str | None = None
    placement: str | None = None
    experiments: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    teams: tuple[int, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """Agreement of a shadow model with the slates that were shown: number of requests, mean share of common items."""

    num_requests: int = 0
    mean: float | None = None


@dataclass(frozen=True)
class LoggedEvent:
    """An event as a shop reports it.

    Attributes:
        event_id: the same id again is the same event.
        user_id: the user.
        event: the event; `ts` is set.
        session_id: of the shop.
        request_id: of the slate that the event came from.
    """

    event_id: str
    user_id: str
    event: Event
    session_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class LiveHistory:
    """Stored events of a user.

    Attributes:
        events: the user's latest events, oldest first.
        forgotten: whether the user asked to be forgotten; older sources about them must not be used.
    """

    events: tuple[Event, ...] = ()
    forgotten: bool = False


@dataclass(frozen=True)
class ShownSlate:
    """A slate that was answered to a user.

    Attributes:
        ts: microseconds since 1970 UTC.
        item_ids: raw ids, best first.
    """

    ts: int
    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class EventPage:
    """A part of the event log.

    Attributes:
        events: events with their numbers, ascending.
        removals: changes whenever events are removed; a reader that kept some reads all of them again.
    """

    events: tuple[tuple[int, LoggedEvent], ...]
    removals: int


class HistoryStore(Protocol):
    """Keeps events. Every method may raise `UnavailableError`; nothing that `append` acknowledged is ever lost."""

    def append(self, *batches: Sequence[LoggedEvent]) -> list[int]:
        """Stores batches of events durably, all or none, before it returns; how many of each were new."""
        ...

    def recent(self, user_id: str, limit: int = MAX_EVENTS) -> LiveHistory:
        """A user's latest events; every append that has returned is seen."""
        ...

    def events_after(self, number: int, limit: int, newest: int) -> EventPage:
        """Events in the order in which they were stored, of all users.

        Args:
            number: of the last event that the reader has; 0 = none.
            limit: most events to return.
            newest: length of the window of event numbers, counted back from the last one.
        """
        ...

    def forget(self, user_id: str) -> int:
        """Removes a user's events and impressions and marks them as forgotten; the number of removed events."""
        ...

    def prune(self, keep_since_us: int) -> int:
        """Removes every user's events from before a time, microseconds since 1970 UTC; the number of removed events."""
        ...

    def log_impressions(self, impressions: Sequence[Impression], keep_since_us: int = 0) -> None:
        """Stores impressions, those of forgotten users excepted, and drops those from before a time."""
        ...

    def impressions(self, since_us: int = 0) -> pa.Table:
        """All impressions from a time on as IMPRESSIONS, in time order."""
        ...

    def slates_of(self, user_id: str, limit: int = MAX_SLATES) -> tuple[ShownSlate, ...]:
        """The latest slates that were answered to a user, oldest first; those of shadow models are left out."""
        ...

    def overlap(self, model_version: str) -> Overlap:
        """Agreement of a version's shadow slates with the slates that were shown."""
        ...

    def export(self, since_us: int = 0) -> pa.Table:
        """All events from a time on as schema.EVENTS, in time order: the next training's log."""
        ...

    def close(self) -> None:
        """Releases files and connections."""
        ...


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Impressions as IMPRESSIONS."""
    return pa.Table.from_pylist(rows, schema=IMPRESSIONS)
