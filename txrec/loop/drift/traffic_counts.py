"""Counts of traffic by window and group of users, of a training log as of live events, and the log's vocabulary."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.loop.drift.drift import Days

GROUPS = 200
"""Groups of users: the unit that is resampled."""
HORIZONS = (1, 3, 7, 14)
"""Ages of a bundle, days, at which unknown shares and usual categories of the log are counted."""
QUERY_BINS, ITEM_BINS = 32, 64
ACTIVITY_BINS = 8
"""Bins of users by their events of a window: 1 to 3, 4 to 15, 16 to 63 and so on."""
KINDS = ("view", "search", "click", "cart", "purchase")
UNKNOWN = ("user", "item", "query")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Ids and queries of a log, as sorted 64-bit hashes (`hashes`).

    Attributes:
        users: (U,) hashes of user ids.
        queries: (Q,) hashes of normalised queries (`normalised`).
        items: (N,) hashes of the ids of products that had an event.
        category: (N,) index into `categories` of each product.
        categories: names of the most frequent categories, and `other`.
        path: (N,) code of each product's whole category path, 0 = none.
        taste_user: (P,) hashes of users, one row per user and path that they had events on.
        taste_path: (P,) code of the path.
        taste_share: (P,) of the user's events with a path.
    """

    users: NDArray[np.uint64]
    queries: NDArray[np.uint64]
    items: NDArray[np.uint64]
    category: NDArray[np.int64]
    categories: tuple[str, ...]
    path: NDArray[np.int64]
    taste_user: NDArray[np.uint64]
    taste_path: NDArray[np.int64]
    taste_share: NDArray[np.float64]


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """(B,) 64-bit hashes of texts, the same in every process and version."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


def normalised(query: str) -> str:
    """A query as the profile compares it: lower case, without space around it."""
    return query.strip().lower()


def live_rows(events: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Live events as `dense` counts them, all in window 0.

    Args:
        events: `user_id`, `ts` (microseconds), `event`, `item_id`, `query`, `value`.
        vocabulary: of the log that they are compared with.
    """
    user, item = _coded(events["user_id"]), _coded(events["item_id"])
    query = _coded(events["query"].str.strip_chars().str.to_lowercase().replace("", None))
    known = np.isin(item.hash, vocabulary.items)
    unknown = {
        "user": ~np.isin(user.hash, vocabulary.users),
        "item": item.present & ~known,
        "query": query.present & ~np.isin(query.hash, vocabulary.queries),
    }
    affinity = _live_affinity(user.hash, item.hash, known, vocabulary)
    return events.select(
        "ts",
        "event",
        pl.col("value").cast(pl.Float64),
        window=pl.lit(0, pl.Int64),
        user=pl.Series((user.hash >> np.uint64(1)).astype(np.int64)),
        has_item=pl.Series(item.present),
        has_query=pl.Series(query.present),
        item_bin=pl.Series((item.hash % np.uint64(ITEM_BINS)).astype(np.int64)),
        query_bin=pl.Series((query.hash % np.uint64(QUERY_BINS)).astype(np.int64)),
        category=_categories_of(item.hash, known, vocabulary),
        **{f"unknown_{name}@{days}": pl.Series(marks) for name, marks in unknown.items() for days in HORIZONS},
        **{f"usual@{days}": affinity.fill_null(0.0) for days in HORIZONS},
        **{f"past@{days}": affinity.is_not_null() for days in HORIZONS},
    )


def _live_affinity(
    user: NDArray[np.uint64], item: NDArray[np.uint64], known: NDArray[np.bool_], vocabulary: Vocabulary
) -> pl.Series:
    """(n,) share that the category of each event has in the user's training events; null where there are none."""
    paths = np.append(vocabulary.path, 0)
    place = np.where(known, np.searchsorted(vocabulary.items, item), len(vocabulary.items))
    path = pl.Series("path", paths[place])
    frame = pl.DataFrame({"user": user, "path": path}).with_columns(has_path=pl.col("path") > 0)
    tastes = pl.DataFrame(
        {"user": vocabulary.taste_user, "path": vocabulary.taste_path, "share": vocabulary.taste_share}
    )
    past = frame["has_path"] & frame["user"].is_in(tastes["user"].implode())
    share = frame.join(tastes, on=["user", "path"], how="left", maintain_order="left")["share"].fill_null(0.0)
    return pl.select(pl.when(past).then(share)).to_series()


def category_names(items: pl.Series, vocabulary: Vocabulary) -> pl.Series:
    """(n,) broadest category of products by their ids; null for products that the log does not know."""
    item = _coded(items)
    known = np.isin(item.hash, vocabulary.items)
    return _categories_of(item.hash, known, vocabulary).replace("", None)


def _categories_of(item: NDArray[np.uint64], known: NDArray[np.bool_], vocabulary: Vocabulary) -> pl.Series:
    """(n,) broadest category of products by their hashes; empty for unknown ones."""
    names = np.array([*vocabulary.categories, ""], dtype=object)
    if not len(vocabulary.items):
        return pl.Series([""] * len(item), dtype=pl.String)
    place = np.searchsorted(vocabulary.items, item).clip(0, len(vocabulary.items) - 1)
    return pl.Series(names[np.where(known, vocabulary.category[place], -1)].tolist(), dtype=pl.String)


def dense(rows: pl.DataFrame) -> Days:
    """Counts per window and group of users.

    Args:
        rows: as `live_rows` gives them; `window` is the day or another number, `user` a number.
    """
    ordered = rows.sort("window", "user", "ts", maintain_order=True).with_columns(
        same_time=(
            (pl.col("user") == pl.col("user").shift(1))
            & (pl.col("window") == pl.col("window").shift(1))
            & (pl.col("ts") == pl.col("ts").shift(1))
        ).fill_null(value=False),
        hour=pl.col("ts") // 3_600_000_000 % 24,
    )
    group = (pl.col("user") % GROUPS).alias("group")
    per_user = ordered.group_by("window", "user").agg(*_sums()).with_columns(group, users=pl.lit(1.0))
    simple = per_user.group_by("window", "group").agg(pl.col(SIMPLE).sum())
    bins = [
        ordered.filter(present)
        .group_by("window", group, name=f"{mix}:" + pl.col(column).cast(pl.String))
        .agg(amount=pl.len().cast(pl.Float64))
        for mix, column, present in (
            ("query", "query_bin", pl.col("has_query")),
            ("item", "item_bin", pl.col("has_item")),
            ("category", "category", pl.col("has_item") & (pl.col("category") != "")),
            ("hour", "hour", pl.lit(value=True)),
        )
    ]
    activity = pl.col("events").log(4).floor().cast(pl.Int64).clip(0, ACTIVITY_BINS - 1).cast(pl.String)
    bins.append(per_user.group_by("window", "group", name=ACTIVITY + activity).agg(amount=pl.col("events").sum()))
    sums = simple.unpivot(index=["window", "group"], variable_name="name", value_name="amount")
    long = pl.concat([sums, *(one.select("window", "group", "name", "amount") for one in bins)])
    return as_days(long, (*SIMPLE, *(f"{ACTIVITY}{number}" for number in range(ACTIVITY_BINS))))


def as_days(long: pl.DataFrame, always: Iterable[str] = ()) -> Days:
    """Counts from rows of `window`, `group`, `name`, `amount`; names of `always` are there even without rows."""
    names = tuple(sorted({*always, *long["name"].unique().to_list()}))
    place = {name: number for number, name in enumerate(names)}
    windows = np.unique(long["window"].to_numpy())
    counts = np.zeros((len(windows), GROUPS, len(names)))
    row = np.searchsorted(windows, long["window"].to_numpy())
    column = np.array([place[name] for name in long["name"].to_list()], np.int64)
    np.add.at(counts, (row, long["group"].to_numpy(), column), long["amount"].to_numpy())
    return Days(names, counts, windows.astype(np.int64))


_BY_HORIZON = (*(f"unknown_{name}" for name in UNKNOWN), "usual", "past")
_MARKS = ("same_time", *(f"{name}@{days}" for name in _BY_HORIZON for days in HORIZONS))
ACTIVITY = "activity:"
SIMPLE = ("users", "events", "item_events", "query_events", *KINDS, *_MARKS, "value")


def _sums() -> list[pl.Expr]:
    return [
        pl.len().cast(pl.Float64).alias("events"),
        pl.col("has_item").sum().cast(pl.Float64).alias("item_events"),
        pl.col("has_query").sum().cast(pl.Float64).alias("query_events"),
        *((pl.col("event") == kind).sum().cast(pl.Float64).alias(kind) for kind in KINDS),
        *(pl.col(name).sum().cast(pl.Float64) for name in _MARKS),
        pl.col("value").fill_nan(0.0).filter(pl.col("event") == "purchase").sum(),
    ]


@dataclass(frozen=True, eq=False)
class _Coded:
    """Hashes of the values of a column, 0 where it is null."""

    hash: NDArray[np.uint64]
    present: NDArray[np.bool_]


def _coded(column: pl.Series) -> _Coded:
    values = column.drop_nulls().unique()
    table = pl.DataFrame(
        {"text": values, "hash": hashes(values.to_list())}, schema={"text": pl.String, "hash": pl.UInt64}
    )
    joined = pl.DataFrame({"text": column}).join(table, on="text", how="left", maintain_order="left")["hash"]
    return _Coded(joined.fill_null(0).to_numpy(), column.is_not_null().to_numpy())
