"""Text training corpus: texts and (query, product) pairs of the training part.

Where there is a log, its products and queries, the clicks that queries led to, and products that a user took one after
the other. Where people judged pairs and there is no log, the judged pairs: those graded above the middle go together.
A catalogue alone gives its texts. Every query also gets *hard negatives*: products that people judged badly for it, or
those that BM25 ranks first for it and nobody clicked.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from txrec.config import PretrainConfig
from txrec.data.judgments import RELEVANT_GRADE_FRAC, Judgments
from txrec.data.prepared import PreparedData
from txrec.index.sources.lexical import Lexical
from txrec.index.training_log import clicks, engaged
from txrec.schema import PAD, Split

MINED = 20
"""Products that BM25 ranks first for a query, the clicked ones among them, are its hard negatives."""
_SEARCH_BATCH = 512


@dataclass(frozen=True, eq=False)
class Corpus:
    """The training part as text. Anchors are the queries, then the products."""

    products: list[str]  # normalised
    queries: list[str]  # normalised
    pairs: NDArray[np.int64]  # (P, 2) distinct rows of `anchors` and `products`
    weights: NDArray[np.float64]  # (P,) how much each pair counts
    hard_offsets: NDArray[np.int64]  # (A + 1,) anchor a owns [offsets[a], offsets[a + 1]) of `hard`
    hard: NDArray[np.int64]  # rows of `products` that are hard negatives

    @classmethod
    def of(cls, data: PreparedData, cfg: PretrainConfig) -> "Corpus":
        """Reads the training part of a prepared data set."""
        if data.judged_only:
            return _of_judgments(data, cfg)
        return _of_log(data, cfg)

    @cached_property
    def anchors(self) -> list[str]:
        """Anchors of the pairs: the queries, then the products."""
        return [*self.queries, *self.products]

    @cached_property
    def positive_keys(self) -> NDArray[np.int64]:
        """(P,) sorted anchor * len(products) + product, to look pairs up."""
        return np.sort(self.pairs[:, 0] * len(self.products) + self.pairs[:, 1])

    @cached_property
    def product_share(self) -> NDArray[np.float64]:
        """(len(products),) share of the pairs that have this product."""
        return np.bincount(self.pairs[:, 1], minlength=len(self.products)) / max(1, len(self.pairs))

    def is_pair(self, anchors: NDArray[np.int64], products: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B, C) marks of anchors (B, 1) and products (1, C), broadcast, that are known pairs, or one product twice."""
        keys = anchors * len(self.products) + products
        places = np.searchsorted(self.positive_keys, keys).clip(max=max(0, len(self.positive_keys) - 1))
        known = self.positive_keys[places] == keys if len(self.positive_keys) else np.zeros(keys.shape, np.bool_)
        return np.asarray(known | (anchors == products + len(self.queries)))

    def draw_hard(self, anchors: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """(B,) one hard negative of every anchor, -1 where it has none."""
        first, count = self.hard_offsets[anchors], np.diff(self.hard_offsets)[anchors]
        places = first + (rng.random(len(anchors)) * count).astype(np.int64)
        return np.where(count > 0, np.append(self.hard, -1)[np.where(count > 0, places, -1)], -1)


def _of_log(data: PreparedData, cfg: PretrainConfig) -> Corpus:
    trained = np.flatnonzero(np.asarray(data.items["train_count"]) > 0)
    if not len(data.sequences.item_idx):
        trained = np.arange(data.meta.num_items)  # a catalogue alone has nothing to be held out
    query_idx = np.flatnonzero(np.asarray(data.queries["train_count"]) > 0)
    product_row, query_row = _rows(data.meta.num_items, trained), _rows(data.meta.num_queries, query_idx)
    query, item = clicks(data, Split.TRAIN)
    searched, num_clicks = _distinct(query_row[query], product_row[item])
    first, second = _neighbours(data)
    walked, visits = _distinct(product_row[first], product_row[second])
    chosen = np.argsort(-visits, kind="stable")[: _num_product_pairs(len(searched), len(trained), cfg)]
    queries = data.queries["query"].take(query_idx).to_pylist()
    offsets, hard = _csr(_mined(data, queries, product_row, searched, cfg), len(query_idx) + len(trained))
    return Corpus(
        products=data.items["text"].take(trained).to_pylist(),
        queries=queries,
        pairs=np.concatenate([searched, walked[chosen] + [len(query_idx), 0]]),
        weights=1.0 + np.log(np.concatenate([num_clicks, visits[chosen]])),
        hard_offsets=offsets,
        hard=hard,
    )


def _of_judgments(data: PreparedData, cfg: PretrainConfig) -> Corpus:
    """Pairs weigh by their grade; no product is held out, only judgments are."""
    judged = Judgments.of(data, Split.TRAIN)
    query_idx = np.unique(judged.query)
    pairs = np.stack([np.searchsorted(query_idx, judged.query), judged.item.astype(np.int64) - 1], axis=1)
    right = judged.share > RELEVANT_GRADE_FRAC
    bad = pairs[~right] if cfg.hard_negatives else np.empty((0, 2), np.int64)
    offsets, hard = _csr(bad, len(query_idx) + data.meta.num_items)
    return Corpus(
        products=data.items["text"].to_pylist(),
        queries=data.queries["query"].take(query_idx - 1).to_pylist(),
        pairs=pairs[right],
        weights=judged.share[right],
        hard_offsets=offsets,
        hard=hard,
    )


def _mined(
    data: PreparedData,
    queries: list[str],
    product_row: NDArray[np.int64],
    searched: NDArray[np.int64],
    cfg: PretrainConfig,
) -> NDArray[np.int64]:
    """(M, 2) rows of a query and of a product that BM25 ranks among the first for it, but nobody clicked."""
    if not (cfg.hard_negatives and len(searched)):
        return np.empty((0, 2), np.int64)
    lexical, negatives = Lexical.fit(data.items, data.analyser), []
    for start in range(0, len(queries), _SEARCH_BATCH):
        texts = queries[start : start + _SEARCH_BATCH]
        ids = lexical.first(texts, MINED)
        rows = np.repeat(np.arange(start, start + len(texts)), ids.shape[1])
        negatives.append(np.stack([rows, product_row[ids.ravel()]], axis=1)[ids.ravel() != PAD])
    pairs = np.concatenate(negatives)
    num_products = int(product_row.max(initial=-1)) + 1
    is_positive = np.isin(pairs @ [num_products, 1], searched @ [num_products, 1])
    return np.asarray(pairs[~is_positive & (pairs[:, 1] >= 0)])


def _csr(pairs: NDArray[np.int64], num_anchors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(A + 1,) offsets by anchor and the products of (M, 2) pairs in that order."""
    order = np.argsort(pairs[:, 0], kind="stable")
    counts = np.bincount(pairs[:, 0], minlength=num_anchors)
    return np.append(0, np.cumsum(counts)).astype(np.int64), pairs[order, 1]


def _rows(num_ids: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of every dense index 0..num_ids among the chosen ones (0-based), -1 for the others."""
    rows = np.full(num_ids + 1, -1, dtype=np.int64)
    rows[chosen + 1] = np.arange(len(chosen))
    return rows


def _distinct(left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs (P, 2) without those of a negative row, and how often each occurs (P,)."""
    both = np.stack([left, right], axis=1)
    pairs, counts = np.unique(both[(both >= 0).all(axis=1)], axis=0, return_counts=True)
    return pairs.reshape(-1, 2), counts


def _num_product_pairs(num_searched: int, num_products: int, cfg: PretrainConfig) -> int:
    """Pairs of products for a number of (query, product) pairs; without queries they are the only pairs."""
    frac = cfg.product_pairs_frac
    if num_searched:
        return round(num_searched * frac / (1 - frac))
    return round(num_products * cfg.pairs_per_product) if frac else 0


def _neighbours(data: PreparedData) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Dense (item, next other item) of the same user in the training part, in both directions."""
    events = data.sequences
    is_engaged = engaged(data, Split.TRAIN)
    item = events.item_idx[is_engaged]
    user = np.repeat(np.arange(len(events)), np.diff(events.offsets))[is_engaged]
    adjacent = (user[1:] == user[:-1]) & (item[1:] != item[:-1])
    first, second = item[:-1][adjacent], item[1:][adjacent]
    return np.concatenate([first, second]), np.concatenate([second, first])
