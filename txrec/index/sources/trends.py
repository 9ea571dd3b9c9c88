"""Trending products: more users than usual in the last hours, from live events."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.index.live_log import LiveLog
from txrec.index.source import Scored

WINDOW_US = 6 * 3_600_000_000
"""Now, before the latest event, microseconds."""
MIN_USERS = 3
"""Users in the window from which on a product can trend; fewer are chance."""
MIN_SURPRISE = 2.0
"""Standard deviations above the usual number of users."""
PRIOR_EVENTS = 0.5
"""Usual events that every product is taken to have next to those counted."""


@dataclass(frozen=True, eq=False)
class Trends:
    """Users of the last hours, by product.

    Attributes:
        users: (N + 1,) users in the window.
        usual: (N + 1,) users that the product's share of all earlier events lets expect.
    """

    users: NDArray[np.float32]
    usual: NDArray[np.float32]

    @classmethod
    def of(cls, live: LiveLog, window_us: int = WINDOW_US) -> "Trends":
        """Compares the window with everything before it: live events and the fitted counts.

        Each user counts once per product, so that one alone cannot make a trend.
        """
        log, size = live.log, live.num_items + 1
        recent = log.ts > int(log.ts.max()) - window_us
        pairs = np.unique(np.stack([log.user_idx[recent], log.item_idx[recent]]), axis=1)
        users = np.bincount(pairs[1], minlength=size).astype(np.float32)
        weights = log.weights(live.half_life_days)
        before = np.bincount(log.item_idx[~recent], weights=weights[~recent], minlength=size) + live.popularity
        before[1:] += PRIOR_EVENTS
        before[0] = 0.0
        return cls(users, (users.sum() * before / max(before.sum(), 1e-9)).astype(np.float32))

    def rising(self) -> Scored:
        """Trending products, most surprising first, with the standard deviations above the usual number of users."""
        surprise = (self.users - self.usual) / np.sqrt(self.usual + 1.0)
        ids = np.flatnonzero((self.users >= MIN_USERS) & (surprise >= MIN_SURPRISE)).astype(np.int32)
        order = np.lexsort((ids, -surprise[ids]))
        return Scored(ids[order], surprise[ids][order].astype(np.float32))
