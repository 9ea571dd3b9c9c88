"""Usual categories of users: affinity of events to the user's own past, next to a count by hand."""

import numpy as np
import polars as pl
import pytest

from txrec.loop.drift.usual_categories import affinities, path


def test_affinity_is_the_share_of_the_category_in_events_of_so_many_days_before() -> None:
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "user": rng.integers(4, size=200),
            "category": rng.choice(["a", "b", "c"], size=200),
            "day": rng.integers(12, size=200),
        }
    )
    found = affinities(events, (1, 3))
    rows = list(events.iter_rows(named=True))
    assert found.height == events.unique().height
    for cell in found.iter_rows(named=True):
        for horizon in (1, 3):
            past = [
                one["category"] for one in rows if one["user"] == cell["user"] and one["day"] <= cell["day"] - horizon
            ]
            expected = past.count(cell["category"]) / len(past) if past else None
            assert cell[f"affinity@{horizon}"] == (None if expected is None else pytest.approx(expected))


def test_events_without_a_category_are_left_out() -> None:
    events = pl.DataFrame({"user": [1, 1, 1], "category": ["a", None, "a"], "day": [0, 0, 1]})
    found = affinities(events, (1,)).sort("day")
    assert found["affinity@1"].to_list() == [None, 1.0]


def test_a_path_is_the_whole_list_and_null_where_there_is_none() -> None:
    assert path(pl.Series([["home", "lamps"], [], None])).to_list() == ["home > lamps", None, None]
    assert path(pl.Series(["lamps", None])).to_list() == ["lamps", None]
