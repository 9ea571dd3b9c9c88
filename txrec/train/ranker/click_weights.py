"""Weights of clicks by what served slates tell: a click far down counts more, because few people look there.

Ranking by a softmax loss whose right items are weighted by the inverse of their probability of being looked at is
unbiased where the position-based click model holds (Joachims et al. 2017, "Unbiased learning-to-rank with biased
feedback"). Weights are cut at `MAX_WEIGHT` and have a mean of 1. Events on products that no slate showed come from
elsewhere in the shop and are not biased by a place: they weigh as those of the first place.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.config import MonitorConfig
from txrec.data import served_slates
from txrec.data.prepared import PreparedData
from txrec.loop.attribution.attribution import credit, slates_of
from txrec.loop.off_policy.fatigue_effect import fatigue_factors
from txrec.loop.off_policy.position_bias import PositionBias, estimate
from txrec.loop.settings import windows
from txrec.schema import PAD, EventKind, is_engagement

MAX_WEIGHT = 10.0
"""Largest weight of a click, relative to one at the first place."""


@dataclass(frozen=True, eq=False)
class ClickWeights:
    """Inverse examination of the places that events were made at.

    Attributes:
        bias: as estimated.
        user: (n,) row of the user among the data set's, of each event that a slate led to.
        item_idx: (n,) its product.
        ts: (n,) its time, microseconds.
        place: (n,) of the product in the slate, from 0.
        fatigue: factors on click probabilities after 0, 1, 2 ... showings in vain; empty = the slates do not tell.
    """

    bias: PositionBias
    user: NDArray[np.int64]
    item_idx: NDArray[np.int32]
    ts: NDArray[np.int64]
    place: NDArray[np.int64]
    fatigue: tuple[float, ...] = ()

    @classmethod
    def of(cls, data: PreparedData, cfg: MonitorConfig) -> "ClickWeights | None":
        """Weights from a data set's slates, those before the test part; None where they do not tell the bias."""
        slates = served_slates.read(data.path)
        if slates is None:
            return None
        shown = slates_of(slates)
        if data.meta.test_start_ts:
            shown = shown.filter(pl.col("ts") < data.meta.test_start_ts)
        events = _events(data)
        credits_ = credit(
            shown, events.select("user_id", "ts", "event", "item_id", "request_id", "value"), windows(cfg)
        )
        bias = estimate(shown, credits_)
        if bias is None:
            return None
        led = credits_.join(shown.select("request_id", "user_id", "item_ids"), on="request_id")
        led = led.with_columns(item_id=pl.col("item_ids").list.get(pl.col("place")))
        led = led.join(events.select("user_id", "item_id", "ts", "event", "user", "item_idx"), on=_KEYS)
        user, item_idx, ts, place = (led[name].to_numpy() for name in ("user", "item_idx", "ts", "place"))
        return cls(bias, user, item_idx, ts, place, fatigue_factors(shown, credits_, bias))

    def at(self, user: int, item_idx: NDArray[np.int32], now_us: int) -> NDArray[np.float64]:
        """(k,) weights of a user's events on products after a time; 1 for products that no slate led to."""
        weights = np.ones(len(item_idx))
        for number, item in enumerate(item_idx.tolist()):
            places = self._places.get((user, item))
            if places is None:
                continue
            ts, place = places
            first = int(np.searchsorted(ts, now_us))
            if first < len(ts):
                weights[number] = min(1 / max(float(self.bias.at(place[first])), 1e-9), MAX_WEIGHT)
        return weights

    @cached_property
    def _places(self) -> dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(user, item_idx) -> times and places of the events, in time order."""
        order = np.lexsort((self.ts, self.item_idx, self.user))
        if not len(order):
            return {}
        user, item = self.user[order], self.item_idx[order]
        ts, place = self.ts[order].astype(np.int64), self.place[order].astype(np.int64)
        starts = np.flatnonzero(np.append(True, (np.diff(user) != 0) | (np.diff(item) != 0)))
        ends = np.append(starts[1:], len(user))
        return {
            (int(user[start]), int(item[start])): (ts[start:end], place[start:end])
            for start, end in zip(starts, ends, strict=True)
        }


_KEYS = ["user_id", "item_id", "ts", "event"]


def _events(data: PreparedData) -> pl.DataFrame:
    """Engagements of the prepared log by the shop's ids, with the rows and indices of the data set."""
    log = data.sequences
    user = np.repeat(np.arange(len(log)), np.diff(log.offsets))
    engaged = np.flatnonzero((log.item_idx != PAD) & is_engagement(log.event))
    names = {int(kind): kind.label for kind in EventKind}
    item_ids = np.array([None, *data.items["item_id"].to_pylist()], dtype=object)
    return pl.DataFrame(
        {
            "user_id": log.user_id[user[engaged]].tolist(),
            "ts": log.ts[engaged],
            "event": [names[int(code)] for code in log.event[engaged]],
            "item_id": item_ids[log.item_idx[engaged]].tolist(),
            "request_id": pl.Series([None] * len(engaged), dtype=pl.String),
            "value": log.value[engaged],
            "user": user[engaged],
            "item_idx": log.item_idx[engaged],
        }
    ).unique(["user_id", "item_id", "ts", "event"], keep="first", maintain_order=True)
