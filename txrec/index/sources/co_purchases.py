"""Co-purchases: products bought in one basket, from purchases alone; what goes with a product, not what is like it."""

import copy
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec.index.live_log import LiveLog
from txrec.index.source import Scored
from txrec.schema import DAY_US, PAD, EventKind

BASKET_GAP_US = DAY_US // 4
"""Purchases of one user belong to one basket while no two of them lie further apart, microseconds."""
MAX_BASKET = 100
"""Products of one basket that count; whole assortments say nothing of what goes together."""
POPULARITY_EXPONENT = 0.5
"""0 ranks by the number of common baskets, 1 by lift; between them, rare chance pairs and universal best-sellers both
stay back."""
PRIOR_BASKETS = 2.0
"""Baskets that a product is taken to have been in, in addition to those counted."""
MIN_STRICT, MIN_RELAXED = 2, 1
"""Common baskets from which on a product goes with another one."""


@dataclass(frozen=True, eq=False)
class Baskets:
    """Products bought together.

    Attributes:
        basket: (P,) number of the basket of each purchase.
        item_idx: (P,) its product; a product is in a basket once.
    """

    basket: NDArray[np.int64]
    item_idx: NDArray[np.int32]

    @classmethod
    def of_purchases(
        cls, user: NDArray[np.int64], item_idx: NDArray[np.int32], event: NDArray[np.int8], ts: NDArray[np.int64]
    ) -> "Baskets":
        """Baskets of a log, (E,) each: purchases of one user without a longer gap; without times one per user."""
        bought = np.flatnonzero((event == int(EventKind.PURCHASE)) & (item_idx != PAD))
        order = bought[np.lexsort((ts[bought], user[bought]))]
        user, item_idx, ts = user[order], item_idx[order], ts[order]
        new = np.append(True, (np.diff(user) != 0) | (np.diff(ts) > BASKET_GAP_US))[: len(order)]
        pairs = np.unique(np.stack([np.cumsum(new), item_idx.astype(np.int64)], axis=1), axis=0)
        sizes = np.bincount(pairs[:, 0]) if len(pairs) else np.empty(0, np.int64)
        pairs = pairs[sizes[pairs[:, 0]] <= MAX_BASKET] if len(pairs) else pairs
        return cls(pairs[:, 0], pairs[:, 1].astype(np.int32))


def live_co_purchases(live: LiveLog) -> "CoPurchases":
    """Co-purchases of live events."""
    log = live.log
    baskets = Baskets.of_purchases(log.user_idx.astype(np.int64), log.item_idx, log.kind, log.ts)
    return CoPurchases(baskets, live.num_items)


class CoPurchases:
    """Common baskets of every two products."""

    def __init__(self, baskets: Baskets, num_items: int) -> None:
        """Counts.

        Args:
            baskets: the purchases.
            num_items: N.
        """
        size = num_items + 1
        rows = int(baskets.basket.max(initial=0)) + 1
        ones = np.ones(len(baskets.item_idx), np.float32)
        incidence = sp.coo_array((ones, (baskets.basket, baskets.item_idx)), shape=(rows, size)).tocsr()
        self.counts = sp.csr_array(incidence.T @ incidence)
        self._live: CoPurchases | None = None
        self.num_baskets = np.bincount(baskets.item_idx, minlength=size).astype(np.float32)

    def with_live(self, live: "CoPurchases") -> "CoPurchases":
        """The counts with those of live baskets, of a catalogue at least as large, next to them."""
        joined = copy.copy(self)
        joined._live = live
        return joined

    def together(
        self, item_idx: int, min_count: int = MIN_STRICT, exponent: float = POPULARITY_EXPONENT
    ) -> tuple[Scored, NDArray[np.float32]]:
        """Products bought with one, with their scores, best first, and (n,) the number of common baskets.

        Args:
            item_idx: the product.
            min_count: least number of common baskets.
            exponent: how much popular products are held back.
        """
        ids, counts = self._common(item_idx)
        if self._live is not None:
            more, more_counts = self._live._common(item_idx)
            ids, place = np.unique(np.concatenate([ids, more]), return_inverse=True)
            total = np.bincount(place, weights=np.concatenate([counts, more_counts]), minlength=len(ids))
            counts = total.astype(np.float32)
        kept = (ids != item_idx) & (counts >= min_count)
        ids, counts = ids[kept], counts[kept]
        scores = counts / (self._num_baskets(ids) + PRIOR_BASKETS) ** np.float32(exponent)
        order = np.lexsort((ids, -counts, -scores))
        return Scored(ids[order], scores[order].astype(np.float32)), counts[order]

    def _common(self, item_idx: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if item_idx >= self.counts.shape[0]:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        own = slice(*self.counts.indptr[item_idx : item_idx + 2])
        return self.counts.indices[own].astype(np.int32), self.counts.data[own]

    def _num_baskets(self, item_idx: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n,) baskets of products."""
        known = item_idx < len(self.num_baskets)
        number = np.where(known, self.num_baskets[np.where(known, item_idx, 0)], np.float32(0))
        return number if self._live is None else number + self._live._num_baskets(item_idx)
