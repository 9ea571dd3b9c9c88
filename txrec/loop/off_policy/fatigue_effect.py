"""Fatigue effect: click rate of a product after n showings in vain, from served slates, corrected for position bias.

A showing of a product at a place is expected to be clicked with the examination of the place times the attraction of
the product. Attraction is the logged score (a click probability) where slates have scores, else the product's own
clicks per examined showing. Clicks over expected clicks, by the number of showings of the product to the same user
since they last clicked it, relative to those without an earlier one, are the factors. They include that a user who did
not click several times is one who likes the product less than its score says: a ranking has to know both.
"""

import numpy as np
import polars as pl

from txrec.loop.off_policy.position_bias import CLICKS, PositionBias

MAX_SHOWINGS = 10
"""Largest number of showings in vain for which a factor is learned; more count as this number."""
MIN_EXPECTED = 20.0
"""Expected clicks below which a factor is not learned: that of fewer showings holds on."""
PRIOR = 5.0
"""Examined showings at the mean attraction that every product's count begins with."""
LEAST = 0.01
"""Smallest factor."""


def fatigue_factors(slates: pl.DataFrame, credits_: pl.DataFrame, bias: PositionBias) -> tuple[float, ...]:
    """Factors on the click probability after 0, 1, 2 ... showings in vain, 1 first and never rising.

    Empty where slates tell of no repeated showings.

    Args:
        slates: as `attribution.slates_of` gives them, best with `scores`; those without a user are left out.
        credits_: as `attribution.credit` gives them for the events that followed.
        bias: examination of the places.
    """
    shown = _showings(slates, credits_, bias)
    by_number = shown.group_by("showings").agg(pl.col("clicked").sum(), pl.col("expected").sum()).sort("showings")
    factors: list[float] = []
    for number, clicked, expected in by_number.iter_rows():
        if expected < MIN_EXPECTED or number != len(factors):
            break
        factors.append(clicked / expected)
    if len(factors) < 2 or not factors[0]:
        return ()
    relative = np.minimum.accumulate(np.array(factors) / factors[0])
    return tuple(np.maximum(relative, LEAST).tolist())


def _showings(slates: pl.DataFrame, credits_: pl.DataFrame, bias: PositionBias) -> pl.DataFrame:
    """One row per product shown: earlier showings in vain, clicked, expected clicks."""
    scored = "scores" in slates.columns and slates["scores"].null_count() == 0
    lists = ["item_ids", *(["scores"] if scored else [])]
    rows = (
        slates.filter(pl.col("user_id").is_not_null())
        .select("request_id", "user_id", "ts", *lists, place=pl.int_ranges(pl.col("item_ids").list.len()))
        .explode([*lists, "place"], empty_as_null=False)
    )
    clicks = credits_.filter(pl.col("event").is_in(CLICKS)).select("request_id", "place").unique()
    rows = rows.join(clicks.with_columns(clicked=pl.lit(1)), on=["request_id", "place"], how="left")
    rows = rows.with_columns(
        pl.col("clicked").fill_null(0), examined=pl.Series(bias.at(rows["place"].to_numpy().astype(np.int64)))
    )
    if scored:
        attraction = pl.col("scores")
    else:
        mean = pl.col("clicked").sum() / pl.col("examined").sum()
        own = pl.col("clicked").sum().over("item_ids") + PRIOR * mean
        attraction = own / (pl.col("examined").sum().over("item_ids") + PRIOR)
    rows = rows.with_columns(expected=pl.col("examined") * attraction).sort("user_id", "item_ids", "ts")
    pair = ["user_id", "item_ids"]
    since_click = pl.col("clicked").shift(1).over(pair).fill_null(0).cum_sum().over(pair)
    rows = rows.with_columns(run=since_click)
    number = pl.int_range(pl.len()).over([*pair, "run"]).clip(upper_bound=MAX_SHOWINGS)
    return rows.with_columns(showings=number)
