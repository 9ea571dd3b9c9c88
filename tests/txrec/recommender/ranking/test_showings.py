import numpy as np

from txrec.model.history_features import History
from txrec.recommender.ranking.showings import fatigue_factor, num_showings
from txrec.schema import EventKind

SHOWN, CLICK = EventKind.IMPRESSION, EventKind.CLICK


def history(*events: tuple[int, EventKind, int]) -> History:
    items, kinds, ts = (np.array(column) for column in zip(*events, strict=True))
    return History(items.astype(np.int32), np.zeros(len(items), np.int32), kinds.astype(np.int8), ts.astype(np.int64))


def counts(*args: object) -> dict[int, int]:
    items, number = num_showings(*args)  # type: ignore[arg-type]
    return dict(zip(items.tolist(), number.tolist(), strict=True))


def test_showings_count_from_the_last_engagement_on() -> None:
    own = history((1, SHOWN, 1), (1, CLICK, 2), (1, SHOWN, 3), (1, SHOWN, 4), (2, SHOWN, 5), (3, CLICK, 6))
    assert counts(own) == {1: 2, 2: 1, 3: 0}


def test_slates_of_the_server_count_too_and_nothing_counts_twice() -> None:
    own = history((1, SHOWN, 10), (1, SHOWN, 20), (2, CLICK, 25))
    logged = [("a", 10), ("a", 20), ("a", 30), ("b", 20), ("b", 30), ("b", 40), ("gone", 40)]
    assert counts(own, logged, {"a": 1, "b": 2}) == {1: 3, 2: 2}


def test_the_factor_of_many_showings_is_that_of_the_last_one_known() -> None:
    own = history((1, SHOWN, 1), (3, SHOWN, 1), (3, SHOWN, 2), (3, SHOWN, 3))
    factors = fatigue_factor(num_showings(own), np.array([1, 2, 3], np.int32), (1.0, 0.5, 0.25))
    assert factors.tolist() == [0.5, 1.0, 0.25]
