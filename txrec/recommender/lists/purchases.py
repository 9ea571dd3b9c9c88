"""Purchases and trends of a recommender, for lists: baskets, usual intervals, live events; counted on demand."""

import copy
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from txrec.index.live_log import LiveLog
from txrec.index.sources.co_purchases import Baskets, CoPurchases, live_co_purchases
from txrec.index.sources.trends import Trends
from txrec.recommender.bundle import Bundle
from txrec.recommender.lists.lists import purchase_intervals


class _Fitted:
    """Co-purchases and purchase intervals of a bundle, from the last events of its users."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @cached_property
    def together(self) -> CoPurchases:
        """Products bought together."""
        users = self._bundle.users
        baskets = Baskets.of_purchases(self._rows, users.item_idx, users.event, users.ts)
        return CoPurchases(baskets, self._bundle.items.num_rows)

    @cached_property
    def intervals(self) -> NDArray[np.float32]:
        """(N + 1,) usual days between two purchases of a product by one user, NaN = not known."""
        users = self._bundle.users
        return purchase_intervals(self._rows, users.item_idx, users.event, users.ts, self._bundle.items.num_rows)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        users = self._bundle.users
        return np.repeat(np.arange(len(users), dtype=np.int64), np.diff(users.offsets))


class Purchases:
    """Co-purchases, intervals and trends of a bundle and of live events."""

    def __init__(self, bundle: Bundle) -> None:
        self._fitted = _Fitted(bundle)
        self._live: LiveLog | None = None

    def with_live(self, live: LiveLog) -> "Purchases":
        """The same with these live events instead of earlier ones."""
        changed = copy.copy(self)
        changed.__dict__.pop("together", None)
        changed.__dict__.pop("trends", None)
        changed._live = live
        return changed

    @cached_property
    def together(self) -> CoPurchases:
        """Products bought together."""
        fitted = self._fitted.together
        return fitted if self._live is None else fitted.with_live(live_co_purchases(self._live))

    @cached_property
    def trends(self) -> Trends | None:
        """Products that rise now; None without live events."""
        return None if self._live is None else Trends.of(self._live)

    def usual_intervals(self, num_items: int) -> NDArray[np.float32]:
        """(N + 1,) usual days between two purchases of a product by one user, NaN = not known."""
        intervals = self._fitted.intervals
        return np.pad(intervals, (0, num_items + 1 - len(intervals)), constant_values=np.nan)
