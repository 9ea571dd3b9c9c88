"""Values as shops write them: numbers, ids, availability, HTML, words for nothing."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.txrec.data.workbench import prepared, write
from txrec.config_loader import parse
from txrec.data.formats import values
from txrec.errors import ConfigError

HEADER = "user,item,time,kind,query\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["19.90", "5"], [19.9, 5.0]),
        (["19,90", "1.299"], [19.9, 1299.0]),
        (["$1,299.00", "USD 5"], [1299.0, 5.0]),
        (["1 299,00 kr", "1\u00a0299 kr"], [1299.0, 1299.0]),
        (["1'299.50 CHF", "€ 3,5"], [1299.5, 3.5]),
        (["-5,00", "12,- €"], [-5.0, 12.0]),
        (["N/A", "NaN", "null", ""], [None, None, None, None]),
        (["1,299", "7.5"], [1299.0, 7.5]),
        (["2.450", "1.100.000"], [2450.0, 1_100_000.0]),
        (["(3.50)", "12"], [-3.5, 12.0]),
    ],
)
def test_numbers_are_read_as_people_write_them(texts: list[str], expected: list[float | None]) -> None:
    number, bad = values.numbers(pl.Series(texts).replace("", None))
    assert number.to_list() == pytest.approx(expected)
    assert not bad.any()


def test_a_text_that_is_no_number_is_told_apart_from_nothing() -> None:
    number, bad = values.numbers(pl.Series(["5", "cheap", None, "N/A", "inf", "1e400", "5%"]))
    assert number.to_list() == [5.0, *[None] * 6]
    assert bad.to_list() == [False, True, False, False, False, True, True]


@pytest.mark.parametrize(
    ("word", "available"),
    [
        ("in_stock", True), ("InStock", True), ("https://schema.org/InStock", True), ("preorder", True), ("25", True),
        ("onbackorder", True), ("available for order", True), ("out_of_stock", False), ("OutOfStock", False),
        ("10+", True), ("1,000", True), ("5 in stock", True), ("In stock (5)", True), ("auf Lager", True),
        ("limited", True), ("nur noch 3 verfügbar", True), ("Only 2 left in stock!", True), ("3 Stück auf Lager", True),
        ("continue", True), ("Auf Lager: 4", True), ("end of life", False), ("0 Stück", False),
        ("0 in stock", False), ("not in stock", False), ("ausverkauft", False), ("épuisé", False),
        ("0", False), ("-3", False), ("false", False), ("Sold out", False), ("discontinued", False),
    ],
)  # fmt: skip
def test_availability_is_read_as_feeds_write_it(word: str, available: bool) -> None:
    known, unknown = values.availability(pl.Series([word]))
    assert (known.to_list(), unknown.to_list()) == ([available], [False])


@pytest.mark.parametrize("word", ["perhaps", "deny", "auf Anfrage", "on request", "call", "Only online"])
def test_an_unknown_word_of_availability_is_reported_and_not_out_of_sale(word: str) -> None:
    known, unknown = values.availability(pl.Series([word, None]))
    assert (known.to_list(), unknown.to_list()) == ([True, True], [True, False])


def test_html_becomes_text() -> None:
    texts = [
        '<p class="x">cotton<br>lining</p><!-- 5 -->',
        "a &amp; b",
        "Letter&shy;press",
        "&lt;b&gt;A4&lt;/b&gt;",
        "x < y",
    ]
    assert values.plain_text(pl.Series(texts)).to_list() == ["cotton lining", "a & b", "Letterpress", "A4", "x < y"]


def test_ids_that_pandas_made_floats_meet_whole_ones_and_leading_zeros_stay(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", HEADER + "17.0,1.0,2024-01-01,click,\n17.0,2.0,2024-01-02,click,\n")
    write(tmp_path, "items.csv", "sku,name\n1,One\n2,Two\n04433,Zero\n")
    columns = {"user_id": "user", "item_id": "item", "ts": "time", "event": "kind", "query": "query"}
    items: dict[str, Any] = {"path": "items.csv", "columns": {"item_id": "sku", "title": "name"}}
    _, data = prepared(tmp_path, {"events": [{"path": "events.csv", "columns": columns}], "items": [items]})
    assert sorted(data.items["item_id"].to_pylist()) == ["04433", "1", "2"]
    assert [str(user) for user in data.sequences.user_id] == ["17"]


def test_one_id_that_is_no_float_leaves_the_column_alone() -> None:
    assert values.whole_ids(pl.Series(["1.0", "1.1"])).to_list() == ["1.0", "1.1"]
    assert values.whole_ids(pl.Series(["1.0", None])).to_list() == ["1", None]


def test_ids_that_became_floats_with_a_decimal_comma_are_whole() -> None:
    assert values.whole_ids(pl.Series(["17850,0", "0,0", "04,0"])).to_list() == ["17850", "0", "04,0"]
    assert values.whole_ids(pl.Series(["1,0", "1,5"])).to_list() == ["1,0", "1,5"]


def test_ids_that_a_spreadsheet_rounded_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title\n4.00638E+12,One\n4.00639E+12,Two\n")
    report, _ = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert any("2 values of item_id are in scientific notation" in text for text in report.as_json()["warnings"])


def test_ids_in_scientific_notation_meet_whole_ones_where_no_digit_is_lost() -> None:
    ids = ["1.785e+04", "1.785E+04", "17850", "1.234567E+06", "1.2E+01"]
    assert values.whole_ids(pl.Series(ids)).to_list() == ["17850", "17850", "17850", "1234567", "12"]
    assert values.whole_ids(pl.Series(["1.785E+04", None, "1.7851E+04"])).to_list() == ["17850", None, "17851"]
    assert values.whole_ids(pl.Series(["1.785E+04", "85123A", "7.0"])).to_list() == ["17850", "85123A", "7"]


@pytest.mark.parametrize("ids", [
    ["4.00638E+12", "17850"], ["1.5E+03", "1500"], ["1E5", "100000"], ["1E+05", "100000"], ["1.7855E+03", "7"],
    ["1.785E+04", "85123A"],
])  # fmt: skip
def test_ids_in_scientific_notation_that_may_be_rounded_or_names_stay(ids: list[str]) -> None:
    assert values.whole_ids(pl.Series(ids)).to_list() == ids


def test_ids_that_became_floats_late_in_a_file_are_whole_too() -> None:
    ids = [str(number) for number in range(1_000)]
    assert values.whole_ids(pl.Series([*ids, "17850.0"]))[-1] == "17850"


def test_a_sku_of_one_letter_e_is_no_rounded_number() -> None:
    assert values.num_rounded(pl.Series(["1E5", "2e10", "17850", "1.785E+04"])) == 0
    assert values.num_rounded(pl.Series(["1E+05", "4.00638E+12", "17850"])) == 2


def test_ids_of_letters_among_floats_keep_no_float_from_being_whole() -> None:
    assert values.whole_ids(pl.Series(["17.0", "85123A", "04.0", None])).to_list() == ["17", "85123A", "04.0", None]


def test_a_row_of_a_product_that_says_nothing_does_not_make_it_available(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title,available\na,One,\na,,false\nb,Two,\nc,Three,false\nc,,true\n")
    _, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    rows = {row["item_id"]: row["available"] for row in data.items.to_pylist()}
    assert rows == {"a": False, "b": True, "c": True}


@pytest.mark.parametrize(
    ("prices", "is_open"), [(["1.299", "2.450"], True), (["1.299", "19.90"], False), (["1.299", "5"], True)]
)
def test_prices_that_may_be_thousands_are_a_warning(tmp_path: Path, prices: list[str], is_open: bool) -> None:
    rows = "".join(f"{number};T;{price}\n" for number, price in enumerate(prices))
    write(tmp_path, "items.csv", f"item_id;title;price\n{rows}")
    source = {"path": "items.csv", "delimiter": ";"}
    for settings, expected in (({}, is_open), ({"decimal": ","}, False)):
        report, _ = prepared(tmp_path, {"items": [{**source, **settings}]})
        assert any("may be thousands" in warning for warning in report.as_json()["warnings"]) == expected


def test_the_session_stands_in_for_a_user_who_is_not_known(tmp_path: Path) -> None:
    header = "user,session,item,time\n"
    write(
        tmp_path,
        "events.csv",
        header + "NA,s1,a,2024-01-01\n-1,s1,b,2024-01-02\n,s2,a,2024-01-01\nu1,s3,a,2024-01-01\n",
    )
    columns = {"user_id": "user", "item_id": "item", "ts": "time", "session_id": "session"}
    source = {"path": "events.csv", "columns": columns, "constants": {"event": "click"}}
    _, data = prepared(tmp_path, {"events": [source]})
    assert sorted(str(user) for user in data.sequences.user_id) == ["s1", "s2", "u1"]


def test_a_price_that_is_nan_costs_no_product(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title,price,description\na,One,NaN,NaN\nb,Two,5,text\n")
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert report.as_json()["rejected"] == {}
    rows = {row["item_id"]: (row["price"], row["description"]) for row in data.items.to_pylist()}
    assert rows == {"a": (None, None), "b": (5.0, "text")}


def test_product_fields_of_the_log_may_be_categories_and_availability(tmp_path: Path) -> None:
    header = "user,item,time,path,stock,cost\n"
    write(tmp_path, "events.csv", header + "u,a,2024-01-01,home.lamps,InStock,5\nu,b,2024-01-02,,sold out,\n")
    source = {
        "path": "events.csv",
        "columns": {"user_id": "user", "item_id": "item", "ts": "time"},
        "constants": {"event": "click"},
        "category_separator": ".",
    }
    carried = {"category": "path", "available": "stock", "price": "cost"}
    _, data = prepared(tmp_path, {"events": [source], "items_from_events": carried})
    rows = {row["item_id"]: (row["category"], row["available"], row["price"]) for row in data.items.to_pylist()}
    assert rows == {"a": (["home", "lamps"], True, 5.0), "b": (None, False, None)}


def test_numbers_and_texts_join(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u", "u"], "variant": [1, 2], "ts": [1e9, 2e9]}).write_parquet(tmp_path / "log.parquet")
    write(tmp_path, "map.csv", "variant_id,product\n1,p1\n")
    source = {
        "path": "log.parquet", "format": "parquet", "columns": {"item_id": "product"}, "time": {"format": "s"},
        "constants": {"event": "click"}, "join": [{"path": "map.csv", "on": ["variant", "variant_id"]}],
    }  # fmt: skip
    report, data = prepared(tmp_path, {"events": [source]})
    assert data.items["item_id"].to_pylist() == ["p1"]
    assert report.as_json()["rejected"] == {"no_match_in_join": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"values": {"event": {"buy": "purchases"}}}, "did you mean 'purchase'"),
        ({"constants": {"event": "views"}}, "did you mean 'view'"),
        ({"reject": [{"column": "item", "matches": "^(?!C)"}]}, "matches"),
        ({"time": {"zone": "CET+1"}}, "zone"),
    ],
)
def test_words_of_a_declaration_that_nothing_knows_are_errors(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"name": "x", "data": {"events": [{"path": "events.csv", **source}]}}, "x.toml")
