"""The rules of the domain that every module shares."""

import numpy as np
import pytest

from txrec.errors import ConfigError
from txrec.schema import DAY_US, ITEM_EVENTS, EventKind, is_engagement, parse_instant


def test_searches_impressions_and_padding_are_no_engagements() -> None:
    kinds = np.array([0, *EventKind], np.int8)
    assert {EventKind(kind).label for kind in kinds[is_engagement(kinds)]} == set(ITEM_EVENTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", DAY_US),
        ("1970-01-01T00:00:00.000001", 1),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1_000_000),
    ],
)
def test_an_instant_is_microseconds_utc(text: str, expected: int) -> None:
    assert parse_instant(text, "prepare.latest_time") == expected


def test_a_bad_instant_names_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"prepare\.latest_time = 'soon': expected ISO 8601"):
        parse_instant("soon", "prepare.latest_time")
