import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from tests.tiny import START_US
from txrec.errors import RequestError, UnknownItemError
from txrec.model.ranker import HAS_QUERY
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.ranking import Ranked, diversify
from txrec.recommender.recommender import Event, Filters, PriceRange, Recommender, Request, Slate
from txrec.recommender.retrieval.retriever import NO_HISTORY
from txrec.schema import DAY_US


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def ask(recommender: Recommender, **request: Any) -> Slate:
    return recommender.recommend([Request(**request)])[0]


def keys(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def test_a_search_answers_with_its_kind(recommender: Recommender) -> None:
    slate = ask(recommender, query="Lamp", top_k=5)
    assert all("lamp" in str(item.title) for item in slate.items)
    assert slate.fallback is None


def test_a_query_that_is_an_article_number_puts_its_product_first_in_any_case(recommender: Recommender) -> None:
    for item_id in recommender.catalogue.item_ids[[1, 7, 40]]:
        assert keys(ask(recommender, query=str(item_id).upper(), top_k=3))[0] == item_id
        squeezed = "".join(char for char in str(item_id) if char.isalnum())
        assert keys(ask(recommender, query=squeezed, top_k=3, user_id="user-001"))[0] == item_id


def test_an_unknown_user_gets_popular_items_and_is_told_so(recommender: Recommender) -> None:
    slate = ask(recommender, user_id="nobody", top_k=4)
    assert slate.fallback == "unknown_user"
    assert {item.source for item in slate.items} == {"popularity"}
    assert len(slate.items) == 4


def test_a_known_user_is_answered_from_the_history_in_the_bundle(recommender: Recommender) -> None:
    by_id = ask(recommender, user_id="user-001")
    by_events = ask(recommender, events=recommender.history("user-001"))
    assert by_id.fallback is None
    assert keys(by_id) == keys(by_events)


def test_a_slate_is_the_same_alone_and_in_a_batch(recommender: Recommender) -> None:
    requests = [Request(user_id="user-001"), Request(query="tent"), Request(user_id="user-002", query="lamp", top_k=3)]
    together = recommender.recommend(requests)
    for request, slate in zip(requests, together, strict=True):
        alone = recommender.recommend([request])[0]
        assert keys(alone) == keys(slate)
        assert [i.score for i in alone.items] == pytest.approx([i.score for i in slate.items], abs=1e-4)


def test_candidates_travel_between_processes(recommender: Recommender) -> None:
    request = Request(user_id="user-001", query="lamp")
    found = pickle.loads(pickle.dumps(recommender.retrieve([request])))
    assert keys(recommender.rank(found)[0]) == keys(recommender.recommend([request])[0])


def test_filters_hold_and_the_slate_is_full_if_one_item_in_sixty_matches(recommender: Recommender) -> None:
    slate = ask(recommender, query="lamp", top_k=3, filters=Filters(price=PriceRange(min=69, max=70)))
    assert sorted(keys(slate)) == ["sku-060", "sku-061"]
    assert ask(recommender, query="lamp", filters=Filters(brand=("nobody",))).items == ()


def test_cart_excluded_and_seen_items_are_not_shown(recommender: Recommender) -> None:
    seen = {event.item_id for event in recommender.history("user-001") if event.item_id}
    slate = ask(
        recommender, user_id="user-001", cart=("sku-030",), exclude=frozenset({"sku-031"}), exclude_seen=True, top_k=63
    )
    assert not seen & set(keys(slate))
    assert not {"sku-030", "sku-031"} & set(keys(slate))
    assert len(slate.items) == 63 - len(seen | {"sku-030", "sku-031"})


def test_items_of_the_history_that_nobody_knows_are_ignored_and_noted(recommender: Recommender) -> None:
    slate = ask(recommender, events=(Event("click", "sku-gone"), Event("click", "sku-002")))
    assert slate.fallback is None
    assert slate.notes == ("events: sku-gone is not in the catalogue, ignored",)
    assert ask(recommender, events=(Event("click", "sku-gone"),)).fallback == "unknown_user"


def test_bad_requests_name_the_field(recommender: Recommender) -> None:
    for request, field in (
        (Request(top_k=0), "top_k"),
        (Request(diversity=2.0), "diversity"),
        (Request(events=(Event("stare", "sku-001"),)), "events.0.event"),
    ):
        with pytest.raises(RequestError) as error:
            recommender.recommend([request])
        assert error.value.field == field


def test_reasons_name_the_query_and_the_past(recommender: Recommender) -> None:
    slate = ask(recommender, user_id="user-001", query="lamp", explain=True, top_k=3)
    assert all(item.reasons for item in slate.items)
    assert any("matches 'lamp'" in reason for reason in slate.items[0].reasons)
    assert slate.candidates == ()
    assert ask(recommender, query="lamp").items[0].reasons == ()


def test_candidates_come_back_in_retrieval_order_without_reasons_if_requested(recommender: Recommender) -> None:
    slate = ask(recommender, user_id="user-001", query="lamp", with_candidates=True, top_k=3)
    (found,) = recommender.retrieve([Request(user_id="user-001", query="lamp")])
    proposed = [str(recommender.catalogue.item_ids[item]) for item in found.item_idx[: recommender.num_ranked]]
    assert [item.item_id for item in slate.candidates] == proposed
    assert [item.score for item in slate.candidates[:3]] == found.fused[:3].tolist()
    assert not any(item.reasons for item in (*slate.items, *slate.candidates))


def test_candidates_of_one_batch_carry_the_same_complete_timings(recommender: Recommender) -> None:
    first, second = recommender.retrieve([Request(user_id="user-001"), Request(query="tent")])
    assert first.timings_ms == second.timings_ms
    assert set(first.timings_ms) == {"encode", "search"}
    assert min(first.timings_ms.values()) > 0
    assert set(ask(recommender, query="tent").timings_ms) == {"encode", "search", "rank", "decorate"}


def test_every_item_says_which_sources_proposed_it(recommender: Recommender) -> None:
    for item in ask(recommender, user_id="user-001", query="lamp").items:
        assert item.source in item.sources
        assert set(item.sources) <= set(recommender.retriever.names)


def test_diversity_keeps_the_first_item_and_spreads_the_rest(recommender: Recommender) -> None:
    plain, diverse = (ask(recommender, query="lamp", top_k=6, diversity=d) for d in (0.0, 1.0))
    assert keys(plain)[0] == keys(diverse)[0]
    kinds = [len({str(item.title).split()[1] for item in slate.items}) for slate in (plain, diverse)]
    assert kinds[1] > kinds[0]


def test_similar_items_leave_out_the_item_itself(recommender: Recommender) -> None:
    slate = recommender.similar("sku-015", 5)
    assert "sku-015" not in keys(slate)
    assert len(slate.items) == 5
    with pytest.raises(UnknownItemError):
        recommender.similar("sku-gone")


def test_the_callers_list_is_in_retrieval_order_without_a_ranker(recommender: Recommender) -> None:
    plain = copy.copy(recommender)
    plain.ranker = None
    slate = plain.rank_items(["sku-001", "sku-015", "sku-055"], Request(query="lamp"))
    assert keys(slate)[0] == "sku-015", "the only lamp"


def test_lists_are_ranked_in_a_batch_as_each_alone(recommender: Recommender) -> None:
    lists = [
        (["sku-001", "sku-gone", "sku-015", "sku-055"], Request(query="lamp")),
        (["sku-055", "sku-012", "sku-003"], Request(user_id="user-003")),
    ]
    alone = [recommender.rank_items(*one) for one in lists]
    assert [(keys(slate), slate.notes) for slate in recommender.rank_lists(lists)] == [
        (keys(slate), slate.notes) for slate in alone
    ]


def test_ranking_the_callers_list_returns_just_that_list(recommender: Recommender) -> None:
    slate = recommender.rank_items(["sku-001", "sku-gone", "sku-015", "sku-055"], Request(query="lamp"))
    assert sorted(keys(slate)) == ["sku-001", "sku-015", "sku-055"]
    scores = [item.score for item in slate.items]
    assert scores == sorted(scores, reverse=True)
    assert slate.notes == ("items: sku-gone is not in the catalogue, left out",)


def test_a_product_added_live_is_found_at_once_and_a_retired_one_no_more(recommender: Recommender) -> None:
    row = {"item_id": "new-1", "title": "Zyx Lamp", "brand": "zyx", "category": ["home", "lamp"], "price": 3.0}
    changed = recommender.with_items([row]).without_items(["sku-015"])
    assert keys(ask(changed, query="zyx lamp", top_k=3, filters=Filters(brand=("zyx",)))) == ["new-1"]
    assert keys(ask(changed, query="lamp", filters=Filters(price=PriceRange(max=4)))) == ["new-1"]
    assert "sku-015" not in keys(ask(changed, query="lamp", top_k=64))
    assert changed.recommend([Request(events=(Event("click", "new-1"),))])[0].fallback is None
    assert "new-1" not in keys(ask(recommender, query="zyx lamp", top_k=64))


def test_what_the_catalogue_calls_unavailable_is_shown_only_to_who_asks_for_it(recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    out = [catalogue.idx_of["sku-015"], catalogue.idx_of["sku-001"]]
    column = pa.array([item not in out for item in range(1, len(catalogue) + 1)])
    items = catalogue.items.set_column(catalogue.items.schema.get_field_index("available"), "available", column)
    changed = copy.copy(recommender)
    changed.catalogue = Catalogue(items)
    assert not {"sku-015", "sku-001"} & {*keys(ask(changed, query="lamp", top_k=64)), *keys(changed.similar("sku-016"))}
    assert sorted(keys(ask(changed, query="lamp", filters=Filters(available=False)))) == ["sku-001", "sku-015"]
    lamps = Filters(category=("lamp",))
    before, after = (set(keys(ask(one, top_k=64, filters=lamps))) for one in (recommender, changed))
    assert before - after == {"sku-015"}
    assert sorted(keys(changed.rank_items(["sku-015", "sku-016"], Request()))) == ["sku-015", "sku-016"]
    past = changed.retrieve_dense([NO_HISTORY], ["lamp"], top_k=64)
    assert set(out) <= set(past[0].item_idx.tolist())


def test_new_items_keep_their_reserved_slots_whatever_the_ranker_says(recommender: Recommender) -> None:
    assert recommender.ranker.cfg.num_candidates == 33
    last = copy.copy(recommender)
    last.ranker = copy.deepcopy(recommender.ranker)
    with torch.no_grad():  # a ranker that wants no new product
        last.ranker.sharpness.zero_()
        last.ranker.weights.weight.zero_()
        last.ranker.weights.bias.copy_(F.one_hot(torch.tensor(1 + 5), last.ranker.sizes.num_features) * -9.0)
        last.ranker.feature_std[1 + 5] = 1.0  # read, whether the fitted ranker reads what vectors decide or not
    (found,) = last.retrieve([Request(user_id="user-001")])
    (order,) = last.rank_dense([found])
    assert order.by_ranker
    new = found.ranks[order.order, last.retriever.names.index("new_items")] > 0
    assert np.flatnonzero(new).tolist() == [27, 28, 29]
    assert sorted(order.order.tolist()) == list(range(len(found)))


def test_what_the_ranker_never_saw_asked_keeps_retrieval_order(recommender: Recommender) -> None:
    found = recommender.retrieve([Request(query="lamp"), Request(user_id="user-001")])
    assert [order.by_ranker for order in recommender.rank_dense(found)] == [True, True]
    without = copy.copy(recommender)
    without.ranker = copy.deepcopy(recommender.ranker)
    without.ranker.request_mean[HAS_QUERY] = 0.0  # as after examples without a search
    search, home = without.rank_dense(found)
    assert not search.by_ranker
    assert home.by_ranker
    assert search.order.tolist() == list(range(len(found[0])))


def test_products_without_events_keep_places_among_the_candidates_and_are_called_new(recommender: Recommender) -> None:
    grown = recommender.with_items([{"item_id": "new-1", "title": "acme lamp new"}, {"item_id": "new-2"}])
    request = Request(user_id="user-001", explain=True, with_candidates=True)
    for asked, most in ((recommender, 3), (grown, 5)):
        slate = asked.recommend([request])[0]
        proposed = [item.item_id for item in slate.candidates[:30] if "new_items" in item.sources]
        assert 3 <= len(proposed) <= most
        assert set(proposed) <= {"sku-061", "sku-062", "sku-063", "new-1", "new-2"}
        assert all("new" in item.reasons for item in slate.items if item.item_id in proposed)
    assert not any("new_items" in item.sources for item in ask(recommender, user_id="nobody", top_k=60).items)
    assert "sku-062" not in keys(ask(recommender.without_items(["sku-062"]), user_id="user-001", top_k=60))


def test_a_changed_price_holds_at_once(recommender: Recommender) -> None:
    changed = recommender.with_items([{"item_id": "sku-011", "title": "acme lamp model 0", "price": 999.0}])
    assert keys(ask(changed, query="lamp", filters=Filters(price=PriceRange(min=900)))) == ["sku-011"]


def test_odd_queries_are_answered(recommender: Recommender) -> None:
    for query in ("", "   ", "lamp " * 2_000, "灯", "🙂", "'; drop table"):
        assert ask(recommender, query=query, top_k=3).items


@pytest.mark.parametrize("diversity", [0.2, 0.5, 0.8, 1.0])
def test_diversity_is_maximal_marginal_relevance_at_every_weight(diversity: float) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(80, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ranked = Ranked(rng.permutation(80), np.linspace(1, 0, 80).astype(np.float32), by_ranker=True)
    found = diversify(ranked, vectors, diversity, count=15)
    pool, chosen = 60, [0]  # four candidates per place of the slate
    while len(chosen) < 15:
        gains = {
            place: (1 - diversity) * (1 - place / pool)
            - diversity * max(float(vectors[place] @ vectors[c]) for c in chosen)
            for place in range(pool)
            if place not in chosen
        }
        chosen.append(max(gains, key=lambda place: gains[place]))
    assert found.order[:15].tolist() == ranked.order[chosen].tolist()
    assert sorted(found.order.tolist()) == list(range(80))
    assert found.scores[:15].tolist() == ranked.scores[chosen].tolist()


def test_the_time_of_the_request_reaches_the_ranking_features(recommender: Recommender) -> None:
    request = Request(user_id="user-001")
    for now_us in (START_US + 20 * DAY_US, START_US + 60 * DAY_US):
        (candidates,) = recommender.retrieve([replace(request, now_us=now_us)])
        assert candidates.now_us == now_us
        names = recommender.ranking_features.names
        column = recommender.ranking_features.compute([candidates], [5])[:, names.index("days_since_last")]
        last = recommender.ranking_features.activity.last_ts[candidates.item_idx[:5]]
        assert column.tolist() == pytest.approx(np.log1p((now_us - last) / DAY_US).tolist(), rel=1e-5)
    (candidates,) = recommender.retrieve([request])
    assert candidates.now_us >= recommender.bundle.meta.end_ts
