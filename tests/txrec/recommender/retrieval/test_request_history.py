"""Stored, live and session events as one history."""

from txrec.recommender.retrieval.request_history import resolve_history
from txrec.recommender.types import Event

STORED = (Event("click", "a", ts=10), Event("click", "b", ts=20))


def test_events_of_all_three_come_in_time_order() -> None:
    live, session = [Event("click", "c", ts=15)], [Event("cart", "d", ts=30)]
    assert [event.item_id for event in resolve_history(STORED, live, session)] == ["a", "c", "b", "d"]


def test_a_live_event_that_is_stored_already_counts_once() -> None:
    merged = resolve_history(STORED, [Event("click", "b", query="lamp", ts=20), Event("cart", "b", ts=20)], ())
    assert [(event.event, event.item_id) for event in merged] == [("click", "a"), ("click", "b"), ("cart", "b")]
    assert merged[1].query is None


def test_events_without_a_time_come_after_all_stored_ones_in_their_order() -> None:
    merged = resolve_history(STORED, [Event("click", "z", ts=5)], [Event("click", "y"), Event("click", "x")])
    assert [event.item_id for event in merged] == ["z", "a", "b", "y", "x"]


def test_stored_events_without_times_keep_their_order_before_later_ones() -> None:
    stored = (Event("click", "b"), Event("click", "a"))
    assert [event.item_id for event in resolve_history(stored, [Event("click", "c", ts=1)], ())] == ["b", "a", "c"]
