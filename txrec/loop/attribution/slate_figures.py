"""Live figures of served slates: click rate, cart, conversion, revenue, live NDCG and MRR, by slice, with intervals.

Every figure is a ratio of two sums over slates, e.g. slates with a click over slates. Per slice only sums over users of
both and of their products are kept (`SUMS`): they add up over parts of the log, hours and machines, and the variance of
the ratio with users as clusters follows from them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from txrec.arrays import dcg_discounts
from txrec.loop.attribution.attribution import HOUR_US, NO_PLACEMENT, Windows

FIGURES: dict[str, tuple[str, str]] = {
    "click_rate": ("clicked", "slates"),
    "clicks_per_slate": ("clicks", "slates"),
    "cart_rate": ("carted", "slates"),
    "conversion": ("converted", "slates"),
    "purchases_per_slate": ("purchases", "slates"),
    "revenue_per_slate": ("revenue", "slates"),
    "clicks_per_user": ("clicks", "visitors"),
    "purchases_per_user": ("purchases", "visitors"),
    "revenue_per_user": ("revenue", "visitors"),
    "ndcg": ("ndcg", "clicked"),
    "mrr": ("mrr", "clicked"),
    "no_result_rate": ("no_result", "searches"),
    "no_click_rate": ("searched_in_vain", "searches"),
    "reformulation_rate": ("reformulated", "searches"),
    "fallback_rate": ("fallback", "slates"),
    "latency_ms": ("took_ms", "timed"),
}
"""Figure = (numerator, denominator), columns of `slate_outcomes`; `visitors` = users, or anonymous requests.

`click_rate`: slates with a click or view of a product. `ndcg`, `mrr`: of the order of slates with a click, clicked
products as the relevant ones. `no_click_rate`: searches with results and without a click.
"""
PLACE_FIGURES: dict[str, tuple[str, str]] = {
    "click_rate": ("clicked", "places"),
    "cart_rate": ("carted", "places"),
    "purchases_per_place": ("purchases", "places"),
    "revenue_per_place": ("revenue", "places"),
}
"""The same per place, by source of the product, place, category and brand; denominators are places shown."""
SUMS = ("users", "n", "y", "nn", "ny", "yy")
SLICES = (
    "variant",
    "experiments",
    "rules",
    "model_version",
    "placement",
    "fallback",
    "kind",
    "query_slice",
    "query_kind",
    "segments",
    "day",
    "hour",
)
PLACE_SLICES = ("place", "source", "category", "brand", "popularity")
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class SliceTables:
    """Data that slices refer to; what is not there gives no slice, or the part `unknown`.

    Attributes:
        items: `item_id`, `category`, `brand` and `popularity` (head, tail or new, by training events) of products.
        head_queries: normalised queries that count as `head`, the others as `tail`.
        known_queries: normalised queries of the training log: `seen`, the others `unseen`.
        users: `user_id` and `segments` of users that the shop describes.
    """

    items: pl.DataFrame | None = None
    head_queries: tuple[str, ...] = ()
    known_queries: pl.Series | None = None
    users: pl.DataFrame | None = None


NO_TABLES = SliceTables()


@dataclass(frozen=True)
class Rate:
    """A figure of one slice with its interval.

    Attributes:
        value: the ratio; NaN without a denominator.
        low: lower end of the 95 % interval, users as clusters.
        high: upper end.
        users: users (or anonymous requests).
        count: the denominator.
    """

    value: float
    low: float
    high: float
    users: int
    count: float

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON object; numbers that are not finite become null."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def place_outcomes(slates: pl.DataFrame, credits_: pl.DataFrame, tables: SliceTables = NO_TABLES) -> pl.DataFrame:
    """One row per place shown: `request_id`, `key`, `place`, its slices, `clicked`, `carted`, `purchases`, `revenue`.

    Args:
        slates: as `attribution.slates_of` gives them; `sources` is used where it is there.
        credits_: as `attribution.credit` gives them.
        tables: that slices refer to.
    """
    sources = pl.col("sources") if "sources" in slates.columns else pl.lit(None, pl.List(pl.String))
    places = slates.select(
        "request_id",
        "key",
        item_id="item_ids",
        place=pl.int_ranges(pl.col("item_ids").list.len()),
        source=pl.when(sources.list.len() == pl.col("item_ids").list.len()).then(sources),
    )
    filled = pl.lit(None, pl.String).repeat_by(pl.col("item_id").list.len())
    places = places.with_columns(source=pl.coalesce("source", filled))
    places = places.explode("item_id", "place", "source", empty_as_null=False)
    weight, kind = pl.col("weight"), pl.col("event")
    per_place = credits_.group_by("request_id", "place").agg(
        clicked=kind.is_in(["click", "view"]).any().cast(pl.Float64),
        carted=(kind == "cart").any().cast(pl.Float64),
        purchases=weight.filter(kind == "purchase").sum(),
        revenue=pl.col("value").filter(kind == "purchase").sum(),
    )
    joined = places.join(per_place, on=["request_id", "place"], how="left").with_columns(
        pl.col("clicked", "carted", "purchases", "revenue").fill_null(0.0), places=pl.lit(1.0)
    )
    names = ("category", "brand", "popularity")
    if tables.items is None:
        return joined.with_columns(pl.lit(None, pl.String).alias(name) for name in names)
    sliced = joined.join(tables.items.select("item_id", *names), on="item_id", how="left")
    return sliced.with_columns(pl.col("popularity").fill_null("new"))


def place_discount(place: pl.Expr) -> pl.Expr:
    """Discount of places that count from 0, as in NDCG: 1 / log2(place + 2)."""
    return 1.0 / (place + 2).cast(pl.Float64).log(2)


def slate_outcomes(
    slates: pl.DataFrame, places: pl.DataFrame, windows: Windows, tables: SliceTables = NO_TABLES
) -> pl.DataFrame:
    """One row per slate: `request_id`, `key`, `ts`, the columns of SLICES and those of FIGURES.

    Args:
        slates: as `attribution.slates_of` gives them.
        places: as `place_outcomes` gives them.
        windows: for reformulations.
        head_queries: normalised queries that count as `head`, the others as `tail`.
    """
    outcome = places.group_by("request_id").agg(
        clicks=pl.col("clicked").sum(),
        carted=(pl.col("carted").sum() > 0).cast(pl.Float64),
        converted=(pl.col("purchases").sum() > 0).cast(pl.Float64),
        purchases=pl.col("purchases").sum(),
        revenue=pl.col("revenue").sum(),
        gain=(pl.col("clicked") * place_discount(pl.col("place"))).sum(),
        first=pl.col("place").filter(pl.col("clicked") > 0).min(),
    )
    frame = slates.join(outcome, on="request_id", how="left").with_columns(
        pl.col("clicks", "carted", "converted", "purchases", "revenue", "gain").fill_null(0.0)
    )
    query = _text(frame, "query").str.strip_chars().str.to_lowercase()
    searched = query.is_not_null() & (query != "")
    frame = frame.with_columns(
        query_text=pl.when(searched).then(query), searches=searched.cast(pl.Float64), slates=pl.lit(1.0)
    )
    most_clicks = frame.select(pl.col("clicks").max().fill_null(0).cast(pl.Int64)).item()
    best = np.concatenate([[0.0], np.cumsum(dcg_discounts(max(most_clicks, 1)))])
    ideal_gain = pl.Series("ideal", best)
    frame = frame.with_columns(
        ideal=pl.col("clicks").cast(pl.Int64).replace_strict(range(len(best)), ideal_gain, return_dtype=pl.Float64)
    )
    took = pl.col("took_ms").cast(pl.Float64) if "took_ms" in frame.columns else pl.lit(None, pl.Float64)
    has_click = pl.col("clicks") > 0
    frame = frame.with_columns(
        clicked=has_click.cast(pl.Float64),
        ndcg=pl.when(has_click).then(pl.col("gain") / pl.col("ideal")).otherwise(0.0),
        mrr=(1.0 / (pl.col("first") + 1)).fill_null(0.0),
        no_result=(searched & (pl.col("item_ids").list.len() == 0)).cast(pl.Float64),
        searched_in_vain=(searched & (pl.col("item_ids").list.len() > 0) & ~has_click).cast(pl.Float64),
        took_ms=took.fill_null(0.0),
        timed=took.is_not_null().cast(pl.Float64),
    )
    return _reformulated(_sliced(frame, tables), windows)


def _sliced(frame: pl.DataFrame, tables: SliceTables) -> pl.DataFrame:
    """Adds the columns of SLICES."""
    head = pl.Series(list(tables.head_queries), dtype=pl.String)
    if tables.users is not None:
        frame = frame.join(tables.users.select("user_id", "segments"), on="user_id", how="left")
        frame = frame.with_columns(pl.col("segments").fill_null([]))
    else:
        frame = frame.with_columns(segments=pl.lit([], pl.List(pl.String)))
    query = pl.col("query_text")
    reason = _text(frame, "fallback")
    hour = pl.col("ts") // HOUR_US
    return frame.with_columns(
        fallback_reason=reason,
        placement=_text(frame, "placement").fill_null(NO_PLACEMENT),
        kind=pl.when(query.is_null()).then(pl.lit("recommendation")).otherwise(pl.lit("search")),
        query_slice=pl.when(query.is_null())
        .then(pl.lit("no query"))
        .when(query.is_in(head.implode()))
        .then(pl.lit("head"))
        .otherwise(pl.lit("tail")),
        query_kind=_query_kind(query, tables.known_queries),
        hour=pl.from_epoch(hour * 3600).dt.strftime("%Y-%m-%dT%H"),
        day=pl.from_epoch(hour * 3600).dt.strftime("%Y-%m-%d"),
    ).with_columns(
        fallback=pl.col("fallback_reason").is_not_null().cast(pl.Float64),
        fallback_slice=pl.col("fallback_reason").fill_null("none"),
    )


def _query_kind(query: pl.Expr, known: pl.Series | None) -> pl.Expr:
    """none, seen or unseen; null where the queries of the training log are not there."""
    if known is None:
        return pl.lit(None, pl.String)
    seen = pl.when(query.is_in(known.implode())).then(pl.lit("seen")).otherwise(pl.lit("unseen"))
    return pl.when(query.is_null()).then(pl.lit("none")).otherwise(seen)


def _reformulated(frame: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """Adds whether a search without a click was followed by another query of the same user."""
    following = (
        frame.filter(pl.col("query_text").is_not_null())
        .sort("key", "ts", "request_id")
        .select(
            "request_id",
            next_query=pl.col("query_text").shift(-1).over("key"),
            wait=pl.col("ts").shift(-1).over("key") - pl.col("ts"),
        )
    )
    soon = pl.col("wait") <= int(windows.reformulation_s * 1e6)
    again = soon & (pl.col("next_query") != pl.col("query_text")) & (pl.col("clicked") == 0)
    return frame.join(following, on="request_id", how="left").with_columns(
        reformulated=again.fill_null(value=False).cast(pl.Float64)
    )


def sums(outcomes: pl.DataFrame, figures: dict[str, tuple[str, str]], slices: Iterable[str]) -> pl.DataFrame:
    """Sums over users per slice and figure: `slice`, `part`, `figure` and SUMS; they add up by `add`.

    The slice `all` has the one part `all`. A user's rows must all be in `outcomes`, or each hour's in one call.
    """
    columns = sorted({column for pair in figures.values() for column in pair} - {"visitors"})
    parts = []
    for name in ("all", *slices):
        column = "fallback_slice" if name == "fallback" else name
        part = pl.lit("all") if name == "all" else pl.col(column).cast(pl.String).fill_null("unknown")
        rows = outcomes
        if column in outcomes.columns and outcomes.schema[column] == pl.List(pl.String):  # a slate in several parts
            rows = outcomes.explode(column, empty_as_null=False)
        users = rows.group_by(part.alias("part"), "key").agg(pl.col(columns).sum(), visitors=pl.lit(1.0))
        for figure, (numerator, denominator) in figures.items():
            n, y = pl.col(denominator), pl.col(numerator)
            parts.append(
                users.filter(n > 0)
                .group_by("part")
                .agg(
                    users=pl.len().cast(pl.Float64),
                    n=n.sum(),
                    y=y.sum(),
                    nn=(n * n).sum(),
                    ny=(n * y).sum(),
                    yy=(y * y).sum(),
                )
                .select(pl.lit(name).alias("slice"), "part", pl.lit(figure).alias("figure"), *SUMS)
            )
    return pl.concat(parts)


def add(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The sums of several parts of the log together, each user in one of them."""
    return (
        pl.concat(list(parts))
        .group_by("slice", "part", "figure")
        .agg(pl.col(SUMS).sum())
        .sort("slice", "part", "figure")
    )


def rates(table: pl.DataFrame) -> dict[str, dict[str, dict[str, Rate]]]:
    """The figures of a table of sums: slice -> part -> figure -> `Rate`."""
    by_slice: dict[str, dict[str, dict[str, Rate]]] = {}
    for slice_, part, figure, *values in (
        table.select("slice", "part", "figure", *SUMS).sort("slice", "part").iter_rows()
    ):
        by_slice.setdefault(slice_, {}).setdefault(part, {})[figure] = rate(*values)
    return by_slice


def rate(users: float, n: float, y: float, nn: float, ny: float, yy: float) -> Rate:
    """A ratio of sums with its interval by the delta method, users as clusters."""
    if n <= 0:
        return Rate(np.nan, np.nan, np.nan, int(users), n)
    value = y / n
    squares = max(yy - 2 * value * ny + value**2 * nn, 0.0)
    error = np.sqrt(squares * users / max(users - 1, 1)) / n if users > 1 else np.inf
    width = float(ndtri((1 + LEVEL) / 2) * error)
    return Rate(value, value - width, value + width, int(users), n)


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String)
