"""Live counts: what people do now is added to the fitted counts, on their scale, and nothing is counted twice."""

from pathlib import Path

import numpy as np
import pytest

from txrec.index.live_log import LiveEvent, LiveLog
from txrec.index.source import SourceQuery
from txrec.recommender.catalogue import ItemChange
from txrec.recommender.page_types import PageRequest
from txrec.recommender.recommender import Recommender, Request
from txrec.schema import DAY_US, EventKind

CLICK = int(EventKind.CLICK)


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def after(recommender: Recommender, minutes: float) -> int:
    return recommender.bundle.meta.end_ts + int(minutes * 60e6)


def clicks(recommender: Recommender, item_id: str, query: str = "", count: int = 4) -> list[LiveEvent]:
    return [LiveEvent(f"v{n}", item_id, query, CLICK, after(recommender, 5 + n)) for n in range(count)]


def by_clicks(recommender: Recommender, query: str) -> str:
    """The first proposal of the query-click source."""
    candidates = recommender.retrieve([Request(query=query)])[0]
    ranks = candidates.ranks[:, recommender.retriever.names.index("query_clicks")]
    return str(recommender.catalogue.item_ids[candidates.item_idx[ranks == 1][0]])


def test_a_query_never_seen_before_is_answered_by_what_people_clicked_for_it(recommender: Recommender) -> None:
    request = Request(query="zorgblatt")
    before = recommender.recommend([request])[0]
    assert "query_clicks" not in {source for item in before.items for source in item.sources}
    live = recommender.with_live(clicks(recommender, "sku-031", "zorgblatt"))
    first = live.recommend([Request(query="zorgblatt", explain=True)])[0].items[0]
    assert first.item_id == "sku-031"
    assert "query_clicks" in first.sources
    assert any("zorgblatt" in reason for reason in first.reasons)
    assert by_clicks(live, "zorgblat") == "sku-031", "other spellings lead there too"
    assert live.search_page(request, PageRequest()).items[0].item_id == "sku-031"
    after_all = recommender.recommend([request])[0]
    assert [item.item_id for item in after_all.items] == [item.item_id for item in before.items]


def test_queries_that_several_users_clicked_after_are_suggested_with_fitted_and_live_clicks(
    recommender: Recommender,
) -> None:
    alone = [LiveEvent("v", "sku-031", "of one alone", CLICK, after(recommender, 1))] * 3
    live = recommender.with_live(
        [*clicks(recommender, "sku-031", "zorgblatt"), *clicks(recommender, "sku-011", "lamp"), *alone]
    )
    fitted = {one.text: one.weight for one in recommender.suggestions() if one.kind == "query"}
    weights = {one.text: one.weight for one in live.suggestions(live=True)}
    assert set(weights) == {"zorgblatt", "lamp"}
    assert weights["lamp"] - fitted["lamp"] == pytest.approx(weights["zorgblatt"] - 1.0, rel=1e-3)
    assert recommender.suggestions(live=True) == []


def test_popularity_and_co_visits_follow_live_events(recommender: Recommender) -> None:
    index = recommender.catalogue.idx_of
    cold = "sku-063"
    partner = recommender.similar(cold, 5).items[-1].item_id
    events = clicks(recommender, cold, count=200)
    together = [LiveEvent(one.user_id, partner, "", CLICK, one.ts + 1) for one in events]
    live = recommender.with_live([*events, *together])
    popularity = live.retriever.sources["popularity"]
    nobody = SourceQuery([""], np.zeros((1, 1), np.float32), [np.empty(0, np.int32)])
    assert popularity.search(nobody, 2, [None]).item_idx[0].tolist() == sorted((index[cold], index[partner]))
    affinity = live.retriever.sources["covisitation"].affinities(index[cold], np.array([index[partner]], np.int32))
    assert affinity[0] > 0
    assert live.similar(cold, 5).items[0].item_id == partner
    assert live.ranking_features.activity.plain[index[cold]] == 200


def test_alternatives_do_not_follow_popularity(recommender: Recommender) -> None:
    before = [item.item_id for item in recommender.similar("sku-001", 5).items]
    last = recommender.similar("sku-001", 40).items[-1].item_id
    live = recommender.with_live(clicks(recommender, last, count=200))
    assert last not in before
    assert last in [item.item_id for item in live.recommend([Request(user_id="nobody", top_k=5)])[0].items]
    assert [item.item_id for item in live.similar("sku-001", 5).items] == before


def test_events_that_the_training_log_holds_and_unknown_products_do_not_count(recommender: Recommender) -> None:
    old = [LiveEvent("v", "sku-001", "", CLICK, recommender.ranking_features.activity.end_us)]
    assert recommender.with_live(old) is recommender
    assert recommender.with_live([LiveEvent("v", "no such product", "", CLICK, after(recommender, 9))]) is recommender
    assert recommender.with_live(clicks(recommender, "sku-001")).with_live([]) is recommender


def test_later_events_weigh_more_and_old_bundles_are_not_drowned(recommender: Recommender) -> None:
    index = recommender.catalogue.idx_of
    slow = recommender.ranking_features.activity.slow
    start = after(recommender, 0) + 400 * DAY_US  # the shop was not served for more than a year
    events = [LiveEvent("v", "sku-001", "", CLICK, start), LiveEvent("w", "sku-002", "", CLICK, start + 30 * DAY_US)]
    log = LiveLog.of(events, index, after(recommender, 0), 30.0, slow)
    assert log is not None
    assert log.log.weights(30.0).tolist() == [1.0, 2.0]


def test_live_counts_are_replaced_not_added_up_and_survive_changes_of_products(recommender: Recommender) -> None:
    index = recommender.catalogue.idx_of["sku-001"]
    events = clicks(recommender, "sku-001")
    once = recommender.with_live(events)
    twice = once.with_live(events)
    assert once.ranking_features.activity.slow[index] == twice.ranking_features.activity.slow[index]
    changed = once.with_changes([ItemChange("new-1", {"title": "Something"}, first_seq=1)]).with_live(
        [*events, *clicks(recommender, "new-1", "fresh thing")]
    )
    assert changed.ranking_features.activity.slow[index] == once.ranking_features.activity.slow[index]
    assert by_clicks(changed, "fresh stuff") == "new-1"
