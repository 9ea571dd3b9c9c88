"""Facets: counts by value and by range, automatic choice, and the same counts after live changes."""

import numpy as np
import pyarrow as pa
import pytest

from txrec import schema
from txrec.errors import RequestError
from txrec.index.filters.facets import FacetIndex, round_edges

COLOURS = ("red", "Blue", "blue", None, "blue")


def catalogue(num: int = 50) -> pa.Table:
    rows = [
        {
            "item_id": f"p{n}",
            "category": ["home", ("lamps", "kettles")[n % 2]],
            "brand": f"brand {n % 3}",
            "price": None if n == 7 else float(n),
            "attributes": [("Colour", COLOURS[n % 5]), ("watts", f"{10 * n}"), ("stars", str(n % 3 + 1))],
            "category_idx": 0,
            "brand_idx": 0,
            "price_bucket": 0,
            "train_count": 0,
        }
        for n in range(num)
    ]
    return pa.Table.from_pylist(rows, schema=schema.PREPARED_ITEMS)


@pytest.fixture(scope="module")
def facets() -> FacetIndex:
    return FacetIndex.of(catalogue())


def everything(num: int = 50) -> np.ndarray:
    mask = np.ones(num + 1, np.bool_)
    mask[0] = False
    return mask


def counts(index: FacetIndex, field: str, mask: np.ndarray) -> dict[str, int]:
    return {value.value: value.count for value in index.count(field, mask, 100).values}


def test_values_are_counted_over_exactly_the_given_products_and_spellings_count_together(facets: FacetIndex) -> None:
    assert counts(facets, "colour", everything()) == {"blue": 30, "red": 10}
    assert facets.count("colour", everything(), 1).missing == 10
    few = np.zeros(51, np.bool_)
    few[[1, 2, 3]] = True  # p0, p1, p2
    assert counts(facets, "colour", few) == {"blue": 2, "red": 1}
    assert counts(facets, "category", few) == {"home": 3, "lamps": 2, "kettles": 1}
    assert counts(facets, "brand", few) == {"brand 0": 1, "brand 1": 1, "brand 2": 1}


def test_numbers_are_counted_by_ranges_that_hold_every_product_once(facets: FacetIndex) -> None:
    for field, known in (("price", 49), ("watts", 50)):
        facet = facets.count(field, everything(), 10)
        assert facet.kind == "number"
        assert sum(value.count for value in facet.values) == known == 50 - facet.missing
        for one in facet.values:
            numbers = facets.numbers(field, "")
            low, high = one.low if one.low is not None else -np.inf, one.high if one.high is not None else np.inf
            assert one.count == int(((numbers >= low) & (numbers < high)).sum())
    assert facets.count("stars", everything(), 10).kind == "text", "three values are counted one by one"
    assert facets.numbers("stars", "sort")[1] == 1.0, "but they sort as numbers"


def test_edges_of_ranges_are_round_numbers() -> None:
    assert round_edges(np.random.default_rng(0).uniform(0, 1000, 5000)) == [200.0, 300.0, 500.0, 700.0, 800.0]
    assert round_edges(np.full(10, 3.0)) == []


def test_automatic_facets_leave_out_what_does_not_divide_the_products(facets: FacetIndex) -> None:
    chosen = [facet.field for facet in facets.auto(everything(), 10)]
    assert {"category", "brand", "price", "watts", "colour"} <= set(chosen)
    one_kind = everything() & (np.arange(51) % 2 == 1)  # lamps alone
    fields = {facet.field: facet for facet in facets.auto(one_kind & (facets.groups("brand", "") == 0), 10)}
    assert "brand" not in fields
    assert facets.auto(np.zeros(51, np.bool_), 10) == []


def test_changed_and_new_products_are_counted_like_a_catalogue_built_afresh() -> None:
    before, after = catalogue(), catalogue(53).to_pylist()
    after[4] = {**after[4], "brand": "other", "price": 9999.0, "attributes": [("size", "XL")], "category": None}
    table = pa.Table.from_pylist(after, schema=schema.PREPARED_ITEMS)
    changed = np.array([53, 5, 51, 52], np.int32)
    index = FacetIndex.of(before).with_items(changed, table.take(pa.array(changed - 1)), 54)
    fresh = FacetIndex.of(table)
    assert sorted(index.names) == sorted(fresh.names)
    for field in fresh.names:
        mask = everything(53)
        assert counts(index, field, mask) == counts(fresh, field, mask), field
        mask[10:] = False
        assert counts(index, field, mask) == counts(fresh, field, mask), field


def test_an_unknown_field_is_refused_with_the_nearest_name(facets: FacetIndex) -> None:
    with pytest.raises(RequestError, match="did you mean 'colour'") as caught:
        facets.count("color", everything(), 5)
    assert caught.value.field == "facets"
    with pytest.raises(RequestError, match="field of texts"):
        facets.numbers("brand", "sort")
