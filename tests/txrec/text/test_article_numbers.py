"""Products by article number: separators, case, leading zeros, beginnings."""

from pathlib import Path

import pyarrow as pa
import pytest

from tests.updates import update
from txrec.index.sources.lexical import Lexical
from txrec.text import normalise

NUMBERS = (
    "NOR.0707-60",
    "AA-100MM",
    "9290810-1",
    "WT09",
    "TM/85:2",
    "4-71-B",
    "04433",
    "4433",
    "123",
    "00123",
    "F001234",
)


def index(ids: tuple[str, ...] = NUMBERS, titles: list[str] | None = None, **columns: list[dict[str, str]]) -> Lexical:
    names = titles or [f"Part of kind {number}" for number in range(100, 100 + len(ids))]
    texts = [name.lower() for name in names]
    more = {
        name: pa.array([list(row.items()) for row in rows], pa.map_(pa.string(), pa.string()))
        for name, rows in columns.items()
    }
    return Lexical.fit(pa.table({"item_id": list(ids), "title": names, "text": texts, **more}))


def found(source: Lexical, query: str, count: int = 3) -> list[str]:
    return [NUMBERS[idx - 1] for idx in source.first([normalise(query)], count)[0] if idx]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_product_of_a_typed_number_is_first_in_either_case(number: str) -> None:
    source = index()
    assert found(source, number, 1) == [number]
    assert found(source, number.lower(), 1) == [number]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("aa100mm", "AA-100MM"),
        ("9290810 1", "9290810-1"),
        ("nor 0707 60", "NOR.0707-60"),
        ("tm 85 2", "TM/85:2"),
        ("471b", "4-71-B"),
        ("nor.0707", "NOR.0707-60"),
        ("9290", "9290810-1"),
        ("f0012", "F001234"),
    ],
)
def test_a_number_is_found_without_separators_and_by_its_beginning(query: str, number: str) -> None:
    assert number in found(index(), query)


def test_a_short_number_within_a_longer_query_is_no_article_number() -> None:
    titles = ["Door handle"] * len(NUMBERS)
    source = index(titles=titles)
    assert source.named("door handle 123") == {}
    assert set(source.named("door handle 9290810-1")) == {3}


def test_numbers_in_attributes_are_found_too() -> None:
    source = index(
        ("a", "b"), ["Tap", "Sink"], attributes=[{"MPN": "XK-5 500"}, {"EAN": "4006381333931", "colour": "red"}]
    )
    assert source.first(["xk5500", "4006381333931", "4006381"], 1)[:, 0].tolist() == [1, 2, 2]
    assert source.named("red") == {}


def test_a_changed_product_is_found_by_its_number_and_a_new_one_at_once() -> None:
    source = index(("a-1000", "b-2000"), ["Tap", "Sink"])
    new = pa.table({"item_id": ["b-2000", "c-3000"], "title": ["Basin", "Hose"], "text": ["basin", "hose"]})
    later = source.with_items(update([2, 3], items=new))
    assert later.first(["b2000", "c-3000", "a1000"], 1)[:, 0].tolist() == [2, 3, 1]
    assert source.named("c-3000") == {}


def test_numbers_survive_saving_and_opening(tmp_path: Path) -> None:
    source = index()
    source.save(tmp_path)
    opened = Lexical.open(tmp_path, source.analyser)
    assert found(opened, "aa100mm") == found(source, "aa100mm")
