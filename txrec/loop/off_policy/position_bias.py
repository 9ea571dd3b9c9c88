"""Position bias: how much less often people look at lower places of a slate, estimated from the served log.

The position-based click model says P(click) = examination(place) x attraction(product, request). Attraction is taken as
the same within a *group* of impressions that stood at different places: impressions of the same logged score (in
twentieths, with and without a query apart), or without scores those of the same query and product. Examination and the
groups' attractions are the maximum of the likelihood, found by expectation maximisation on counts (Wang et al. 2018,
"Position bias estimation for unbiased learning to rank in personal search"; groups instead of a regression; the
harvesting of natural interventions by query and product is Agarwal et al. 2019). Scores should be calibrated: a product
of the same score must be as attractive at every place.

Nothing of the kind is needed where exploration was on: a click divided by the logged probability of its product at its
place has, at every explored place, the pool's attraction as its expectation, times examination. Explored places take
their examination from there, the others keep the model's.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.loop.exploration.exploration import Bounds, marginal_probability
from txrec.loop.off_policy.off_policy_log import LoggedSlate, logged_slates

Floats = NDArray[np.float64]
MAX_PLACES = 50
"""Places beyond are examined as often as the last of these."""
NUM_SCORE_GROUPS = 20
MIN_IMPRESSIONS = 1_000
"""Least impressions of an estimate."""
MIN_EXPLORED = 500
"""Least explored slates whose logged probabilities are used."""
ITERATIONS, TOLERANCE = 2_000, 1e-7
CLICKS = ("click", "view")
_BATCH = 256


@dataclass(frozen=True)
class PositionBias:
    """Examination of each place.

    Attributes:
        examination: (K,) probability of being looked at relative to the first place, 1 there.
        num_impressions: products shown, all places counted.
        num_clicks: of them clicked.
        grouped_by: `score` or `query and product`.
    """

    examination: tuple[float, ...]
    num_impressions: int
    num_clicks: int
    grouped_by: str
    num_explored: int = 0
    """Slates whose exploration the estimate uses."""

    def __str__(self) -> str:
        """One line: examination of the first places and what it was estimated from."""
        first = ", ".join(f"{value:.2f}" for value in self.examination[:5])
        explored = f", {self.num_explored:,} explored slates" if self.num_explored else ""
        return (
            f"examination {first} ... of places 1, 2 ... ({self.num_clicks:,} clicks, {self.num_impressions:,}"
            f" impressions by {self.grouped_by}{explored})"
        )

    def at(self, place: NDArray[np.int64]) -> Floats:
        """Examination of places from 0 on, same shape."""
        values = np.array(self.examination)
        return np.asarray(values[np.minimum(place, len(values) - 1)])


def estimate(slates: pl.DataFrame, credits_: pl.DataFrame) -> PositionBias | None:
    """Position bias of served slates; None where there are too few of them, or no click.

    Args:
        slates: as `attribution.slates_of` gives them, best with `scores`.
        credits_: as `attribution.credit` gives them for the clicks that followed.
    """
    shown = impressions(slates, credits_)
    if shown.height < MIN_IMPRESSIONS or not shown["clicked"].any():
        return None
    scored = "score" in shown.columns
    keys = ["has_query", "bin"] if scored else ["query", "item_id"]
    if scored:
        rank = pl.col("score").rank("ordinal").over("has_query")
        size = pl.len().over("has_query")
        shown = shown.with_columns(bin=((rank - 1) * NUM_SCORE_GROUPS // size).cast(pl.Int64))
    counts = shown.group_by([*keys, "place"]).agg(shown=pl.len(), clicked=pl.col("clicked").sum())
    group = counts.select(pl.struct(keys).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    place, number, clicked = (counts[name].to_numpy() for name in ("place", "shown", "clicked"))
    examination = maximum_likelihood(place, group, number.astype(np.float64), clicked.astype(np.float64))
    explored = logged_slates(slates) if _is_explored(slates) else []
    if len(explored) >= MIN_EXPLORED:
        examination = with_exploration(examination, explored, shown)
    name = "score" if scored else "query and product"
    num_clicks, num_explored = int(shown["clicked"].sum()), len(explored) if len(explored) >= MIN_EXPLORED else 0
    return PositionBias(tuple(examination.tolist()), shown.height, num_clicks, name, num_explored)


def _is_explored(slates: pl.DataFrame) -> bool:
    names = {"exploration", "scores"}
    return names <= set(slates.columns) and slates["exploration"].null_count() < slates.height


def with_exploration(examination: Floats, slates: list[LoggedSlate], shown: pl.DataFrame) -> Floats:
    """(K,) examination, of the places that exploration changed from its logged probabilities.

    Args:
        examination: (K,) of the model, which the first explored place keeps.
        slates: explored ones.
        shown: as `impressions` gives them.
    """
    clicked = set(shown.filter(pl.col("clicked")).select("request_id", "place").iter_rows())
    total, count = np.zeros(len(examination)), np.zeros(len(examination))
    alike: dict[tuple[Bounds, int], list[tuple[LoggedSlate, list[int]]]] = {}
    for slate in slates:
        bounds = slate.record.bounds
        places = range(bounds.first_place, min(bounds.depth, len(examination)))
        count[places.start : places.stop] += 1
        hit = [place for place in places if (slate.request_id, place) in clicked]
        if hit:
            alike.setdefault((bounds, len(slate.record.utility)), []).append((slate, hit))
    for (bounds, _), group in alike.items():
        for start in range(0, len(group), _BATCH):
            part = group[start : start + _BATCH]
            records = [slate.record for slate, _ in part]
            utility = np.array([[-np.inf if one is None else one for one in record.utility] for record in records])
            rank = np.array([record.rank[: bounds.depth] for record in records])
            probability = marginal_probability(utility, rank, bounds)
            row = np.repeat(np.arange(len(part)), [len(hit) for _, hit in part])
            place = np.array([one for _, hit in part for one in hit])
            np.add.at(total, place, 1 / np.maximum(probability[row, place], 1e-6))
    explored = np.flatnonzero(count)
    rate = total[explored] / count[explored]
    if not len(explored) or not rate[0]:
        return examination
    result = examination.copy()
    result[explored] = examination[explored[0]] * rate / rate[0]
    last = explored[-1]
    result[last + 1 :] *= result[last] / max(examination[last], 1e-9)
    return result


def impressions(slates: pl.DataFrame, credits_: pl.DataFrame) -> pl.DataFrame:
    """One row per product shown: place (cut at `MAX_PLACES`), item, query, score where it is logged, clicked."""
    lists = ["item_ids", *(["scores"] if "scores" in slates.columns and slates["scores"].null_count() == 0 else [])]
    rows = slates.select(
        "request_id",
        *lists,
        query=pl.col("query").fill_null("") if "query" in slates.columns else pl.lit(""),
        place=pl.int_ranges(pl.col("item_ids").list.len()),
    )
    rows = rows.explode([*lists, "place"], empty_as_null=False).rename({"item_ids": "item_id"})
    rows = rows.rename({"scores": "score"}) if len(lists) > 1 else rows
    clicks = credits_.filter(pl.col("event").is_in(CLICKS)).select("request_id", "place").unique()
    rows = rows.join(clicks.with_columns(clicked=pl.lit(value=True)), on=["request_id", "place"], how="left")
    return rows.with_columns(
        pl.col("clicked").fill_null(value=False),
        pl.col("place").clip(upper_bound=MAX_PLACES - 1),
        has_query=pl.col("query") != "",
    )


def maximum_likelihood(
    place: NDArray[np.int64], group: NDArray[np.int64], shown: Floats, clicked: Floats
) -> NDArray[np.float64]:
    """(K,) examination relative to the first place.

    Args:
        place: (n,) of cells of impressions, from 0.
        group: (n,) theirs, from 0.
        shown: (n,) impressions of each cell.
        clicked: (n,) clicks among them.
    """
    examined = np.full(int(place.max()) + 1, 0.5)
    attraction = np.full(int(group.max()) + 1, 0.5)
    by_place, by_group = np.bincount(place, shown), np.bincount(group, shown)
    for _ in range(ITERATIONS):
        seen, drawn = examined[place], attraction[group]
        missed = (shown - clicked) / np.maximum(1 - seen * drawn, 1e-9)
        before = examined
        examined = np.bincount(place, clicked + missed * seen * (1 - drawn)) / np.maximum(by_place, 1)
        attraction = np.bincount(group, clicked + missed * drawn * (1 - seen)) / np.maximum(by_group, 1)
        if np.abs(examined - before).max() < TOLERANCE:
            break
    return np.asarray(examined / max(examined[0], 1e-9))
