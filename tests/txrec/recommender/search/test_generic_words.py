"""Words that products chosen after a search seldom have in their titles are generic; others are not."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from txrec.index.source import NO_ITEMS, Scored
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.search.generic_words import generic_words
from txrec.schema import PREPARED_ITEMS


def shop(*titles: str) -> Catalogue:
    rows = [{"item_id": str(number), "title": title, "text": title} for number, title in enumerate(titles, start=1)]
    return Catalogue(pa.Table.from_pylist(rows, schema=PREPARED_ITEMS))


def clicks(counts: Mapping[str, Mapping[int, float]]) -> Any:
    """A source that knows the clicks on item_idx after each query."""

    def clicked_items(query: str) -> Scored:
        items = counts.get(query)
        if items is None:
            return NO_ITEMS
        return Scored(np.array(list(items), np.int32), np.array(list(items.values()), np.float32))

    queries = [(query, sum(items.values())) for query, items in counts.items()]
    return SimpleNamespace(clicked_queries=lambda most: queries[:most], clicked_items=clicked_items)


def test_a_word_that_the_chosen_products_lack_is_generic() -> None:
    source = clicks({"xbox halo": {1: 10}, "xbox": {1: 2, 2: 12}, "xbox kinect": {3: 12}})
    assert generic_words([source], shop("Halo Reach", "Gears of War", "Kinect Sports")) == {"xbox"}


def test_an_abbreviation_that_leads_to_one_product_is_not_generic() -> None:
    source = clicks({"mw3": {1: 30, 2: 5}})
    assert generic_words([source], shop("Modern Warfare 3", "Modern Warfare 2")) == frozenset()


def test_a_word_with_few_clicks_and_one_that_titles_have_are_not() -> None:
    source = clicks({"xbox halo": {1: 5}, "kinect": {2: 8, 1: 12}})
    assert generic_words([source], shop("Halo Reach", "Kinect Sports")) == frozenset()


def test_without_clicks_after_queries_no_word_is_generic() -> None:
    assert generic_words([clicks({})], shop("Halo Reach")) == frozenset()
