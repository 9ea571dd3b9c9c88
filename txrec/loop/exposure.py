"""Exposure of product groups: their share of attention in slates next to their share of catalogue, sales and relevance.

A place earns the attention 1 / log2(1 + rank), the discount of NDCG, as in fairness of exposure (Singh and Joachims,
2018). Groups are brands, broadest categories, price bands, ages, popularity bands, and attributes that the
configuration names, e.g. the seller. Limits bound the share of a group; a share outside is an alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.arrays import dcg_discounts
from txrec.config import ExposureConfig, ExposureLimit
from txrec.data.head import head_of
from txrec.data.prepared import PreparedData
from txrec.schema import DAY_US, PAD, EventKind, Split

DEPTH = 10
"""Places of a slate that count."""
SHOWN_PARTS = 20
"""Parts of a group in reports, by exposure; the limited ones always."""
AGES_DAYS = ((7, "up to a week"), (30, "up to a month"), (180, "up to half a year"))
OLDER, NEVER_SEEN, NO_VALUE = "older", "not in the log", "(none)"


@dataclass(frozen=True)
class Share:
    """Shares of one part of a group, each 0 to 1.

    Attributes:
        group: name of the group, e.g. `brand`.
        part: value, e.g. a brand.
        exposure: of the attention in slates.
        catalogue: of the products on sale.
        sales: of the purchases in training, or of all events where nothing was bought.
        relevance: of the relevant products of the measured requests (live: of the clicks).
    """

    group: str
    part: str
    exposure: float
    catalogue: float
    sales: float
    relevance: float

    @property
    def exposure_per_relevance(self) -> float | None:
        """Attention per relevance: 1 = proportional; None without relevance."""
        return self.exposure / self.relevance if self.relevance > 0 else None


@dataclass(frozen=True, eq=False)
class ProductGroups:
    """Group membership of products.

    Attributes:
        item_ids: (N,) ids of the shop.
        parts: group -> (N,) part of each product.
        on_sale: (N,) whether a product may be shown.
        sales: (N,) purchases in training, or events where nothing was bought.
    """

    item_ids: Sequence[str]
    parts: Mapping[str, NDArray[np.object_]]
    on_sale: NDArray[np.bool_]
    sales: NDArray[np.float64]

    @classmethod
    def of(cls, data: PreparedData, attributes: Sequence[str] = ()) -> "ProductGroups":
        """Groups of the products of a prepared data set, in the order of item_idx (row i holds item_idx i + 1)."""
        items = pl.DataFrame(pl.from_arrow(data.items))
        events, purchases, first_us, last_us = _training_events(data, items.height)
        parts = {
            "brand": _text(items["brand"]),
            "category": _text(items["category"].list.first()),
            "price": _price_bands(items["price"].cast(pl.Float64).to_numpy()),
            "age": _ages(first_us, last_us),
            "popularity": _popularity(events),
        }
        maps = data.items["attributes"].to_pylist() if attributes else []
        for name in attributes:
            parts[name] = np.array([dict(one or ()).get(name) or NO_VALUE for one in maps], object)
        on_sale = items["available"].fill_null(value=True).to_numpy()
        return cls(
            items["item_id"].to_list(), parts, on_sale, purchases if purchases.sum() else events.astype(np.float64)
        )

    def shares(self, exposure: NDArray[np.float64], relevance: NDArray[np.float64]) -> list[Share]:
        """Shares of every part of every group, by exposure within a group.

        Args:
            exposure: (N,) attention of each product.
            relevance: (N,) how often each product was the right one.
        """
        columns = np.stack([exposure, self.on_sale.astype(np.float64), self.sales, relevance])
        totals = np.maximum(columns.sum(axis=1, keepdims=True), 1e-12)
        shares = []
        for group, values in self.parts.items():
            names, code = np.unique(values.astype(str), return_inverse=True)
            sums = np.stack([np.bincount(code, column, len(names)) for column in columns]) / totals
            order = np.argsort(-sums[0], kind="stable")
            shares += [Share(group, str(names[at]), *(float(value) for value in sums[:, at])) for at in order]
        return shares

    def marked(self, limit: ExposureLimit) -> NDArray[np.bool_]:
        """(N,) products that a limit is about."""
        values = self.parts.get(limit.group)
        if values is None:
            return np.zeros(len(self.item_ids), np.bool_)
        return np.asarray(values.astype(str) == limit.part)


def attention(lists: NDArray[np.int32], num_items: int) -> NDArray[np.float64]:
    """(N,) attention of each product in slates.

    Args:
        lists: (C, K) item_idx of each slate, best first, PAD = empty.
        num_items: N.
    """
    top = lists[:, :DEPTH]
    weights = np.broadcast_to(dcg_discounts(top.shape[1]), top.shape)
    sums = np.bincount(top[top != PAD], weights[top != PAD], num_items + 1)
    return sums[1:].astype(np.float64)


def alarms(shares: Sequence[Share], cfg: ExposureConfig) -> list[str]:
    """A line for each limited part whose exposure is outside its limits."""
    known = {(one.group, one.part): one for one in shares}
    groups = {one.group for one in shares}
    lines = []
    for limit in cfg.limits:
        subject = f"{limit.group} {limit.part!r}"
        if limit.group not in groups:
            lines.append(f"exposure limit of {subject}: no such group; known are {', '.join(sorted(groups))}")
            continue
        share = known.get((limit.group, limit.part))
        exposure = share.exposure if share else 0.0
        if exposure < limit.floor:
            lines.append(f"exposure of {subject} is {exposure:.1%}, below its floor {limit.floor:.1%}")
        if exposure > limit.ceiling:
            lines.append(f"exposure of {subject} is {exposure:.1%}, above its ceiling {limit.ceiling:.1%}")
    return lines


def limited(lists: NDArray[np.int32], groups: ProductGroups, limit: ExposureLimit) -> NDArray[np.int32]:
    """Lists whose first `DEPTH` places hold a limited part at least and at most as often as its limits say.

    A missing product comes from further down the same list, so that a floor may stay unreached.

    Args:
        lists: (C, K) item_idx, best first, PAD = empty.
        groups: membership.
        limit: floor and ceiling as shares of the places.
    """
    depth = min(DEPTH, lists.shape[1])
    inside = np.append(False, groups.marked(limit))
    least, most = int(np.ceil(limit.floor * depth - 1e-9)), int(np.floor(limit.ceiling * depth + 1e-9))
    out = lists.copy()
    for row, ids in enumerate(lists):
        marked = inside[ids]
        count = int(marked[:depth].sum())
        if count < least:
            moved = np.flatnonzero(marked[depth:])[: least - count] + depth
            dropped = np.flatnonzero(~marked[:depth])[::-1][: len(moved)]
        elif count > most:
            moved = np.flatnonzero(~marked[depth:] & (ids[depth:] != PAD))[: count - most] + depth
            dropped = np.flatnonzero(marked[:depth])[::-1][: count - most]
        else:
            continue
        kept = np.setdiff1d(np.arange(depth), dropped, assume_unique=True)
        top = np.sort(np.concatenate([kept, moved]))
        rest = np.setdiff1d(np.arange(len(ids)), top, assume_unique=True)
        out[row] = ids[np.concatenate([top, rest])]
    return out


def report_rows(shares: Sequence[Share], cfg: ExposureConfig) -> list[dict[str, Any]]:
    """The largest parts of every group and all limited ones, as JSON values."""
    limits = {(limit.group, limit.part) for limit in cfg.limits}
    counts: dict[str, int] = {}
    rows = []
    for one in shares:
        counts[one.group] = counts.get(one.group, 0) + 1
        if counts[one.group] <= SHOWN_PARTS or (one.group, one.part) in limits:
            rows.append({**asdict(one), "exposure_per_relevance": one.exposure_per_relevance})
    return rows


@dataclass(frozen=True)
class ExposureTable:
    """Column names and rows of cells of the exposure section of a report."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def exposure_table(rows: Sequence[Mapping[str, Any]]) -> ExposureTable:
    """The rows of `report_rows` as text."""
    columns = ("exposure", "catalogue", "sales", "relevance")
    return ExposureTable(
        ("", *columns, "exposure per relevance"),
        [
            [
                f"{row['group']}: {row['part']}",
                *(f"{row[name]:.1%}" for name in columns),
                "" if row["exposure_per_relevance"] is None else f"{row['exposure_per_relevance']:.2f}",
            ]
            for row in rows
        ],
    )


class _TrainingEvents(NamedTuple):
    """(N,) events, purchases and first time of each product in training, and the last time of all."""

    events: NDArray[np.int64]
    purchases: NDArray[np.float64]
    first_us: NDArray[np.int64]
    last_us: int


def _training_events(data: PreparedData, num_items: int) -> _TrainingEvents:
    sequences = data.sequences
    item, event, ts = (np.asarray(getattr(sequences, name)) for name in ("item_idx", "event", "ts"))
    split = np.asarray(sequences.split)
    used = (item != PAD) & (split == Split.TRAIN)
    item, event, ts = item[used], event[used], ts[used]
    first = np.full(num_items + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, item, ts)
    events = np.bincount(item, minlength=num_items + 1)[1:]
    purchases = np.bincount(item[event == EventKind.PURCHASE], minlength=num_items + 1)[1:].astype(np.float64)
    return _TrainingEvents(events, purchases, first[1:], int(ts.max(initial=0)))


def _text(values: pl.Series) -> NDArray[np.object_]:
    return np.array([value or NO_VALUE for value in values.to_list()], object)


def _price_bands(price: NDArray[np.float64]) -> NDArray[np.object_]:
    """Quintiles of the known prices, named by their bounds."""
    names = np.full(len(price), NO_VALUE, object)
    known = np.isfinite(price)
    if known.any():
        cuts = np.unique(np.quantile(price[known], np.linspace(0, 1, 6)))
        band = np.clip(np.searchsorted(cuts, price[known], side="right") - 1, 0, max(len(cuts) - 2, 0))
        upper = np.minimum(band + 1, len(cuts) - 1)
        names[known] = [f"{low:g} to {high:g}" for low, high in zip(cuts[band], cuts[upper], strict=True)]
    return names


def _ages(first_us: NDArray[np.int64], last_us: int) -> NDArray[np.object_]:
    """Time between a product's first event and the last event of training."""
    days = (last_us - first_us) / DAY_US
    names = np.full(len(first_us), OLDER, object)
    for most, name in reversed(AGES_DAYS):
        names[days <= most] = name
    names[first_us == np.iinfo(np.int64).max] = NEVER_SEEN
    return names


def _popularity(events: NDArray[np.int64]) -> NDArray[np.object_]:
    """Head: the most popular fifth of the products with events; tail: the others; cold: none."""
    names = np.where(head_of(events), "head", "tail").astype(object)
    names[events == 0] = "cold"
    return names
