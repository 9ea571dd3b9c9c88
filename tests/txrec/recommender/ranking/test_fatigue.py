"""Fatigue: products shown too often without engagement sink; nothing else moves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.fatigue import Trial
from txrec.config import ShopConfig
from txrec.model.history_features import History
from txrec.recommender.ranking.fatigue import fatigued_items
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Event, Request
from txrec.schema import EventKind
from txrec.simulator import Shop


def history(*events: tuple[int, EventKind]) -> History:
    size = len(events)
    items, kinds = [item for item, _ in events], [kind for _, kind in events]
    return History(
        np.array(items, np.int32), np.zeros(size, np.int32), np.array(kinds, np.int8), np.zeros(size, np.int64)
    )


def test_showings_count_from_the_last_engagement_on() -> None:
    shown, click = EventKind.IMPRESSION, EventKind.CLICK
    events = [(1, shown), (2, shown), (1, shown), (3, shown), (3, click), (3, shown), (2, shown), (0, EventKind.SEARCH)]
    assert fatigued_items(history(*events), 2).tolist() == [1, 2]
    assert fatigued_items(history(*events), 1).tolist() == [1, 2, 3]
    assert fatigued_items(history(*events, (2, click)), 2).tolist() == [1]
    assert fatigued_items(history(), 1).tolist() == []


def showings(item_id: str, times: int) -> tuple[Event, ...]:
    return tuple(Event("impression", item_id, ts=number + 1) for number in range(times))


def test_a_product_shown_twice_stands_behind_all_others_until_it_is_clicked(tiny_bundle: Path) -> None:
    recommender = Recommender.open(tiny_bundle)

    def order(events: tuple[Event, ...], **fields: Any) -> list[str]:
        request = replace(Request(query="lamp", top_k=200, events=events, now_us=10**15), **fields)
        return [item.item_id for item in recommender.recommend([request])[0].items]

    first = order(())[0]
    plain = order(showings(first, 2))
    assert order(showings(first, 2), max_showings=3) == plain
    sunk = order(showings(first, 2), max_showings=2)
    assert sunk[-1] == first
    assert sunk[:-1] == [item_id for item_id in plain if item_id != first]
    clicked = (*showings(first, 2), Event("click", first, ts=3))
    assert order(clicked, max_showings=2) == order(clicked)


def test_products_that_were_shown_count_as_seen(tiny_bundle: Path) -> None:
    recommender = Recommender.open(tiny_bundle)
    (slate,) = recommender.recommend([Request(query="lamp", top_k=1)])
    first = slate.items[0].item_id
    request = Request(query="lamp", top_k=200, events=showings(first, 1), exclude_seen=True, now_us=10**15)
    assert first not in {item.item_id for item in recommender.recommend([request])[0].items}


def test_sinking_late_gains_clicks_of_users_whom_repetition_bores_and_costs_those_of_others() -> None:
    shop = Shop.generate(ShopConfig(num_items=120, num_users=40, num_events=2_000))
    bored, others = (Trial(shop, boredom, days=6, num_visits=120) for boredom in (0.5, 1.0))
    never, soon, late = (bored.clicks(setting).mean() for setting in (0, 2, 5))
    assert soon < never < late, "what sinks after two showings is still better than what follows it"
    assert others.clicks(5).mean() < others.clicks(0).mean()
    factors = bored.learned()
    assert factors[0] == 1.0
    assert min(factors) < 0.5
    assert bored.clicks(0, factors).mean() > late
