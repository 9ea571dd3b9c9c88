"""Hard queries on the generated shop, answered by BM25 alone: what no training may fall behind."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from txrec import simulator
from txrec.config import ShopConfig
from txrec.evals.query_robustness import hit_rates
from txrec.index.sources.lexical import Lexical
from txrec.simulator import Shop
from txrec.simulator.catalogue import Product
from txrec.text import normalise

CFG = ShopConfig(num_items=1_200, num_users=20, num_events=500)
LEAST = {
    "none": 1.0,
    "typo": 0.98,
    "word order": 1.0,
    "plural": 1.0,
    "model number": 1.0,
    "mixed script": 0.4,
    "chinese": 0.75,
}
"""Hit rate among the first ten by kind of spelling. What is titled in the other script alone, and synonyms, have to be
learned from clicks."""

Search = Callable[[Sequence[str]], list[list[str]]]


@pytest.fixture(scope="module")
def products() -> tuple[Product, ...]:
    return Shop.generate(CFG).catalogue.products


@pytest.fixture(scope="module")
def search(products: tuple[Product, ...]) -> Search:
    texts = [
        normalise(" ".join((product.title, product.brand, *product.category, product.description)))
        for product in products
    ]
    keys, titles = [product.item_id for product in products], [product.title for product in products]
    source = Lexical.fit(pa.table({"item_id": keys, "title": titles, "text": texts}))

    def first(queries: Sequence[str]) -> list[list[str]]:
        ids = source.first([normalise(query) for query in queries], 10)
        return [[products[item - 1].item_id for item in row if item] for row in ids]

    return first


@pytest.fixture(scope="module")
def found(search: Search) -> dict[str, float]:
    return hit_rates(simulator.robust_queries(CFG, 800), search)


@pytest.mark.parametrize(("kind", "least"), LEAST.items(), ids=[kind.replace(" ", "-") for kind in LEAST])
def test_a_hard_spelling_is_found_without_training(found: dict[str, float], kind: str, least: float) -> None:
    assert found[kind] >= least


def test_a_chinese_query_finds_a_chinese_title_wherever_there_is_one(
    search: Search, products: tuple[Product, ...]
) -> None:
    titles = {product.item_id: product.title for product in products}
    asked = [
        case
        for case in simulator.robust_queries(CFG, 800)
        if case.corruption == "chinese" and any(case.query in titles[target] for target in case.targets)
    ]
    assert len(asked) > 50
    assert hit_rates(asked, search)["all"] == 1.0


def test_a_hit_is_a_target_among_the_first_ten_only() -> None:
    cases = simulator.robust_queries(CFG, 8)
    target = {case.query: min(case.targets) for case in cases}
    assert set(hit_rates(cases, lambda texts: [[target[text]] for text in texts]).values()) == {1.0}
    late = hit_rates(cases, lambda texts: [["x"] * 10 + [target[text]] for text in texts])
    assert set(late.values()) == {0.0}
