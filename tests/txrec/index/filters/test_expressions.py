"""Filter expressions: the text form and the JSON form mean the same, and masks are those of a plain loop."""

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from txrec import schema
from txrec.errors import RequestError
from txrec.index.filters.expressions import And, Condition, Not, Or, parse
from txrec.index.filters.filters import FilterIndex, Filters, PriceRange, joined

ROWS: list[dict[str, Any]] = [
    {"brand": "Acme", "category": ["home", "lamps"], "price": 10.0, "attributes": [("colour", "Red"), ("watt", "40")]},
    {"brand": "Acme", "category": ["home"], "price": 60.0, "attributes": [("colour", "blue"), ("watt", "7.5")]},
    {"brand": "Bolt", "category": ["tools"], "price": None, "attributes": [("since", "2024-05-01")]},
    {"brand": None, "category": None, "price": 30.0, "attributes": [("since", "2023-01-01"), ("watt", "x")]},
]


@pytest.fixture(scope="module")
def index() -> FilterIndex:
    blank = dict.fromkeys(schema.PREPARED_ITEMS.names)
    counts = {"category_id": 0, "brand_id": 0, "price_bucket": 0, "train_count": 0, "text": ""}
    rows = [{**blank, **counts, "item_id": f"p{n}", **row} for n, row in enumerate(ROWS)]
    return FilterIndex(pa.Table.from_pylist(rows, schema=schema.PREPARED_ITEMS))


def matching(index: FilterIndex, where: object) -> list[int]:
    mask = index.mask(Filters.model_validate({"where": where}))
    assert mask is not None
    assert not mask[0]
    return [int(place) - 1 for place in mask.nonzero()[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brand = acme", [0, 1]),
        ("brand = acme AND price < 50", [0]),
        ("price <= 30 OR brand = bolt", [0, 2, 3]),
        ("NOT brand = acme", [2, 3]),
        ("brand != acme AND price >= 30", [3]),
        ("colour IN (red, blue)", [0, 1]),
        ('colour IN ("RED")', [0]),
        ("watt > 7.5", [0]),
        ("watt >= 7.5 AND watt < 40", [1]),
        ("watt = 40", [0]),
        ("since >= 2024-01-01", [2]),
        ("category = lamps OR category = tools", [0, 2]),
        ("brand = acme AND (colour = blue OR price < 20)", [0, 1]),
        ("NOT (brand = acme OR price > 0)", [2]),
        ("available = true", [0, 1, 2, 3]),
        ("price = 60", [1]),
    ],
)
def test_an_expression_selects_the_products_that_fulfil_it(index: FilterIndex, text: str, expected: list[int]) -> None:
    assert matching(index, text) == expected


def test_text_and_json_mean_the_same() -> None:
    text = parse('price < 50 AND NOT colour IN ("red", "dark blue") OR brand = acme')
    assert text == Or(
        parts=(
            And(
                parts=(
                    Condition(field="price", lt=50),
                    Not(part=Condition(field="colour", any_of=("red", "dark blue"))),
                )
            ),
            Condition(field="brand", equals="acme"),
        )
    )
    as_json: dict[str, list[Any]] = {
        "or": [{"and": [{"field": "price", "lt": 50}, {"not": {"field": "colour", "in": ["red", "dark blue"]}}]}]
    }
    as_json["or"].append({"field": "brand", "equals": "acme"})
    assert Filters.model_validate({"where": as_json}).where == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price <", "ends early"),
        ("price < cheap", "expected a number or an ISO 8601 date"),
        ("(price < 5", "closing parenthesis"),
        ("price 5", "one of = !="),
        ("price < 5 colour = red", "AND, OR or the end"),
        ("", "ends early"),
        ("(" * 40 + "price < 5" + ")" * 40, "nested deeper"),
        (" OR ".join(["price < 5"] * 300), "too large"),
    ],
)
def test_a_text_that_is_no_expression_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Filters.model_validate({"where": text})


def test_an_unknown_field_is_named_with_the_nearest_one(index: FilterIndex) -> None:
    with pytest.raises(RequestError, match="'color'; did you mean 'colour'") as caught:
        matching(index, "color = red")
    assert caught.value.field == "filters.where"


@pytest.mark.parametrize("where", ["price = cheap", "price IN (10, true)", 'NOT price = "10 EUR"'])
def test_a_price_that_is_no_number_is_refused_instead_of_fulfilled_by_nothing(index: FilterIndex, where: str) -> None:
    with pytest.raises(RequestError, match=r"price is compared with .*; expected a number") as caught:
        matching(index, where)
    assert caught.value.field == "filters.where"


def test_a_condition_on_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="compares with nothing"):
        Filters.model_validate({"where": {"field": "price"}})


def test_joined_filters_hold_both(index: FilterIndex) -> None:
    first = Filters(brand=("acme",), price=PriceRange(max=50))
    second = Filters.model_validate({"where": "watt >= 7.5", "attributes": {"colour": ["red", "blue"]}})
    both = joined(first, second)
    expected = [mask for mask in (index.mask(first), index.mask(second)) if mask is not None]
    assert (index.mask(both) == expected[0] & expected[1]).all()
    assert joined(None, second) is second
    assert joined(Filters(available=False), Filters(brand=("acme",))) == Filters(brand=("acme",), available=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("brand = 'dark \\'n\\' blue'", "dark 'n' blue"),
        ("brand = O'Neill", "O'Neill"),
        ('brand = "a \\"b\\" \\\\c"', 'a "b" \\c'),
        ("brand = 007", "007"),
        ("brand = nan", "nan"),
        ("brand = inf", "inf"),
        ("brand = 1_000", "1_000"),
        ("brand = 1e999", "1e999"),
        ("brand = 1e3", 1000.0),
    ],
)
def test_values_are_numbers_only_where_they_are_written_as_such(text: str, value: object) -> None:
    assert parse(text) == Condition(field="brand", equals=value)


def test_a_number_as_a_name_is_the_name_as_it_was_written() -> None:
    assert parse("42 = 1") == Condition(field="42", equals=1.0)
    assert parse("true = 1") == Condition(field="true", equals=1.0)


def test_a_brand_of_digits_is_found_by_its_number() -> None:
    blank = dict.fromkeys(schema.PREPARED_ITEMS.names)
    counts = {"category_id": 0, "brand_id": 0, "price_bucket": 0, "train_count": 0, "text": ""}
    rows = [{**blank, **counts, "item_id": brand, "brand": brand} for brand in ("1234567", "4711", "7.5")]
    digits = FilterIndex(pa.Table.from_pylist(rows, schema=schema.PREPARED_ITEMS))
    assert [matching(digits, f"brand = {row['brand']}") for row in rows] == [[0], [1], [2]]


def test_a_long_text_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValidationError, match="has 840000 characters; expected at most 100000"):
        Filters.model_validate({"where": "brand=acme OR " * 60_000})


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ({"and": []}, "and"),
        ({"not": {"fild": 1}}, "field"),
        ({"and": ["price < 5", {"or": [{"field": "price", "gt": True}]}]}, "gt"),
        ({"field": "price", "lt": "nan"}, None),
        ({"field": "price", "lt": "-Infinity"}, None),
    ],
)
def test_errors_of_an_object_are_those_of_its_own_kind(where: object, place: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        Filters.model_validate({"where": where})
    location = [part for part in caught.value.errors()[0]["loc"] if "[" not in str(part)]
    assert location[0] == "where"
    assert place is None or location[-1] == place


def test_an_unknown_attribute_is_refused_by_its_name(index: FilterIndex) -> None:
    with pytest.raises(RequestError, match="'color'; did you mean 'colour'") as caught:
        index.mask(Filters(attributes={"color": ("red",)}))
    assert caught.value.field == "filters.attributes"
