"""Cost of exploration: losses of drawn slates against sorted ones, and gains in the places that they changed.

Chance alone decides which slates are drawn, so that the difference of their mean outcomes is what exploration costs,
with users as clusters. What it gains shows in the places that hold products from below: their clicks and revenue, and
the products that nobody had seen before.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from txrec.loop.attribution.attribution import NO_PLACEMENT
from txrec.loop.attribution.slate_figures import Rate, rate
from txrec.loop.exploration.exploration_log import Record

OUTCOMES = ("clicks", "revenue")


@dataclass(frozen=True)
class ExplorationCost:
    """Costs and gains of exploration in served slates.

    Attributes:
        slates: that could be drawn.
        drawn: of them, drawn.
        lost: clicks and revenue per drawn slate less than per sorted one; negative = a gain.
        moved: places of drawn slates that show products from below.
        clicks: of these places.
        revenue: of these places.
        first_views: products whose first view of the log was in such a place.
    """

    slates: int
    drawn: int
    lost: dict[str, Rate]
    moved: int
    clicks: float
    revenue: float
    first_views: int

    def __str__(self) -> str:
        """`exploration drew 512 of 10,240 slates: lost 0.012 (-0.003 to 0.027) clicks per drawn slate; ...`."""
        lost = ", ".join(f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g}) {name}" for name, one in self.lost.items())
        return (
            f"exploration drew {self.drawn:,} of {self.slates:,} slates: lost {lost} per drawn slate;"
            f" {self.moved:,} places showed products from below: {self.clicks:,.0f} clicks, {self.revenue:,.2f}"
            f" revenue, first views of {self.first_views:,} products"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON object of the figures."""
        return {**asdict(self), "lost": {name: one.to_dict() for name, one in self.lost.items()}, "text": str(self)}


def cost(slates: pl.DataFrame, credits_: pl.DataFrame) -> ExplorationCost | None:
    """The cost of exploration in a log; None where no slate could be drawn.

    Args:
        slates: as `attribution.slates_of` gives them, with `exploration`.
        credits_: as `attribution.credit` gives them.
    """
    if "exploration" not in slates.columns or slates["exploration"].null_count() == slates.height:
        return None
    explored = slates.filter(pl.col("exploration").is_not_null()).sort("ts")
    records = [Record.from_json(text) for text in explored["exploration"]]
    explored = explored.with_columns(
        drawn=pl.Series([record.drawn for record in records], dtype=pl.Boolean),
        moved=pl.Series([_from_below(record) for record in records], dtype=pl.List(pl.Boolean)),
    )
    kind = pl.col("event")
    earned = credits_.group_by("request_id", "place").agg(
        clicks=pl.col("weight").filter(kind == "click").sum(),
        revenue=pl.col("value").filter(kind == "purchase").sum(),
    )
    per_slate = (
        explored.select("request_id", "key", "drawn")
        .join(earned.group_by("request_id").agg(pl.col(OUTCOMES).sum()), on="request_id", how="left")
        .with_columns(pl.col(OUTCOMES).fill_null(0.0))
    )
    places = explored.select("request_id", "ts", "moved", "item_ids", place=pl.int_ranges(pl.col("moved").list.len()))
    places = places.explode("moved", "item_ids", "place", empty_as_null=False)
    gained = places.filter("moved").join(earned, on=["request_id", "place"], how="inner")
    return ExplorationCost(
        slates=explored.height,
        drawn=int(explored["drawn"].sum()),
        lost={name: _difference(per_slate, name) for name in OUTCOMES},
        moved=int(places["moved"].sum()),
        clicks=float(gained["clicks"].sum()),
        revenue=float(gained["revenue"].sum()),
        first_views=_first_views(slates, places),
    )


def placement_costs(slates: pl.DataFrame, credits_: pl.DataFrame) -> dict[str, ExplorationCost]:
    """The cost of exploration by placement; empty where no request named one.

    First views are those of the placement: a product may have been seen elsewhere before.

    Args:
        slates: as for `cost`, and so are the credits.
    """
    if "placement" not in slates.columns or slates["placement"].null_count() == slates.height:
        return {}
    named = slates.with_columns(pl.col("placement").fill_null(NO_PLACEMENT))
    parts = {str(name): cost(part, credits_) for (name,), part in named.group_by("placement")}
    return {name: one for name, one in sorted(parts.items()) if one is not None}


def _from_below(record: Record) -> list[bool]:
    """Marks of the places of a slate that show a product from below, because the slate was drawn."""
    return [record.drawn and rank > place for place, rank in enumerate(record.shown_rank)]


def _difference(per_slate: pl.DataFrame, name: str) -> Rate:
    """Mean outcome of sorted slates less that of drawn ones; NaN where there are none of either."""
    means = []
    for drawn in (False, True):
        users = (
            per_slate.filter(pl.col("drawn") == drawn)
            .group_by("key")
            .agg(n=pl.len().cast(pl.Float64), y=pl.col(name).sum())
        )
        n, y = (users[column].to_numpy() for column in ("n", "y"))
        means.append(rate(float(len(n)), n.sum(), y.sum(), (n * n).sum(), (n * y).sum(), (y * y).sum()))
    plain, drawn_ = means
    value = plain.value - drawn_.value
    width = float(np.hypot(plain.high - plain.value, drawn_.high - drawn_.value))
    return Rate(value, value - width, value + width, plain.users + drawn_.users, drawn_.count)


def _first_views(slates: pl.DataFrame, places: pl.DataFrame) -> int:
    """Products that were seen first in a place that exploration changed."""
    everything = slates.select("ts", "request_id", item_ids="item_ids").explode("item_ids", empty_as_null=False)
    first = everything.sort("ts", "request_id").unique("item_ids", keep="first", maintain_order=True)
    moved = places.filter("moved").select("request_id", "item_ids").unique()
    return first.join(moved, on=["request_id", "item_ids"], how="semi").height
