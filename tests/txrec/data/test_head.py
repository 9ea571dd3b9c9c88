"""Head of a catalogue."""

import numpy as np

from txrec.data.head import head_of


def test_the_head_is_a_fifth_of_the_products_with_events_rounded_up() -> None:
    counts = np.array([0, 3, 9, 0, 1, 2, 9, 4])  # six products with events: two of them are the head
    assert np.flatnonzero(head_of(counts)).tolist() == [2, 6]


def test_of_equally_popular_products_the_first_ones_are_the_head() -> None:
    assert np.flatnonzero(head_of(np.full(5, 7))).tolist() == [0]


def test_a_catalogue_without_events_has_no_head() -> None:
    assert not head_of(np.zeros(4, np.int64)).any()
