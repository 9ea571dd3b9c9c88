"""User history of a request: stored, live and session events as one, in dense indices for the model."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from txrec import schema
from txrec.data.prepared import Sequences
from txrec.errors import RequestError
from txrec.model.history_features import History
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.retrieval.retriever import NO_HISTORY, BatchQueryVectors
from txrec.recommender.types import Event, Request
from txrec.schema import EVENT_CODES, EventKind
from txrec.text import normalise

HISTORY_TYPES = (np.int32, np.int32, np.int8, np.int64)
"""Types of the columns of `History`."""


class NotedHistory(NamedTuple):
    """History of a request, with notes on omitted events."""

    history: History
    notes: tuple[str, ...] = ()


def resolve_history(stored: Sequence[Event], live: Sequence[Event], session: Sequence[Event]) -> tuple[Event, ...]:
    """Stored, live and session events of a user as one history in time order.

    An event that is both stored and live (the model was trained on an export of the live ones) counts once. Events
    without a time keep their place after all stored ones.
    """
    stored_keys = {(event.ts, event.event, event.item_id) for event in stored if event.ts}
    fresh = [event for event in (*live, *session) if (event.ts, event.event, event.item_id) not in stored_keys]
    if not all(event.ts for event in stored):
        return (*stored, *fresh)
    return tuple(sorted((*stored, *fresh), key=lambda event: event.ts or math.inf))


class StoredHistories:
    """Last events of the users of a bundle."""

    def __init__(self, users: Sequences) -> None:
        self._users = users

    @cached_property
    def rows(self) -> dict[str, int]:
        """User id to row."""
        return {str(user): row for row, user in enumerate(self._users.user_id)}

    def of(self, user_id: str | None) -> History | None:
        """A user's events, oldest first; None for an unknown user."""
        row = self.rows.get(user_id) if user_id is not None else None
        if row is None:
            return None
        users = self._users
        own = slice(int(users.offsets[row]), int(users.offsets[row + 1]))
        return History(users.item_idx[own], users.query_idx[own], users.event[own], users.ts[own])

    def events(self, user_id: str, catalogue: Catalogue, texts: Sequence[str]) -> tuple[Event, ...]:
        """A user's events in the shop's words, oldest first; empty for an unknown user.

        Args:
            user_id: raw id.
            catalogue: has the items.
            texts: queries by dense index.
        """
        history = self.of(user_id)
        if history is None:
            return ()
        return tuple(
            Event(
                event=EventKind(int(kind)).label,
                item_id=str(catalogue.item_ids[item]) if item else None,
                query=texts[query] if query else None,
                ts=int(ts) or None,
            )
            for item, query, kind, ts in zip(
                history.item_idx, history.query_idx, history.event, history.ts, strict=True
            )
        )

    def length(self, user_id: str) -> int:
        """Stored events of a user, 0 for an unknown one."""
        row = self.rows.get(user_id)
        return 0 if row is None else int(self._users.offsets[row + 1] - self._users.offsets[row])

    def of_request(self, request: Request, catalogue: Catalogue, batch_vectors: BatchQueryVectors) -> NotedHistory:
        """Events of a request, or the stored ones of its user, followed by the cart.

        Args:
            request: the request.
            catalogue: dense indices of its items.
            batch_vectors: takes up the texts of its searches.

        Raises:
            RequestError: an event of an unknown kind; names the field.
        """
        if request.events:
            history, notes = from_events(request.events, catalogue, batch_vectors, "events")
        else:
            history, notes = self.of(request.user_id) or NO_HISTORY, ()
        if not request.cart:
            return NotedHistory(history, notes)
        last = int(history.ts[-1]) if len(history.ts) else 0
        events = [Event("cart", item_id=item_id, ts=request.now_us or last) for item_id in request.cart]
        cart, more = from_events(events, catalogue, batch_vectors, "cart")
        return NotedHistory(_joined(history, cart), (*notes, *more))


def from_events(
    events: Sequence[Event], catalogue: Catalogue, batch_vectors: BatchQueryVectors, field: str
) -> NotedHistory:
    """Events in dense indices; those on unknown items are left out and noted.

    Args:
        events: oldest first.
        catalogue: dense indices of the items.
        batch_vectors: takes up the texts of the searches.
        field: field of the request that holds the events, for messages.

    Raises:
        RequestError: an event of an unknown kind; names the field.
    """
    rows: list[tuple[int, int, int, int]] = []
    notes: list[str] = []
    for place, event in enumerate(events):
        kind = EVENT_CODES.get(event.event)
        if kind is None:
            allowed = ", ".join(EVENT_CODES)
            raise RequestError(f"{field}.{place}.event", f"unknown event {event.event!r}; expected one of {allowed}")
        item = catalogue.idx_of.get(event.item_id, schema.PAD) if event.item_id else schema.PAD
        query = batch_vectors.row(normalise(event.query or ""))
        if event.item_id and item == schema.PAD:
            notes.append(f"{field}: {event.item_id} is not in the catalogue, ignored")
        if item != schema.PAD or (query != schema.PAD and not event.item_id):
            rows.append((item, query, kind, event.ts or 0))
    if not rows:
        return NotedHistory(NO_HISTORY, tuple(notes))
    columns = zip(zip(*rows, strict=True), HISTORY_TYPES, strict=True)
    return NotedHistory(History(*(np.array(column, kind) for column, kind in columns)), tuple(notes))


def _joined(first: History, second: History) -> History:
    return History(
        np.append(first.item_idx, second.item_idx),
        np.append(first.query_idx, second.query_idx),
        np.append(first.event, second.event),
        np.append(first.ts, second.ts),
    )
