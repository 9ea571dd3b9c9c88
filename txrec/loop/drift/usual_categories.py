"""Usual categories of users: how much of what each user does lies in the categories of their own past.

The affinity of an event is the share that its product's category has in its user's earlier events. Its mean tells of
taste even where many users change it at once in all directions, so that the mix of the whole shop stays as it is. The
mean does not depend on how long histories are: for a user of stable taste it is the sum of squared category shares.
"""

from collections.abc import Iterable

import polars as pl

FIGURE = "share of events in the user's usual categories"


def path(category: pl.Series) -> pl.Series:
    """(n,) category paths as one text each; null for products without one."""
    if category.dtype != pl.List:
        return category.cast(pl.String)
    joined = category.list.eval(pl.element().cast(pl.String)).list.join(" > ")
    return joined.replace("", None)


def affinities(events: pl.DataFrame, horizons: Iterable[int]) -> pl.DataFrame:
    """Affinity of the events of each user, category and day.

    Args:
        events: `user`, `category` and `day` (number) of each event; rows without a category are left out.
        horizons: days; only events that lie at least this long before count as past.

    Returns:
        One row per user, category and day, with `affinity@H` for each horizon, null where the user has no past.
    """
    known = events.filter(pl.col("category").is_not_null())
    cells = known.group_by("user", "category", "day").agg(num=pl.len()).sort("day")
    seen = cells.with_columns(count=pl.col("num").cum_sum().over("user", "category")).drop("num")
    totals = cells.group_by("user", "day").agg(pl.col("num").sum()).sort("day")
    totals = totals.with_columns(total=pl.col("num").cum_sum().over("user")).drop("num")
    result = cells.drop("num")
    for horizon in horizons:
        result = result.with_columns(before=pl.col("day") - horizon).sort("before")
        result = _latest(result, seen, ["user", "category"])
        result = _latest(result, totals, ["user"])
        share = pl.col("count").fill_null(0) / pl.col("total")
        result = result.with_columns(share.alias(f"affinity@{horizon}")).drop("before", "count", "total")
    return result


def _latest(probe: pl.DataFrame, table: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The last row of `table` that is not later than `before`, of the same user (and category)."""
    rows = table.rename({"day": "at"})
    joined = probe.join_asof(rows, left_on="before", right_on="at", by=by, strategy="backward", check_sortedness=False)
    return joined.drop("at", strict=False)
