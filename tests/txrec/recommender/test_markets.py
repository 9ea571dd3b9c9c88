"""Prices and stock by store or country, and periods of sale: masks, filters, order and answers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from txrec import schema
from txrec.index.filters.filters import Filters, PriceRange
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.page_types import PageRequest
from txrec.recommender.recommender import Recommender, Request

JULY, AUGUST, DECEMBER = (int(datetime(2026, month, 1, tzinfo=UTC).timestamp() * 1e6) for month in (7, 8, 12))
VIENNA, GRAZ = {"store": "vienna"}, {"store": "graz"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """`a` costs 10, 8 in Vienna and 9 in Austria, and is in Vienna only; `b` is out there; `c` is sold in July."""
    rows: list[dict[str, Any]] = [
        {"item_id": "a", "price": 10.0, "prices": {"vienna": 8.0, "AT": 9.0}, "stock": {"vienna": 3}},
        {"item_id": "b", "price": 20.0, "stock": {"vienna": 0, "graz": True}},
        {"item_id": "c", "sale_start": "2026-07-01T00:00:00Z", "sale_end": "2026-08-01"},
        {"item_id": "d", "price": 5.0, "available": False, "stock": {"vienna": 4}},
    ]
    return Catalogue(schema.PREPARED_ITEMS.empty_table()).with_items(rows)[0]


def shown(view: Catalogue, filters: Filters | None = None) -> str:
    mask = view.mask(filters, ())
    return "".join(str(key) for key in view.item_ids[1:] if mask is None or mask[view.idx_of[key]])


def test_a_store_shows_what_it_has_and_other_places_what_is_not_kept_by_store(catalogue: Catalogue) -> None:
    assert shown(catalogue.at(VIENNA, JULY)) == "ac"
    assert shown(catalogue.at(GRAZ, JULY)) == "bc"
    assert shown(catalogue.at({}, JULY)) == "abc"
    assert shown(catalogue.at({"store": "linz"}, JULY)) == "abc"  # no product says anything of it
    assert shown(catalogue.at(VIENNA, JULY), Filters(available=False)) == "bd"


def test_prices_are_those_of_the_store_then_of_the_country_then_the_usual_ones(catalogue: Catalogue) -> None:
    def price(context: dict[str, str]) -> float | None:
        return catalogue.at(context, JULY).price_of(1)

    assert [price(context) for context in (VIENNA, {"country": "AT"}, {}, GRAZ)] == [8.0, 9.0, 10.0, 10.0]
    assert price({"store": "graz", "country": "AT"}) == 9.0
    assert price({"store": "vienna", "country": "AT"}) == 8.0
    assert catalogue.at(VIENNA, JULY).price_of(3) is None
    cheap = Filters(price=PriceRange(max=9.5))
    assert shown(catalogue.at(VIENNA, JULY), cheap) == "a"
    assert shown(catalogue.at({}, JULY), cheap) == ""
    assert catalogue.at(VIENNA, JULY).facets.numbers("price", "sort")[1] == 8.0


def test_a_product_is_shown_from_the_start_of_its_sale_to_its_end(catalogue: Catalogue) -> None:
    instants = {JULY - 1: False, JULY: True, AUGUST - 1: True, AUGUST: False, DECEMBER: False}
    assert {now: "c" in shown(catalogue.at({}, now)) for now in instants} == instants
    assert "c" not in shown(catalogue.at({}, AUGUST), Filters(available=False))


def test_requests_of_one_place_and_period_share_their_view_and_its_mask(catalogue: Catalogue) -> None:
    one, other = catalogue.at(VIENNA, JULY), catalogue.at(dict(VIENNA), JULY + 1)
    assert one is other
    assert one.mask(None, ()) is other.mask(None, ())
    assert catalogue.at(VIENNA, AUGUST) is not one
    plain = Catalogue(catalogue.items.slice(1, 0))
    assert plain.at(VIENNA, JULY) is plain


def test_a_later_change_holds_in_the_views_too_and_old_bundles_have_no_markets(catalogue: Catalogue) -> None:
    changed = catalogue.with_items([{**catalogue.row("a"), "prices": {"vienna": 7.0}, "stock": {}}])[0]
    assert changed.at(VIENNA, JULY).price_of(1) == 7.0
    assert "a" in shown(changed.at(GRAZ, JULY))
    assert changed.without_items(["a"]).at(VIENNA, JULY).on_sale is not None
    assert "a" not in shown(changed.without_items(["a"]).at(VIENNA, JULY))
    assert catalogue.row("a")["prices"] == {"vienna": 8.0, "AT": 9.0}
    assert catalogue.row("c")["sale_start"] == datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    """Lamps, half of them cheaper in Vienna, one of them out of stock there, and one on sale in July only."""
    opened = Recommender.open(tiny_bundle)
    rows = [{**opened.catalogue.row(f"sku-{n:03d}"), "prices": {"vienna": 1.0 + n}} for n in range(11, 16)]
    rows[0]["stock"] = {"vienna": 0}
    rows[1]["sale_end"] = "2026-08-01T00:00:00Z"
    return opened.with_items(rows)


def test_slates_pages_and_similar_products_hold_to_store_and_time(recommender: Recommender) -> None:
    def slate(now_us: int, **context: str) -> dict[str, float | None]:
        request = Request(query="lamp", top_k=20, now_us=now_us, context=context)
        return {item.item_id: item.price for item in recommender.recommend([request])[0].items}

    here, later, elsewhere = slate(JULY, store="vienna"), slate(AUGUST, store="vienna"), slate(JULY)
    assert "sku-011" in elsewhere
    assert "sku-011" not in here
    assert {"sku-012"} == set(here) - set(later)
    assert here["sku-013"] == 14.0 != elsewhere["sku-013"]
    request = Request(query="lamp", top_k=3, now_us=JULY, context=VIENNA)
    page = recommender.search_page(request, PageRequest(sort="price", facets=("price",)))
    prices = [item.price for item in page.items]
    assert prices == sorted(prices, key=lambda price: np.inf if price is None else price)
    assert (page.items[0].item_id, prices[0]) == ("sku-012", 13.0)
    near = recommender.similar("sku-013", 60, context=VIENNA)
    assert "sku-011" not in {item.item_id for item in near.items}


def test_the_time_of_a_request_without_one_is_the_clocks(recommender: Recommender) -> None:
    request = Request(query="lamp", top_k=20)
    recommender.clock = lambda: JULY / 1e6
    before = {item.item_id for item in recommender.recommend([request])[0].items}
    recommender.clock = lambda: AUGUST / 1e6
    after = {item.item_id for item in recommender.recommend([request])[0].items}
    assert before - after == {"sku-012"}


def test_a_table_without_the_columns_is_a_catalogue_without_markets() -> None:
    empty = schema.PREPARED_ITEMS.empty_table()
    assert Catalogue(pa.table(empty)).at(VIENNA, JULY).period is None
