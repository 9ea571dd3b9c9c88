"""Entries of the completion index that a bundle knows: searched queries, categories and products."""

from collections.abc import Mapping

import numpy as np

from txrec.index.source import Source
from txrec.index.suggestions import Suggestion
from txrec.recommender.catalogue import Catalogue

MAX_QUERIES = 50_000
MAX_PRODUCTS = 50_000
MAX_LIVE = 1_000
"""Live queries that are suggested; their index is made anew whenever they change."""


def entries(catalogue: Catalogue, sources: Mapping[str, Source]) -> list[Suggestion]:
    """Completions of a bundle.

    Queries are those that led to a click, weighted by their time-decayed clicks, so that each has results and rising
    ones come first. Products on sale and categories are weighted by their events in training.
    """
    queries = [pair for source in sources.values() for pair in source.clicked_queries(MAX_QUERIES)]
    searched = [Suggestion(text, "query", 1.0 + clicks) for text, clicks in queries]
    return [*searched, *_categories(catalogue), *_products(catalogue)]


def live_entries(sources: Mapping[str, Source]) -> list[Suggestion]:
    """Queries after which several users clicked while the server runs, weighted by fitted and live clicks."""
    queries = [pair for source in sources.values() for pair in source.live_queries(MAX_LIVE)]
    return [Suggestion(text, "query", 1.0 + clicks) for text, clicks in queries]


def _products(catalogue: Catalogue) -> list[Suggestion]:
    counts = np.append(0, catalogue.items.column("train_count").to_numpy())
    on_sale = catalogue.on_sale
    order = np.argsort(-counts[1:], kind="stable")[:MAX_PRODUCTS] + 1
    return [
        Suggestion(str(catalogue.titles[idx]), "product", 0.5 + 0.2 * float(counts[idx]), str(catalogue.item_ids[idx]))
        for idx in order
        if catalogue.titles[idx] and (on_sale is None or on_sale[idx])
    ]


def _categories(catalogue: Catalogue) -> list[Suggestion]:
    weights: dict[str, float] = {}
    counts = catalogue.items.column("train_count").to_pylist()
    for path, count in zip(catalogue.items.column("category").to_pylist(), counts, strict=True):
        for name in path or ():
            weights[name] = weights.get(name, 0.5) + 0.5 * (count or 0)
    return [Suggestion(name, "category", weight) for name, weight in weights.items()]
