"""User history assembly: stored events of a bundle, live events of the store and the session become one history."""

import math
from collections.abc import Sequence
from dataclasses import replace

from serve.types import HistoryItem, ServingRequest, SupportsRecommend
from txrec.recommender.types import Event, Request


def with_history(recommender: SupportsRecommend, request: ServingRequest) -> Request:
    """The request with the user's whole history in `events`.

    Without live events and session it stays as it is: the recommender then reads the stored history without
    converting it.
    """
    later = (*request.live, *request.request.events)
    if request.request.user_id is None or not later:
        return replace(request.request, events=later) if later else request.request
    return replace(request.request, events=merge_histories(recommender.history(request.request.user_id), later))


def merge_histories(stored: tuple[Event, ...], later: Sequence[Event]) -> tuple[Event, ...]:
    """Stored and later events as one history in time order.

    What both hold (the model was trained on an export of the later ones) counts once. Events without a time keep their
    place: after all that is stored.
    """
    known = {(event.ts, event.event, event.item_id) for event in stored if event.ts}
    fresh = tuple(event for event in later if (event.ts, event.event, event.item_id) not in known)
    if not all(event.ts for event in stored):
        return stored + fresh
    return tuple(sorted(stored + fresh, key=lambda event: event.ts or math.inf))


def history_items(
    recommender: SupportsRecommend, user_id: str | None, live: Sequence[Event]
) -> tuple[HistoryItem, ...]:
    """A user's stored events (None = none) merged with live ones, oldest first, with titles."""
    catalogue = recommender.catalogue
    events = merge_histories(recommender.history(user_id) if user_id is not None else (), live)
    return tuple(HistoryItem(event, catalogue.titles[catalogue.idx_of.get(event.item_id or "", 0)]) for event in events)
