"""Traffic profile: what the training log looked like by day, kept in a bundle for the comparison with live traffic.

The profile holds counts per day and group of users (query mix, item mix, kinds of events, unknown users, products and
queries), and the vocabulary of the log as 64-bit hashes, so that neither ids nor queries of people stand in it.

An id is unknown on a day of the log if it was first seen on that day or in the `h - 1` days before; `h` is the horizon.
Live traffic is compared at the horizon of the bundle's age: a bundle that is a week old does not know the users of that
week, and a day of the log without the users of its own week is what is usual for it.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.loop.drift import MIN_REFERENCE, Days
from txrec.schema import DAY_US, PAD, EventKind

FILE = "traffic.npz"
GROUPS = 200
"""Groups of users: the unit that is resampled."""
REFERENCE_DAYS = 28
HORIZONS = (1, 3, 7, 14)
"""Ages of a bundle, days, at which unknown shares of the log are counted."""
QUERY_BINS, ITEM_BINS, MAX_CATEGORIES = 32, 64, 40
MAX_EVENTS = 500_000
"""Events of a profile; a larger log is represented by a part of its users."""
KINDS = ("view", "search", "click", "cart", "purchase")
UNKNOWN = ("user", "item", "query")
_OTHER = "other"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Ids and queries of a log, as sorted 64-bit hashes (`hashes`).

    Attributes:
        users: (U,) hashes of user ids.
        queries: (Q,) hashes of normalised queries (`normalised`).
        items: (N,) hashes of the ids of products that had an event.
        category: (N,) index into `categories` of each product.
        categories: names of the most frequent categories, and `other`.
    """

    users: NDArray[np.uint64]
    queries: NDArray[np.uint64]
    items: NDArray[np.uint64]
    category: NDArray[np.int64]
    categories: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrafficProfile:
    """Counts of the last days of a training log, and its vocabulary.

    Attributes:
        days: at most REFERENCE_DAYS complete days.
        vocabulary: of the whole log.
        start_us: first instant of the log, microseconds since 1970 UTC.
        end_us: last one.
    """

    days: Days
    vocabulary: Vocabulary
    start_us: int
    end_us: int

    @classmethod
    def of(cls, data: PreparedData) -> "TrafficProfile | None":
        """The profile of a prepared data set; None for a log without times or with too few days."""
        if not data.meta.has_time or not data.meta.num_events:
            return None
        rows, category, categories = _rows(data)
        last = int(data.meta.end_ts // DAY_US)
        ts = data.sequences.ts
        whole = rows.filter((pl.col("window") < last) & (pl.col("window") >= last - REFERENCE_DAYS))
        if whole["window"].n_unique() < MIN_REFERENCE:
            return None
        names = data.items["item_id"].to_pylist()
        had = np.unique(data.sequences.item_idx)
        had = had[had != PAD]
        items = hashes(names[index - 1] for index in had.tolist())
        order = np.argsort(items)
        vocabulary = Vocabulary(
            users=np.sort(hashes(data.sequences.user_id.tolist())),
            queries=np.unique(hashes(normalised(one) for one in data.queries["query"].to_pylist())),
            items=items[order],
            category=category[had][order],
            categories=categories,
        )
        return cls(dense(whole), vocabulary, int(ts[ts > 0].min()), data.meta.end_ts)

    def to_bytes(self) -> bytes:
        """As `FILE` of a bundle holds it."""
        words = self.vocabulary
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            names=np.array(self.days.names),
            counts=self.days.counts.astype(np.float32),
            days=self.days.days,
            users=words.users,
            queries=words.queries,
            items=words.items,
            category=words.category.astype(np.int16),
            categories=np.array(words.categories),
            span_us=np.array([self.start_us, self.end_us]),
        )
        return buffer.getvalue()

    @classmethod
    def read(cls, bundle: Path) -> "TrafficProfile | None":
        """The profile of a bundle; None where it has none.

        Raises:
            BundleError: the file is damaged.
        """
        file = bundle / FILE
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as stored:
                part = {name: stored[name] for name in stored.files}
                days = Days(tuple(part["names"].tolist()), part["counts"].astype(np.float64), part["days"])
                vocabulary = Vocabulary(
                    part["users"],
                    part["queries"],
                    part["items"],
                    part["category"].astype(np.int64),
                    tuple(part["categories"].tolist()),
                )
                return cls(days, vocabulary, *(int(end) for end in part["span_us"]))
        except (ValueError, KeyError, OSError) as error:
            raise BundleError(f"{file}: not a traffic profile of this version of txrec: {error}") from None


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
    place = np.searchsorted(vocabulary.items, item.hash).clip(0, max(len(vocabulary.items) - 1, 0))
    known = np.isin(item.hash, vocabulary.items)
    names = np.array([*vocabulary.categories, ""], dtype=object)
    code = np.where(known, vocabulary.category[place], -1) if len(vocabulary.items) else np.full(len(known), -1)
    unknown = {
        "user": ~np.isin(user.hash, vocabulary.users),
        "item": item.present & ~known,
        "query": query.present & ~np.isin(query.hash, vocabulary.queries),
    }
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
        category=pl.Series(names[code].tolist(), dtype=pl.String),
        **{f"unknown_{name}@{days}": pl.Series(marks) for name, marks in unknown.items() for days in HORIZONS},
    )


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
    simple = per_user.group_by("window", "group").agg(
        pl.col(SIMPLE).sum(), squares=(pl.col("events") * pl.col("events")).sum()
    )
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
    sums = simple.unpivot(index=["window", "group"], variable_name="name", value_name="amount")
    long = pl.concat([sums, *(one.select("window", "group", "name", "amount") for one in bins)])
    return as_days(long, (*SIMPLE, "squares"))


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


_MARKS = ("same_time", *(f"unknown_{name}@{days}" for name in UNKNOWN for days in HORIZONS))
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


def _rows(data: PreparedData) -> tuple[pl.DataFrame, NDArray[np.int64], tuple[str, ...]]:
    """The events of a part of the users as `dense` counts them; category code by dense item; names of categories."""
    log = data.sequences
    user = np.repeat(np.arange(len(log)), np.diff(log.offsets))
    day = log.ts // DAY_US
    first = {
        name: _first_days(index, day, size)
        for name, index, size in (
            ("user", user, len(log)),
            ("item", log.item_idx, data.meta.num_items + 1),
            ("query", log.query_idx, data.meta.num_queries + 1),
        )
    }
    step = -(-data.meta.num_events // MAX_EVENTS)
    rows = np.flatnonzero((user % step == 0) & (log.ts > 0) & (log.event != EventKind.IMPRESSION))
    index: dict[str, NDArray[np.int64]] = {"user": user[rows], "item": log.item_idx[rows].astype(np.int64)}
    index["query"] = log.query_idx[rows].astype(np.int64)
    present = {name: index[name] != PAD for name in ("item", "query")} | {"user": np.ones(len(rows), bool)}
    category, names = _categories(data)
    bins = {
        "item": hashes(data.items["item_id"].to_pylist()) % np.uint64(ITEM_BINS),
        "query": hashes(normalised(one) for one in data.queries["query"].to_pylist()) % np.uint64(QUERY_BINS),
    }
    padded = {name: np.append(np.uint64(0), values).astype(np.int64) for name, values in bins.items()}
    kinds = np.array(["", *(kind.label for kind in sorted(EventKind))], dtype=object)
    unknown = {
        f"unknown_{name}@{horizon}": present[name] & (first[name][index[name]] > day[rows] - horizon)
        for name in UNKNOWN
        for horizon in HORIZONS
    }
    frame = pl.DataFrame(
        {
            "ts": log.ts[rows],
            "event": pl.Series(kinds[log.event[rows]].tolist(), dtype=pl.String),
            "value": log.value[rows].astype(np.float64),
            "window": day[rows],
            "user": index["user"].astype(np.int64),
            "has_item": present["item"],
            "has_query": present["query"],
            "item_bin": padded["item"][index["item"]],
            "query_bin": padded["query"][index["query"]],
            "category": pl.Series(np.array(names, dtype=object)[category[index["item"]]].tolist(), dtype=pl.String),
            **unknown,
        }
    )
    return frame, category, names


def _first_days(index: NDArray[np.integer], day: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(size,) first day of each index."""
    first = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(first, index, day)
    return first


def _categories(data: PreparedData) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N + 1,) category code by dense item, and the names: the broadest ones of the most products, then `other`."""
    column = pl.DataFrame(pl.from_arrow(data.items.select(["category"]))).to_series()
    broadest = column.list.first() if column.dtype == pl.List else column
    broadest = broadest.cast(pl.String).fill_null(_OTHER)
    frequent = broadest.filter(broadest != _OTHER).value_counts(sort=True)["category"].head(MAX_CATEGORIES).to_list()
    names = (*frequent, _OTHER)
    code = {name: number for number, name in enumerate(names)}
    codes = [code.get(name, len(frequent)) for name in broadest.to_list()]
    return np.array([len(frequent), *codes], np.int64), names
