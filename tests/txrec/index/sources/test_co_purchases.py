"""Co-purchases and trends: baskets from purchases alone, and products with more users than usual."""

import numpy as np

from txrec.index.live_log import LiveEvent, LiveLog
from txrec.index.sources.co_purchases import Baskets, CoPurchases
from txrec.index.sources.trends import Trends
from txrec.recommender.lists.lists import purchase_intervals
from txrec.schema import DAY_US, EventKind

BUY, VIEW = int(EventKind.PURCHASE), int(EventKind.VIEW)
HOUR_US = DAY_US // 24


def baskets(*events: tuple[int, int, int, float]) -> Baskets:
    """Of (user, item, kind, hour)."""
    user, item, kind, hour = zip(*events, strict=True)
    ts = np.array([int(one * HOUR_US) + 1 for one in hour], np.int64)
    return Baskets.of_purchases(np.array(user, np.int64), np.array(item, np.int32), np.array(kind, np.int8), ts)


def test_a_basket_holds_the_purchases_of_one_user_without_a_long_gap_and_no_views() -> None:
    found = baskets((1, 1, BUY, 0), (1, 2, BUY, 1), (1, 3, VIEW, 1), (1, 4, BUY, 48), (2, 5, BUY, 48), (1, 2, BUY, 1.5))
    by_basket = [set(found.item_idx[found.basket == number].tolist()) for number in np.unique(found.basket)]
    assert by_basket == [{1, 2}, {4}, {5}]
    assert len(baskets((1, 3, VIEW, 0)).item_idx) == 0


def test_what_is_bought_with_everything_stands_behind_what_goes_with_the_product() -> None:
    events = [(user, 9, BUY, 0.0) for user in range(40)]  # 9 is in every basket
    events += [(user, 1, BUY, 0.0) for user in range(6)] + [(user, 2, BUY, 0.0) for user in range(5)]
    events += [(user, 3, BUY, 0.0) for user in (0,)]
    counted = CoPurchases(baskets(*events), 10)
    found, counts = counted.together(1, min_count=2)
    assert found.item_idx.tolist() == [2, 9]
    assert counts.tolist() == [5, 6]
    assert counted.together(1, 2, exponent=0.0)[0].item_idx.tolist() == [9, 2], "by common baskets alone"
    assert 3 in counted.together(1, min_count=1)[0].item_idx
    assert len(counted.together(99)[0].item_idx) == 0


def test_live_baskets_are_added_to_the_fitted_ones() -> None:
    first = CoPurchases(baskets((1, 1, BUY, 0), (1, 2, BUY, 0), (2, 1, BUY, 0), (2, 2, BUY, 0)), 3)
    live = CoPurchases(baskets((1, 1, BUY, 0), (1, 2, BUY, 0), (2, 1, BUY, 0), (2, 4, BUY, 0)), 4)
    found, counts = first.with_live(live).together(1, min_count=1)
    assert dict(zip(found.item_idx.tolist(), counts.tolist(), strict=True)) == {2: 3.0, 4: 1.0}


def test_usual_intervals_are_medians_between_purchases_of_one_user() -> None:
    ts = np.array([1, 11, 22, 31, 1, 31, 5]) * DAY_US
    user, item = np.array([1, 1, 1, 1, 2, 2, 3]), np.array([1, 1, 1, 1, 2, 2, 1], np.int32)
    days = purchase_intervals(user, item, np.full(7, BUY, np.int8), ts, 3)
    assert days[1] == 10.0
    assert np.isnan(days[[0, 2, 3]]).all(), "one gap is not enough"


def live(*events: tuple[str, str, float]) -> LiveLog:
    """Of (user, product, hour), with p1 popular in the training log."""
    index = {f"p{number}": number for number in range(1, 6)}
    found = [LiveEvent(user, item, "", VIEW, int(hour * HOUR_US)) for user, item, hour in events]
    log = LiveLog.of(found, index, 0, 30.0, np.array([0, 500, 5, 5, 5, 5], np.float32))
    assert log is not None
    return log


def test_a_product_trends_with_more_users_than_usual_not_with_many_as_ever_or_one_who_clicks_often() -> None:
    events = [(f"u{n}", "p1", 20 + n / 100) for n in range(40)]
    events += [(f"v{n}", "p2", 21 + n / 100) for n in range(8)]
    events += [("bot", "p3", 21 + n / 100) for n in range(50)]
    events += [(f"w{n}", "p4", 2.0) for n in range(8)]  # it rose yesterday
    rising = Trends.of(live(*events)).rising()
    assert rising.item_idx.tolist() == [2]
