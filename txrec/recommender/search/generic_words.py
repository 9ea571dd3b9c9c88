"""Generic words of a shop's searches: words that products chosen after them seldom have in their titles.

`xbox` and `game` in a shop of games say which department is meant, not which product: a title without them suits the
query as well as one that has them. An abbreviation such as `mw3` is not in titles either, but leads to one product.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from txrec.index.source import Source
from txrec.recommender.catalogue import Catalogue

MAX_QUERIES = 5_000
"""Queries that are looked at, those with most clicks."""
MIN_CLICKS = 20.0
"""Clicks after queries with a word, below which nothing is concluded."""
MAX_TITLE_FRAC = 0.25
"""Share of those clicks on titles that have the word, from which on it is not generic."""
MAX_PRODUCT_FRAC = 1 / 3
"""Share of those clicks on one product, above which the word names that product."""


def generic_words(sources: Iterable[Source], catalogue: Catalogue) -> frozenset[str]:
    """Index tokens of the generic words, each the first of its search term.

    Args:
        sources: candidate sources, of which one may count clicks after queries.
        catalogue: titles of the products and the shop's analyser.
    """
    clicks: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    with_word: defaultdict[str, float] = defaultdict(float)
    for source in sources:
        for query, _ in source.clicked_queries(MAX_QUERIES):
            clicked = source.clicked_items(query)
            counts = dict(zip(clicked.item_idx.tolist(), clicked.scores.tolist(), strict=True))
            for word, tokens in _words(query, catalogue):
                for item_idx, count in counts.items():
                    clicks[word][item_idx] += count
                    if not tokens.isdisjoint(catalogue.title_tokens(item_idx)):
                        with_word[word] += count
    return frozenset(word for word, counts in clicks.items() if _is_generic(counts, with_word[word]))


def _words(query: str, catalogue: Catalogue) -> list[tuple[str, frozenset[str]]]:
    """First token and all tokens of each distinct term of a query."""
    terms = dict.fromkeys(catalogue.analyser.terms(query))
    return [(term[0][0], frozenset(token for token, _ in term)) for term in terms]


def _is_generic(clicks: Mapping[int, float], with_word: float) -> bool:
    """True where many clicks are spread over products, most of them without the word in their titles."""
    total = sum(clicks.values())
    spread = max(clicks.values()) <= MAX_PRODUCT_FRAC * total
    return total >= MIN_CLICKS and with_word < MAX_TITLE_FRAC * total and spread
