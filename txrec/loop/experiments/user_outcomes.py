"""Users' outcomes in an experiment, from served slates and events, as the moments that its decision needs."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from txrec.loop.attribution.attribution import HOUR_US
from txrec.loop.experiments.assignment import Experiment
from txrec.loop.experiments.confidence import Moments
from txrec.loop.experiments.experiments import Figure

EVENT_FIGURES: dict[str, tuple[str, ...]] = {
    "clicks": ("click", "view"),
    "carts": ("cart",),
    "purchases": ("purchase",),
    "revenue": ("purchase",),
}
"""Figures that are counted from events of these kinds; `revenue` adds up their values."""
ERROR = "error"
"""Fallback of a slate that could not be answered at all."""


def exposures(slates: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """Each user's variant and the time of their first slate as a participant.

    Args:
        slates: as `attribution.slates_of` gives them; anonymous ones are left out.
        experiment: its assignment is a function of user and time, so that nothing needs to be logged.

    Returns:
        `user_id`, `variant`, `since` (microseconds).
    """
    seen = slates.filter(pl.col("user_id").is_not_null()).sort("ts").select("user_id", "ts")
    first: dict[str, tuple[str, int]] = {}
    for user, ts in seen.iter_rows():
        if user not in first and (variant := experiment.variant(user, ts)) is not None:
            first[user] = (variant.name, ts)
    rows = [(user, variant, since) for user, (variant, since) in first.items()]
    return pl.DataFrame(rows, {"user_id": pl.String, "variant": pl.String, "since": pl.Int64}, orient="row")


def recorded_exposures(slates: pl.DataFrame, experiment: str) -> pl.DataFrame:
    """The same for an experiment of a server, whose slates record the variant.

    Args:
        slates: as `attribution.slates_of` gives them; their `experiments` hold `experiment:variant`.
        experiment: its name.
    """
    mark = f"{experiment}:"
    labels = slates.filter(pl.col("user_id").is_not_null()).explode("experiments", empty_as_null=False)
    labelled = labels.filter(pl.col("experiments").str.starts_with(mark)).sort("ts", "request_id")
    variant = pl.col("experiments").str.strip_prefix(mark).first()
    return labelled.group_by("user_id").agg(variant=variant, since=pl.col("ts").first().cast(pl.Int64))


def canary_exposures(slates: pl.DataFrame, version: str) -> pl.DataFrame:
    """The same for a canary: users by the variant of their first slate since the canary has served.

    Args:
        slates: as `attribution.slates_of` gives them.
        version: of the canary.
    """
    canary = slates.filter((pl.col("variant") == "canary") & (pl.col("model_version") == version))
    start = canary["ts"].min()
    if start is None:
        return pl.DataFrame(schema={"user_id": pl.String, "variant": pl.String, "since": pl.Int64})
    rolled_out = pl.col("variant").is_in(["production", "canary"]) & (pl.col("ts") >= start)
    users = slates.filter(rolled_out & pl.col("user_id").is_not_null()).sort("ts", "request_id")
    return users.group_by("user_id").agg(pl.col("variant").first(), since=pl.col("ts").first().cast(pl.Int64))


def moments(
    exposed: pl.DataFrame, slates: pl.DataFrame, events: pl.DataFrame, figure: Figure, now_us: int, past_h: float = 0.0
) -> dict[str, Moments]:
    """Sums over the users whose window is over, per variant.

    Args:
        exposed: as `exposures` gives them.
        slates: as `attribution.slates_of` gives them.
        events: as `attribution.events_of` gives them.
        figure: the counted event, and the days after the first slate.
        now_us: microseconds since 1970 UTC; users who have been there for a shorter time do not count yet.
        past_h: hours before the first slate whose figure is the covariate; 0 = none.
    """
    window_us = int(figure.window_h * HOUR_US)
    ready = exposed.filter(pl.col("since") + window_us <= now_us)
    rows = _rows(slates, events, figure.name).join(ready, on="user_id")
    wait = pl.col("ts") - pl.col("since")
    amount = pl.col("amount")
    inside, before = (wait >= 0) & (wait <= window_us), (wait < 0) & (wait >= -int(past_h * HOUR_US))
    total = amount.filter(inside).mean() if figure.name == "latency_ms" else amount.filter(inside).sum()
    per_user = rows.group_by("user_id").agg(outcome=total, past=amount.filter(before).sum())
    table = ready.join(per_user, on="user_id", how="left").with_columns(pl.col("outcome", "past").fill_null(0.0))
    names = exposed["variant"].unique().to_list()
    groups: Mapping[str, pl.DataFrame] = {str(name): group for (name,), group in table.group_by("variant")}
    empty = table.clear()
    return {
        name: Moments.of(*(np.asarray(groups.get(name, empty)[column], np.float64) for column in ("outcome", "past")))
        for name in names
    }


def _rows(slates: pl.DataFrame, events: pl.DataFrame, figure: str) -> pl.DataFrame:
    """`user_id`, `ts` and `amount` of whatever a figure adds up."""
    if figure in EVENT_FIGURES:
        value = pl.col("value").cast(pl.Float64).fill_null(0.0) if figure == "revenue" else pl.lit(1.0)
        kept = events.filter(pl.col("event").is_in(EVENT_FIGURES[figure]))
        return kept.select("user_id", "ts", amount=value)
    amounts = {
        "slates": pl.lit(1.0),
        "errors": (pl.col("fallback") == ERROR).fill_null(value=False).cast(pl.Float64),
        "fallbacks": pl.col("fallback").is_not_null().cast(pl.Float64),
        "empty_slates": (pl.col("item_ids").list.len() == 0).cast(pl.Float64),
    }
    if figure == "latency_ms":
        took = pl.col("took_ms") if "took_ms" in slates.columns else pl.lit(None, pl.Float64)
        return slates.select("user_id", "ts", amount=took.cast(pl.Float64)).drop_nulls("amount")
    return slates.filter(pl.col("user_id").is_not_null()).select("user_id", "ts", amount=amounts[figure])
