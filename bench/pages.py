"""Cost of search pages and filters over a large catalogue, without retrieval and ranking.

    python bench/pages.py [--items 1000000] [--repeats 20]

The catalogue has titles of generated words, a category path, brands, prices and five attributes (two of them numbers).
`match` finds the matching products of a query, `page` makes the whole page (total, order behind the ranked products,
token). Queries match about 0.1 % and about 10 % of the products; browsing counts all of them. Prints a table of medians
in milliseconds, and one JSON object as its last line.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from txrec import schema
from txrec.index.filters.filters import Filters
from txrec.index.source import Source
from txrec.index.sources.lexical import Lexical
from txrec.index.sources.popularity import Popularity
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.page_types import PageRequest, Quota
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.search.matching import Matcher, Speller
from txrec.recommender.search.search_page import PageContext, plan
from txrec.recommender.types import Request
from txrec.text import Analyser

NUM_RARE, NUM_COMMON = 1_000, 20
WHERE = 'watts >= 40 AND watts < 400 AND NOT colour IN (red, "light blue")'


def items(num_items: int, rng: np.random.Generator) -> pa.Table:
    """A generated catalogue like schema.PREPARED_ITEMS."""
    rare = np.array([f"thing{n}" for n in range(NUM_RARE)])[rng.integers(0, NUM_RARE, num_items)]
    common = np.array([f"common{n}" for n in range(NUM_COMMON)])[rng.integers(0, NUM_COMMON, (num_items, 2))]
    titles = [f"{one} {two} {three}" for one, (two, three) in zip(rare.tolist(), common.tolist(), strict=True)]
    colours = np.array(["red", "blue", "light blue", "green", "black"])[rng.integers(0, 5, num_items)]
    sizes = np.array(["S", "M", "L", "XL"])[rng.integers(0, 4, num_items)]
    numbers = [rng.integers(1, most, num_items) for most in (500, 6, 200)]
    names = ("colour", "size", "watts", "rating", "series")
    flat = np.stack([column.astype(str) for column in (colours, sizes, *numbers)], axis=1).ravel()
    attributes = pa.MapArray.from_arrays(
        np.arange(0, len(flat) + 1, len(names), dtype=np.int32), pa.array(names * num_items), pa.array(flat.tolist())
    )
    leaf = rng.integers(0, 400, num_items)
    category = [[f"area {one % 20}", f"category {one}"] for one in leaf.tolist()]
    brand = [f"brand {one}" for one in (rng.zipf(1.5, num_items) % 2_000).tolist()]
    zeros = np.zeros(num_items, np.int32)
    table = {
        "item_id": [f"SKU{n:08d}" for n in range(num_items)],
        "title": titles,
        "description": pa.nulls(num_items, pa.string()),
        "category": category,
        "brand": brand,
        "price": rng.lognormal(3, 1, num_items).round(2),
        "available": pa.nulls(num_items, pa.bool_()),
        "attributes": attributes,
        "text": titles,
        "category_idx": zeros,
        "brand_idx": zeros,
        "price_bucket": zeros,
        "train_count": zeros,
    }
    columns_in_order = [
        pa.array(table[field.name]).cast(field.type) if field.name in table else pa.nulls(num_items, field.type)
        for field in schema.PREPARED_ITEMS
    ]
    return pa.Table.from_arrays(columns_in_order, schema=schema.PREPARED_ITEMS)


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return round(float(np.median(times)), 3)


def run(num_items: int, repeats: int, seed: int = 1) -> dict[str, float]:
    """All figures of one catalogue."""
    rng = np.random.default_rng(seed)
    table = items(num_items, rng)
    analyser = Analyser()
    catalogue = Catalogue(table, analyser=analyser)
    counts = rng.exponential(10, num_items + 1).astype(np.float32)
    sources: dict[str, Source] = {"lexical": Lexical.fit(table, analyser), "popularity": Popularity(counts)}
    times = np.zeros(num_items + 1, np.int64)
    activity = Activity(counts, counts, counts, times, times, 0)
    matcher = Matcher(sources, analyser, num_items, Speller(analyser, sources))
    context = PageContext(catalogue, sources, activity, matcher, 100)
    figures: dict[str, float] = {"items": num_items}
    started = time.perf_counter()
    facets = catalogue.facets
    figures["build_facets_s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    _ = catalogue.filters
    figures["build_filters_s"] = round(time.perf_counter() - started, 2)
    changed, row = np.array([5], np.int32), table.slice(4, 1)
    figures["change_one_product_ms"] = timed(lambda: facets.with_items(changed, row, num_items + 1), min(repeats, 5))
    where = Filters.model_validate({"where": WHERE})
    figures["filter_ms"] = timed(lambda: catalogue.mask(where, ()), repeats)
    for name, query in (("rare", "thing7"), ("common", "common3"), ("browse", "")):
        mask = matcher.match(query).mask
        matching = np.append(False, np.ones(num_items, np.bool_)) if mask is None else mask
        figures[f"{name}_matches"] = int(matching.sum())
        if query:
            figures[f"{name}_match_ms"] = timed(lambda text=query: matcher.match(text), repeats)  # type: ignore[misc]
        figures[f"{name}_auto_facets_ms"] = timed(lambda one=matching: facets.auto(one, 10), repeats)  # type: ignore[misc]
        for kind, page in (
            ("page", PageRequest(sort="-price")),
            ("page_of_facets", PageRequest(sort="-price", facets=("category", "brand", "price", "colour", "watts"))),
            ("page_of_groups", PageRequest(sort="price", group_by="series", quotas=(Quota("brand", 3),))),
        ):
            request = Request(query=query, top_k=24, filters=where)
            figures[f"{name}_{kind}_ms"] = timed(
                lambda request=request, page=page: plan(  # type: ignore[misc]
                    context, request, page, lambda filters: catalogue.mask(filters, ())
                ).finish(),
                repeats,
            )
    return figures


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="two thousand products")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.items, arguments.repeats = 2_000, 2
    figures = run(arguments.items, arguments.repeats)
    for name, value in figures.items():
        print(f"{name:>28}  {value:>12,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
