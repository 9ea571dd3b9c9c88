"""Products that come after the lexical index was built."""

import numpy as np
import pyarrow as pa
import pytest

from tests.updates import update
from txrec.index.sources.lexical import Lexical

WORDS = ("lamp", "tent", "kettle", "violet", "red", "steel", "garden", "travel")


def table(titles: list[str]) -> pa.Table:
    return pa.table({"item_id": titles, "title": titles, "text": [title.lower() for title in titles]})


def titles(count: int, seed: int) -> list[str]:
    return [" ".join(words) for words in np.random.default_rng(seed).choice(WORDS, (count, 3))]


def found(source: Lexical, text: str) -> list[int]:
    return [item for item in source.first([text], 100)[0].tolist() if item]


@pytest.fixture(scope="module")
def index() -> Lexical:
    return Lexical.fit(table([*titles(40, 0), *WORDS]))


def test_one_by_one_and_all_at_once_come_to_the_same(index: Lexical) -> None:
    ids, later = np.arange(49, 79, dtype=np.int32), titles(30, 1)
    whole = index.with_items(update(ids, items=table(later)))
    bit_by_bit = index
    for place, title in enumerate(later):
        bit_by_bit = bit_by_bit.with_items(update(ids[[place]], items=table([title])))
    for text in ("lamp", "red tent", "garden", "kettel"):
        assert found(bit_by_bit, text) == found(whole, text)
    assert set(found(whole, "lamp")) > {int(one) for one, title in zip(ids, later, strict=True) if "lamp" in title}


def test_a_product_that_changes_again_and_again_is_found_by_its_last_name_only(index: Lexical) -> None:
    source = index
    for title in ("Bicycle", "Bicycle Pump", "Umbrella"):
        for item in (1, 60):  # one that was indexed, one that came later
            source = source.with_items(update([item], items=table([title])))
    assert found(source, "umbrella") == [1, 60]
    assert not {1, 60} & set(found(source, "bicycle"))
    assert 1 not in found(source, titles(40, 0)[0])


def test_the_index_before_stays_as_it_was(index: Lexical) -> None:
    first = index.with_items(update([50], items=table(["Umbrella"])))
    second = first.with_items(update([50, 51], items=table(["Bicycle", "Umbrella"])))
    assert (found(index, "umbrella"), found(first, "umbrella"), found(second, "umbrella")) == ([], [50], [51])


def test_a_word_that_stands_twice_counts_more(index: Lexical) -> None:
    source = index.with_items(update([50, 51], items=table(["Umbrella Lamp", "Umbrella Umbrella"])))
    assert found(source, "umbrella") == [51, 50]
