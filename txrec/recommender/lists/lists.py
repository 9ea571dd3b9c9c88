"""Lists that every shop has: trending, popular, new, bought together, recently viewed, buy again; each with reasons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.errors import UnknownItemError
from txrec.index.source import Mask
from txrec.index.sources.co_purchases import MIN_RELAXED, MIN_STRICT, CoPurchases
from txrec.index.sources.trends import Trends
from txrec.model.history_features import History
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.types import Request, Slate, SlateItem
from txrec.schema import DAY_US, PAD, EventKind, is_engagement

ListKind = Literal["trending", "popular", "new", "complements", "recently-viewed", "buy-again"]
NUM_NEIGHBOURS, NEIGHBOUR_WEIGHT = 10, 0.3
"""Products most like a given one whose co-purchases also count where complements are relaxed, and their weight."""
PERSONAL_WEIGHT = 0.5
"""Weight of the user's taste next to common baskets, both as reciprocal ranks."""
RANK_OFFSET = 10.0
DUE = 0.7
"""Share of its interval after which a product is due to be bought again."""
MAX_INTERVALS = 3.0
"""Intervals after which it is taken to be given up."""


@dataclass(frozen=True)
class ListRequest:
    """Kind and settings of a list.

    Attributes:
        kind: of the list.
        item_ids: products that complements go with, raw ids.
        strict: complements: only products in common baskets with the given ones; otherwise also with those most like
            them.
    """

    kind: ListKind
    item_ids: tuple[str, ...] = ()
    strict: bool = False


class Listed(NamedTuple):
    """A product of a list."""

    item_idx: int
    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class ListContext:
    """The parts of a recommender that lists need.

    Attributes:
        catalogue: the products.
        activity: events of the products.
        vectors: (N + 1, D) L2-normalised item vectors.
        co_purchases: products bought together.
        intervals: (N + 1,) usual days between two purchases of a product by one user, NaN = not known.
        trends: what rises now; None = no live events are counted.
    """

    catalogue: Catalogue
    activity: Activity
    vectors: NDArray[np.float32]
    co_purchases: CoPurchases
    intervals: NDArray[np.float32]
    trends: Trends | None


@dataclass(frozen=True, eq=False)
class Asker:
    """User that a list is for.

    Attributes:
        history: of the user, oldest first.
        now_us: time of the request, microseconds.
        state: (D,) state of the user; None = nobody is named.
    """

    history: History
    now_us: int
    state: Callable[[], NDArray[np.float32]] | None


def make(context: ListContext, spec: ListRequest, request: Request, asker: Asker, allowed: Mask) -> Slate:
    """A list.

    Args:
        context: the recommender's parts.
        spec: which list.
        request: says how many products.
        asker: who it is for.
        allowed: (N + 1,) products that may be shown; None = all.

    Raises:
        RequestError: complements of an unknown product.
    """
    listed = [one for one in _listed(context, spec, asker) if allowed is None or allowed[one.item_idx]]
    catalogue = context.catalogue
    items = tuple(
        SlateItem(
            str(catalogue.item_ids[one.item_idx]),
            one.score,
            catalogue.titles[one.item_idx],
            spec.kind,
            {spec.kind: one.score},
            (one.reason,) if request.explain else (),
            price=catalogue.price_of(one.item_idx),
        )
        for one in listed[: request.top_k]
    )
    notes = ("no live events are counted: serve.live_count_days is 0, or none has come",)
    return Slate(items, notes=notes if spec.kind == "trending" and context.trends is None else ())


def _listed(context: ListContext, spec: ListRequest, asker: Asker) -> Sequence[Listed]:
    if spec.kind == "trending":
        return _trending(context)
    if spec.kind == "popular":
        counts = context.activity.slow
        order = np.argsort(-counts[1:], kind="stable") + 1
        return [Listed(int(idx), float(counts[idx]), "popular now") for idx in order if counts[idx] > 0]
    if spec.kind == "new":
        return _new(context)
    if spec.kind == "complements":
        return _complements(context, spec, asker)
    return _recently_viewed(asker) if spec.kind == "recently-viewed" else _buy_again(context, asker)


def _trending(context: ListContext) -> list[Listed]:
    if context.trends is None:
        return []
    trends, rising = context.trends, context.trends.rising()
    return [
        Listed(idx, score, f"{trends.users[idx]:.0f} users in the last hours, usually {trends.usual[idx]:.1f}")
        for idx, score in zip(rising.item_idx.tolist(), rising.scores.tolist(), strict=True)
    ]


def _new(context: ListContext) -> list[Listed]:
    """Products by their first event, those that came after the model before all others."""
    first, end = context.activity.first_ts.copy(), context.activity.end_us
    live = np.arange(len(context.catalogue.base) + 1, len(first))
    first[live] = end + live
    order = np.argsort(-first[1:], kind="stable") + 1
    return [Listed(int(idx), float(-place), "new") for place, idx in enumerate(order) if first[idx] > 0]


def _complements(context: ListContext, spec: ListRequest, asker: Asker) -> list[Listed]:
    idx_of = context.catalogue.idx_of
    for item_id in spec.item_ids:
        if item_id not in idx_of:
            raise UnknownItemError.of("items", item_id)
    bases = [idx_of[item_id] for item_id in spec.item_ids]
    scores = np.zeros(len(context.vectors), np.float64)
    reasons: dict[int, str] = {}
    for idx in bases:
        own, counts = context.co_purchases.together(idx, MIN_STRICT if spec.strict else MIN_RELAXED)
        scores[own.item_idx] += own.scores
        title = context.catalogue.titles[idx] or context.catalogue.item_ids[idx]
        for other, count in zip(own.item_idx.tolist(), counts.tolist(), strict=True):
            reasons.setdefault(other, f"bought together with {title} {count:.0f} times")
        for like in [] if spec.strict else _nearest(context.vectors, idx):
            more, _ = context.co_purchases.together(like)
            scores[more.item_idx] += NEIGHBOUR_WEIGHT / NUM_NEIGHBOURS * more.scores
            for other in more.item_idx.tolist():
                reasons.setdefault(other, f"bought together with products like {title}")
    scores[bases] = 0.0
    order = np.flatnonzero(scores)
    order = order[np.argsort(-scores[order], kind="stable")]
    if asker.state is not None and len(order):
        taste = np.argsort(np.argsort(-(context.vectors[order] @ asker.state()), kind="stable"), kind="stable")
        fused = 1 / (RANK_OFFSET + np.arange(len(order))) + PERSONAL_WEIGHT / (RANK_OFFSET + taste)
        order = order[np.argsort(-fused, kind="stable")]
    return [Listed(int(idx), float(scores[idx]), reasons[int(idx)]) for idx in order]


def _nearest(vectors: NDArray[np.float32], idx: int) -> list[int]:
    """Products most like one."""
    near = vectors @ vectors[idx]
    near[[0, idx]] = -np.inf
    count = min(NUM_NEIGHBOURS, len(near) - 1)
    nearest: list[int] = np.argpartition(-near, count)[:count].tolist()
    return nearest


def _recently_viewed(asker: Asker) -> list[Listed]:
    """Products of the user's history, the latest first, each once."""
    history = asker.history
    engaged = (history.item_idx != PAD) & is_engagement(history.event)
    latest = dict.fromkeys(history.item_idx[engaged][::-1].tolist())
    return [Listed(idx, float(-place), "viewed lately") for place, idx in enumerate(latest)]


def _buy_again(context: ListContext, asker: Asker) -> list[Listed]:
    """Products that the user bought and is due to buy again, the most overdue one within reason first."""
    history = asker.history
    bought = np.flatnonzero((history.event == int(EventKind.PURCHASE)) & (history.item_idx != PAD) & (history.ts > 0))
    listed = []
    for idx in np.unique(history.item_idx[bought]).tolist():
        days = np.unique(history.ts[bought][history.item_idx[bought] == idx]) / DAY_US
        gaps = np.diff(days)[np.diff(days) >= 1]
        interval = float(np.median(gaps)) if len(gaps) else float(context.intervals[idx])
        if np.isnan(interval):
            continue
        since = asker.now_us / DAY_US - float(days[-1])
        progress = since / interval
        if DUE <= progress <= MAX_INTERVALS:
            times = "once" if len(days) == 1 else f"{len(days)} times"
            reason = f"bought {times}, usually every {interval:.0f} days, last {since:.0f} days ago"
            listed.append(Listed(idx, 1.0 / (1.0 + abs(np.log(progress))), reason))
    return sorted(listed, key=lambda one: (-one.score, one.item_idx))


def purchase_intervals(
    user: NDArray[np.int64],
    item_idx: NDArray[np.int32],
    event: NDArray[np.int8],
    ts: NDArray[np.int64],
    num_items: int,
    min_gaps: int = 3,
) -> NDArray[np.float32]:
    """(N + 1,) median days between two purchases of a product by one user; NaN where there are too few.

    Args:
        user: (E,) of each event.
        item_idx: (E,).
        event: (E,) `EventKind`.
        ts: (E,) microseconds, 0 = unknown.
        num_items: N.
        min_gaps: gaps of a product from which on its median is used; a gap is a day or longer.
    """
    bought = np.flatnonzero((event == int(EventKind.PURCHASE)) & (item_idx != PAD) & (ts > 0))
    order = bought[np.lexsort((ts[bought], item_idx[bought], user[bought]))]
    same = (np.diff(user[order]) == 0) & (np.diff(item_idx[order]) == 0)
    gaps = np.diff(ts[order]) / DAY_US
    kept = same & (gaps >= 1)
    items, gaps = item_idx[order][1:][kept], gaps[kept]
    intervals = np.full(num_items + 1, np.nan, np.float32)
    by_item = np.lexsort((gaps, items))
    items, gaps = items[by_item], gaps[by_item]
    ids, starts, counts = np.unique(items, return_index=True, return_counts=True)
    enough = counts >= min_gaps
    intervals[ids[enough]] = gaps[starts[enough] + counts[enough] // 2]
    return intervals
