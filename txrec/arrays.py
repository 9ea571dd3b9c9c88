"""Array helpers shared by all layers: ragged gather, index lookup, and discounted cumulative gain."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


def ragged_gather(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(sum of lengths,) indices of R runs of a flat array, one run after another.

    Args:
        starts: (R,) first index of each run.
        lengths: (R,) its length, may be 0.

    >>> ragged_gather(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    indices: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return indices


class SortedIndex(NamedTuple):
    """(n,) indices of queries in keys, and (n,) marks of the queries that are among them."""

    place: NDArray[np.int64]
    exists: NDArray[np.bool_]


def sorted_index(keys: NDArray[Any], queries: NDArray[Any]) -> SortedIndex:
    """Index of each of n queries in the keys, of which there is one at least."""
    order = np.argsort(keys)
    index = order[np.minimum(np.searchsorted(keys, queries, sorter=order), len(order) - 1)]
    return SortedIndex(index, keys[index] == queries)


def dcg_discounts(k: int) -> NDArray[np.float64]:
    """(k,) discounts of ranks 1 to k, 1 / log2(rank + 1) (Järvelin and Kekäläinen, 2002)."""
    discounts: NDArray[np.float64] = 1.0 / np.log2(np.arange(2, k + 2))
    return discounts


def ndcg(hit: NDArray[np.bool_], num_relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """(C,) NDCG@k with binary relevance: DCG of the first k places over the best possible; 0 without relevant items.

    Args:
        hit: (C, K) whether the item at each rank is relevant.
        num_relevant: (C,) relevant items, retrieved or not.
        k: cut-off.
    """
    discounts = dcg_discounts(k)
    best = np.append(0.0, np.cumsum(discounts))[np.minimum(num_relevant, k)]
    top = hit[:, :k]
    gain = top @ discounts[: top.shape[1]]
    return np.asarray(np.divide(gain, best, out=np.zeros(len(hit)), where=best > 0))
