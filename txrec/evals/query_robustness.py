"""Query robustness: hit rates by kind of misspelling or variant, on the generated shop.

A hit is a product among the first ten that fits everything the query names (`txrec.simulator.queries`), whether it
is available or not.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from txrec import simulator
from txrec.config import ShopConfig
from txrec.index.sources.lexical import Lexical
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.recommender.retrieval.retriever import NO_HISTORY
from txrec.simulator.queries import RobustQuery
from txrec.text import normalise

K = 10
NUM_QUERIES = 800
LONG = 10_000
"""Characters of the longest query requests."""
BATCH = 64

Search = Callable[[Sequence[str]], list[list[str]]]
"""Search texts to the raw ids of the first K items each."""


def robustness(cfg: ShopConfig, recommender: Recommender, progress: Progress = silent) -> dict[str, Any]:
    """Hit rates of a recommender and of its BM25 alone, over queries of every kind and over two extreme ones."""
    requests = simulator.robust_queries(cfg, NUM_QUERIES)

    def search(texts: Sequence[str]) -> list[list[str]]:
        candidates = recommender.retrieve_dense([NO_HISTORY] * len(texts), [normalise(text) for text in texts], top_k=K)
        ranked = recommender.rank_dense(candidates)
        keys = recommender.catalogue.item_ids
        return [[str(keys[i]) for i in one.item_idx[to.order[:K]]] for one, to in zip(candidates, ranked, strict=True)]

    rates: dict[str, Any] = {"txrec": hit_rates(requests, search, progress)}
    if "lexical" in recommender.retriever.sources:
        rates["bm25"] = hit_rates(requests, _by_words(recommender), progress)
    endless = (requests[0].query + " ") * (LONG // (len(requests[0].query) + 1) + 1)
    extremes = search(["", endless[:LONG]])
    return rates | {"answered": {"empty": len(extremes[0]), f"{LONG:,} characters": len(extremes[1])}}


def hit_rates(requests: Sequence[RobustQuery], search: Search, progress: Progress = silent) -> dict[str, float]:
    """Kind of spelling = share of its queries with a hit among the first K; `all` over all of them."""
    hits: dict[str, list[bool]] = {}
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        for case, ids in zip(part, search([case.query for case in part]), strict=True):
            hit = not case.targets.isdisjoint(ids[:K])
            hits.setdefault(case.corruption, []).append(hit)
            hits.setdefault("all", []).append(hit)
        progress("robustness", min(start + BATCH, len(requests)), len(requests))
    return {kind: sum(outcomes) / len(outcomes) for kind, outcomes in hits.items()}


def _by_words(recommender: Recommender) -> Search:
    lexical, keys = cast(Lexical, recommender.retriever.sources["lexical"]), recommender.catalogue.item_ids
    return lambda texts: [[str(keys[i]) for i in ids if i] for ids in lexical.first([normalise(t) for t in texts], K)]
