"""User history assembly: stored events of a bundle, live events of the store and the session become one history."""

from collections.abc import Sequence
from dataclasses import replace

from serve.types import HistoryItem, ServingRequest, SupportsRecommend
from txrec.recommender.retrieval.request_history import resolve_history
from txrec.recommender.types import Event, Request


def with_history(recommender: SupportsRecommend, request: ServingRequest) -> Request:
    """The request with the user's whole history in `events`.

    Without live events and session it stays as it is: the recommender then reads the stored history without
    converting it.
    """
    live, session = request.live, request.request.events
    if not live and not session:
        return request.request
    if request.request.user_id is None:
        return replace(request.request, events=(*live, *session))
    stored = recommender.history(request.request.user_id)
    return replace(request.request, events=resolve_history(stored, live, session))


def history_items(
    recommender: SupportsRecommend, user_id: str | None, live: Sequence[Event]
) -> tuple[HistoryItem, ...]:
    """A user's stored events (None = none) merged with live ones, oldest first, with titles."""
    catalogue = recommender.catalogue
    events = resolve_history(recommender.history(user_id) if user_id is not None else (), live, ())
    return tuple(HistoryItem(event, catalogue.titles[catalogue.idx_of.get(event.item_id or "", 0)]) for event in events)
