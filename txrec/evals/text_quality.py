"""Text retrieval quality: clicked products ranked by their text alone, over the whole catalogue."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.index.training_log import clicks
from txrec.schema import Split

Scores = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True)
class TextQuality:
    """Retrieval quality of texts alone: the product clicked for a query, over the whole catalogue."""

    num_clicks: int
    mrr: float
    """Mean reciprocal rank; 0 without clicks."""
    ndcg_at_10: float
    """NDCG@10 with one relevant product per click."""


def quality(scores: Scores, data: PreparedData, split: Split, unseen: bool = False) -> TextQuality:
    """Measures how well texts lead to the clicks of a split.

    Args:
        scores: query_idx to the scores of all products, (N,).
        data: the prepared data.
        split: the clicks to be predicted.
        unseen: only those whose query has no training event.
    """
    query, item = clicks(data, split)
    if unseen:
        is_trained = np.asarray(data.queries["train_count"])[query - 1] > 0
        query, item = query[~is_trained], item[~is_trained]
    if not len(query):
        return TextQuality(0, 0.0, 0.0)
    ranks = np.empty(len(query))
    for query_idx in np.unique(query):
        rows = np.flatnonzero(query == query_idx)
        similarities = scores(int(query_idx))
        ranks[rows] = [_rank(similarities, item[row] - 1) for row in rows]
    gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)  # DCG of one relevant product; tied ranks are halves
    return TextQuality(len(ranks), float((1 / ranks).mean()), float(gains.mean()))


def cosines(items: NDArray[np.float32], queries: NDArray[np.float32]) -> Scores:
    """Scores by text vectors of products (N, Dt) and queries (Q, Dt)."""
    return lambda query_idx: items @ queries[query_idx - 1]


def _rank(scores: NDArray[np.float32], index: int) -> float:
    """Rank from 1; equal scores share the mean of their ranks."""
    above, equal = (scores > scores[index]).sum(), (scores == scores[index]).sum()
    return float(above + (equal + 1) / 2)
