"""Search page: what matches, facets, orders, groups, quotas, and pages without gaps or repeats while things change."""

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from txrec.errors import RequestError
from txrec.recommender.page_types import PageRequest, Quota
from txrec.recommender.recommender import Filters, PriceRange, Recommender, Request
from txrec.recommender.types import Slate


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def page(recommender: Recommender, request: Request, **fields: object) -> Slate:
    return recommender.search_page(request, PageRequest(**fields))  # type: ignore[arg-type]


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def titles(slate: Slate) -> list[str]:
    return [item.title or "" for item in slate.items]


def test_a_page_holds_exactly_the_products_with_all_words(recommender: Recommender) -> None:
    slate = page(recommender, Request(query="acme lamps", top_k=50))
    assert slate.page is not None
    assert slate.page.total == len(slate.items) == 5
    assert all("acme lamp" in title for title in titles(slate))
    assert (slate.page.match, slate.fallback, slate.page.next_token) == ("all", None, None)


def test_the_order_by_relevance_begins_as_the_ranker_orders_the_matching_products(recommender: Recommender) -> None:
    lamps = Request(query="lamp", top_k=10, filters=Filters(category=("lamp",)))
    assert ids(page(recommender, Request(query="lamp", top_k=10))) == ids(recommender.recommend([lamps])[0])


def test_facets_count_everything_that_matches_and_leave_out_the_filter_on_their_own_field(
    recommender: Recommender,
) -> None:
    filters = Filters(brand=("acme",))
    slate = page(recommender, Request(query="lamp", top_k=2, filters=filters), facets=("brand", "colour", "price"))
    assert slate.page is not None
    by_field = {facet.field: {value.value: value.count for value in facet.values} for facet in slate.page.facets}
    lamps = page(recommender, Request(query="lamp", top_k=50))
    acme = [item for item in lamps.items if "acme" in (item.title or "")]
    assert slate.page.total == len(acme)
    assert by_field["brand"] == {"acme": len(acme), "zenit": len(lamps.items) - len(acme)}
    assert sum(by_field["colour"].values()) == sum(by_field["price"].values()) == len(acme)


def test_automatic_facets_are_those_that_divide_the_results(recommender: Recommender) -> None:
    slate = page(recommender, Request(query="lamp", top_k=2), facets=("auto",))
    assert slate.page is not None
    assert [facet.field for facet in slate.page.facets if facet.field == "category"] == []  # all are lamps of one path
    assert {"brand", "colour"} <= {facet.field for facet in slate.page.facets}


@pytest.mark.parametrize(("sort", "first"), [("price", "sku-001"), ("-price", "sku-063")])
def test_products_are_sorted_by_a_number_over_everything_that_matches(
    recommender: Recommender, sort: str, first: str
) -> None:
    slate = page(recommender, Request(top_k=100), sort=sort)
    assert ids(slate) == sorted(ids(slate), reverse=sort == "-price")
    assert (ids(slate)[0], len(slate.items)) == (first, 63)


@pytest.mark.parametrize("sort", ["-relevance", "Relevance"])
def test_relevance_has_one_direction_and_the_refusal_of_another_says_so(recommender: Recommender, sort: str) -> None:
    with pytest.raises(RequestError, match="one direction, the best match first; expected 'relevance'") as refused:
        page(recommender, Request(query="lamp", top_k=3), sort=sort)
    assert refused.value.field == "sort"


def test_popular_and_new_products_come_first_when_sorted_so(recommender: Recommender) -> None:
    activity = recommender.ranking_features.activity
    index = recommender.catalogue.idx_of
    popular = [activity.slow[index[key]] for key in ids(page(recommender, Request(top_k=60), sort="popularity"))]
    assert popular == sorted(popular, reverse=True)
    newer = recommender.with_items([{"item_id": "n-1", "title": "lamp"}, {"item_id": "n-2", "title": "lamp"}])
    assert ids(page(newer, Request(query="lamp", top_k=3), sort="newness"))[:2] == ["n-2", "n-1"]


def walk(recommenders: list[Recommender], request: Request, **fields: object) -> list[Slate]:
    """All pages of a search, each answered by the next recommender."""
    slates = [page(recommenders[0], request, **fields)]
    while (last := slates[-1].page) is not None and last.next_token is not None:
        slates.append(page(recommenders[len(slates) % len(recommenders)], request, token=last.next_token, **fields))
    return slates


@pytest.mark.parametrize("fields", [{}, {"sort": "price"}, {"group_by": "colour"}, {"quotas": (Quota("brand", 2),)}])
def test_pages_hold_every_product_once_also_when_the_model_and_the_shop_change_between_them(
    recommender: Recommender, fields: dict[str, object]
) -> None:
    changed = recommender.with_items(
        [{"item_id": f"new-{n}", "title": "acme lamp model", "price": 1.0} for n in range(5)]
    )
    changed.ranker = None  # another model: it orders everything differently
    request = Request(query="lamp", top_k=4, user_id="user-003")
    whole = page(recommender, Request(query="lamp", top_k=100, user_id="user-003"), **fields)
    slates = walk([recommender, changed], request, **fields)
    shown = [key for slate in slates for key in ids(slate)]
    assert len(shown) == len(set(shown))
    expected = ids(page(recommender, Request(query="lamp", top_k=100))) if "quotas" in fields else ids(whole)
    assert set(shown) == set(expected)
    assert [slate.page.offset for slate in slates if slate.page] == [
        sum(len(one.items) for one in slates[:n]) for n in range(len(slates))
    ]


def test_a_product_that_is_retired_between_two_pages_is_not_shown_and_no_other_is_lost(
    recommender: Recommender,
) -> None:
    request = Request(query="lamp", top_k=4)
    first = page(recommender, request)
    assert first.page is not None
    following = page(recommender, request, token=first.page.next_token)
    gone = ids(following)[1]
    after = page(recommender.without_items([gone]), request, token=first.page.next_token)
    assert ids(after)[:3] == [key for key in ids(following) if key != gone]


def test_an_offset_continues_where_the_page_before_ended(recommender: Recommender) -> None:
    whole = ids(page(recommender, Request(query="lamp", top_k=10)))
    assert ids(page(recommender, Request(query="lamp", top_k=4), offset=4)) == whole[4:8]
    assert ids(page(recommender, Request(query="lamp", top_k=4), offset=4_000)) == []


def test_one_product_of_each_group_is_shown_and_names_the_others(recommender: Recommender) -> None:
    slate = page(recommender, Request(query="lamp", top_k=10), group_by="colour")
    assert slate.page is not None
    assert len(slate.items) == slate.page.num_groups == 2
    groups = [item.group for item in slate.items if item.group]
    assert sum(group.count for group in groups) == slate.page.total
    members = {key for item in slate.items if item.group for key in (item.item_id, *item.group.others)}
    assert members == set(ids(page(recommender, Request(query="lamp", top_k=100))))


def test_no_page_has_more_products_of_a_brand_than_its_quota(recommender: Recommender) -> None:
    for slate in walk([recommender], Request(top_k=6), quotas=(Quota("brand", 2),)):
        brands = [title.split()[0] for title in titles(slate)]
        assert max(map(brands.count, brands)) <= 2


def test_titles_are_marked_where_they_match(recommender: Recommender) -> None:
    slate = page(recommender, Request(query="lamps of ACME", top_k=1), highlight=True)
    (item,) = slate.items
    assert "".join(text for text, _ in item.highlight) == item.title
    assert [text for text, matches in item.highlight if matches] == ["acme", "lamp"]


def test_a_misspelt_query_is_answered_by_the_right_spelling_and_says_so(recommender: Recommender) -> None:
    slate = page(recommender, Request(query="acme gitar", top_k=3))
    assert slate.page is not None
    assert (slate.page.match, slate.page.answered_query) == ("corrected", "acme guitar")
    assert (slate.page.did_you_mean, slate.fallback) == ("acme guitar", "corrected_query")
    assert all("guitar" in title for title in titles(slate))


def test_a_query_without_results_is_answered_by_most_of_its_words_or_the_nearest_products(
    recommender: Recommender,
) -> None:
    slate = page(recommender, Request(query="zyxqv lamp", top_k=3))
    assert slate.page is not None
    assert (slate.page.match, slate.page.answered_query, slate.fallback) == ("partial", "lamp", "partial_match")
    assert all("lamp" in title for title in titles(slate))
    slate = page(recommender, Request(query="zyxqv", top_k=3))
    assert slate.page is not None
    assert (slate.page.match, slate.fallback, len(slate.items)) == ("nearest", "nearest_match", 3)
    empty = page(recommender, Request(query="lamp", top_k=3, filters=Filters(price=PriceRange(min=5000))))
    assert empty.page is not None
    assert (empty.items, empty.page.total, empty.page.match) == ((), 0, "all")


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"facets": ("color",)}, "facets.0", "did you mean 'colour'"),
        ({"sort": "brand"}, "sort", "field of texts; expected one of relevance, popularity, newness, price"),
        ({"sort": "ratings"}, "sort", "no product has a field 'ratings'; expected one of relevance"),
        ({"group_by": "nothing"}, "group_by", "no product has a field"),
        ({"quotas": (Quota("nothing", 1),)}, "quotas.0.field", "no product has a field"),
        ({"token": "AAAA"}, "page_token", "not a token"),
        ({"offset": 3, "quotas": (Quota("brand", 1),)}, "offset", "use page_token"),
    ],
)
def test_a_bad_field_is_refused_by_name(
    recommender: Recommender, fields: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        page(recommender, Request(query="lamp"), **fields)
    assert caught.value.field == field


def test_a_token_of_another_search_is_refused(recommender: Recommender) -> None:
    first = page(recommender, Request(query="lamp", top_k=2))
    assert first.page is not None
    with pytest.raises(RequestError, match="belongs to another search"):
        page(recommender, Request(query="kettle", top_k=2), token=first.page.next_token)


def forged(first: Slate, content: str) -> str:
    """A token with the fingerprint of a page's own, and other contents."""
    assert first.page is not None
    assert first.page.next_token is not None
    _, own, *_ = json.loads(zlib.decompress(base64.urlsafe_b64decode(first.page.next_token)))
    plain = content.replace("OWN", json.dumps(own)).encode()
    return base64.urlsafe_b64encode(zlib.compress(plain)).decode()


@pytest.mark.parametrize(
    "content",
    [
        "[" * 500_000,
        f'[1, OWN, 2, ["sku-011"], [{"9" * 400}]]',
        '[1, OWN, 2, ["sku-011"], [NaN]]',
        '[1, OWN, 2, ["sku-011"], [true]]',
        '[1, OWN, -2, ["sku-011"], [0.5]]',
        f'[1, OWN, {10**30}, ["sku-011"], [0.5]]',
        '[1, OWN, 2, ["sku-011"], [0.5, 0.4]]',
    ],
)
def test_a_token_that_was_not_made_here_is_refused(recommender: Recommender, content: str) -> None:
    request = Request(query="lamp", top_k=2)
    with pytest.raises(RequestError, match="is not a token") as caught:
        page(recommender, request, token=forged(page(recommender, request), content))
    assert caught.value.field == "page_token"


def test_a_token_that_was_cut_off_is_refused(recommender: Recommender) -> None:
    request = Request(query="lamp", top_k=2)
    first = page(recommender, request).page
    assert first is not None
    assert first.next_token is not None
    with pytest.raises(RequestError, match="is not a token"):
        page(recommender, request, token=first.next_token[:-8])


def test_a_page_of_synonyms_holds_the_products_of_each(recommender: Recommender) -> None:
    lamps, tents = (page(recommender, Request(query=query, top_k=50)) for query in ("lamp", "tent"))
    variants = ("lamp", "tent", "night light")
    both = page(recommender, Request(query="lamp tent night light", top_k=50, sent_query="lamp", variants=variants))
    assert set(ids(both)) == {*ids(lamps), *ids(tents)}
    assert both.page is not None
    assert (both.page.match, both.fallback) == ("all", None)


def test_a_token_stays_valid_where_a_rule_changes_the_query_between_two_pages(recommender: Recommender) -> None:
    request = Request(query="lamp", top_k=4)
    first = page(recommender, request)
    assert first.page is not None
    changed = replace(request, query="lamp luminaire", sent_query="lamp", variants=("lamp", "luminaire"))
    following = page(recommender, changed, token=first.page.next_token)
    assert following.items
    assert not set(ids(first)) & set(ids(following))


@pytest.mark.parametrize("query", ["дфьз", "Дфьз", "ДФЬЗ"])
def test_a_query_typed_under_another_keyboard_layout_is_answered_by_its_keys(
    recommender: Recommender, query: str
) -> None:
    slate = page(recommender, Request(query=query, top_k=50))
    assert slate.page is not None
    assert (slate.page.match, slate.page.did_you_mean, slate.page.total) == ("corrected", "lamp", len(slate.items))
    assert all("lamp" in title for title in titles(slate))


def test_groups_by_a_number_are_refused_with_the_reason(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="field of numbers; expected one of texts"):
        page(recommender, Request(query="lamp"), group_by="price")
