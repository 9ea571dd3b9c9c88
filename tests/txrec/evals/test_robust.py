"""Hard queries on the generated shop, answered by BM25 alone: what no training may fall behind."""

import pyarrow as pa
import pytest

from txrec.config import ShopConfig
from txrec.data import shop
from txrec.data.shop import Shop
from txrec.evals.robust import hit_rates
from txrec.index.lexical import Lexical
from txrec.text import normalise

CFG = ShopConfig(num_items=1_200, num_users=20, num_events=500)
LEAST = {
    "none": 1.0,
    "typo": 0.9,
    "word order": 1.0,
    "plural": 0.95,
    "model number": 1.0,
    "mixed script": 0.95,
    "chinese": 1.0,
}
"""Hit rate among the first ten by kind of spelling; synonyms have to be learned from clicks."""


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    products = Shop.generate(CFG).catalogue.products
    texts = [
        normalise(" ".join((product.title, product.brand, *product.category, product.description)))
        for product in products
    ]
    source = Lexical.fit(pa.table({"title": [product.title for product in products], "text": texts}))

    def search(queries: list[str]) -> list[list[str]]:
        ids = source.first([normalise(query) for query in queries], 10)
        return [[products[item - 1].item_id for item in row if item] for row in ids]

    return hit_rates(shop.robust_queries(CFG, 800), search)


@pytest.mark.parametrize(("kind", "least"), LEAST.items(), ids=[kind.replace(" ", "-") for kind in LEAST])
def test_a_hard_spelling_is_found_without_training(found: dict[str, float], kind: str, least: float) -> None:
    assert found[kind] >= least


def test_a_hit_is_a_target_among_the_first_ten_only() -> None:
    cases = shop.robust_queries(CFG, 8)
    target = {case.query: min(case.targets) for case in cases}
    assert set(hit_rates(cases, lambda texts: [[target[text]] for text in texts]).values()) == {1.0}
    late = hit_rates(cases, lambda texts: [["x"] * 10 + [target[text]] for text in texts])
    assert set(late.values()) == {0.0}
