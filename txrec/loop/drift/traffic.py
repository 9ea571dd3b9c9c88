"""Traffic profile: what the training log looked like by day, kept in a bundle for the comparison with live traffic.

The profile holds counts per day and group of users (query mix, item mix, kinds of events, unknown users, products and
queries, usual categories of users), and the vocabulary of the log as 64-bit hashes, so that neither ids nor queries of
people stand in it.

An id is unknown on a day of the log if it was first seen on that day or in the `h - 1` days before; `h` is the horizon.
Live traffic is compared at the horizon of the bundle's age: a bundle that is a week old does not know the users of that
week, and a day of the log without the users of its own week is what is usual for it.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.loop.drift import usual_categories
from txrec.loop.drift.drift import MIN_REFERENCE, Days
from txrec.loop.drift.traffic_counts import (
    HORIZONS,
    ITEM_BINS,
    QUERY_BINS,
    UNKNOWN,
    Vocabulary,
    dense,
    hashes,
    normalised,
)
from txrec.schema import DAY_US, PAD, EventKind

FILE = "traffic.npz"
REFERENCE_DAYS = 28
MAX_CATEGORIES = 40
MAX_EVENTS = 500_000
"""Events of a profile; a larger log is represented by a part of its users."""
_OTHER = "other"


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
        category, categories = _categories(data)
        paths = _paths(data)
        rows = _rows(data, category, categories, paths)
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
        tastes = _tastes(data, rows)
        vocabulary = Vocabulary(
            users=np.sort(hashes(data.sequences.user_id.tolist())),
            queries=np.unique(hashes(normalised(one) for one in data.queries["query"].to_pylist())),
            items=items[order],
            category=category[had][order],
            categories=categories,
            path=paths[had][order],
            taste_user=tastes["hash"].to_numpy(),
            taste_path=tastes["path"].to_numpy(),
            taste_share=tastes["share"].to_numpy(),
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
            path=words.path.astype(np.int32),
            taste_user=words.taste_user,
            taste_path=words.taste_path.astype(np.int32),
            taste_share=words.taste_share.astype(np.float32),
            span_us=np.array([self.start_us, self.end_us]),
        )
        return buffer.getvalue()

    @classmethod
    def read(cls, bundle: Path) -> "TrafficProfile | None":
        """The profile of a bundle; None where it has none, or one of a version without usual categories.

        Raises:
            BundleError: the file is damaged.
        """
        file = bundle / FILE
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as stored:
                part = {name: stored[name] for name in stored.files}
                if "taste_user" not in part:
                    return None
                days = Days(tuple(part["names"].tolist()), part["counts"].astype(np.float64), part["days"])
                vocabulary = Vocabulary(
                    part["users"],
                    part["queries"],
                    part["items"],
                    part["category"].astype(np.int64),
                    tuple(part["categories"].tolist()),
                    part["path"].astype(np.int64),
                    part["taste_user"],
                    part["taste_path"].astype(np.int64),
                    part["taste_share"].astype(np.float64),
                )
                return cls(days, vocabulary, *(int(end) for end in part["span_us"]))
        except (ValueError, KeyError, OSError) as error:
            raise BundleError(f"{file}: not a traffic profile of this version of txrec: {error}") from None


def _rows(
    data: PreparedData, category: NDArray[np.int64], names: tuple[str, ...], paths: NDArray[np.int64]
) -> pl.DataFrame:
    """The events of a part of the users as `dense` counts them.

    Args:
        data: prepared.
        category: (N + 1,) code into `names` by dense item.
        names: of the broadest categories.
        paths: (N + 1,) code of the whole category by dense item.
    """
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
            "path": paths[index["item"]],
            **unknown,
        }
    )
    return _with_usual(frame)


def _with_usual(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds how usual the category of each event was for its user, by horizon, and whether the user had a past."""
    known = rows.filter(pl.col("path") > 0).select("user", category="path", day="window")
    past = usual_categories.affinities(known, HORIZONS).rename({"category": "path", "day": "window"})
    joined = rows.join(past, on=["user", "path", "window"], how="left", maintain_order="left")
    columns = {days: pl.col(f"affinity@{days}") for days in HORIZONS}
    return joined.with_columns(
        **{f"usual@{days}": one.fill_null(0.0) for days, one in columns.items()},
        **{f"past@{days}": one.is_not_null() for days, one in columns.items()},
    )


def _tastes(data: PreparedData, rows: pl.DataFrame) -> pl.DataFrame:
    """Shares of category paths in each user's events: `hash` of the user, `path`, `share`."""
    counts = rows.filter(pl.col("path") > 0).group_by("user", "path").agg(num=pl.len())
    counts = counts.with_columns(share=pl.col("num") / pl.col("num").sum().over("user")).sort("user", "path")
    users = hashes(data.sequences.user_id[counts["user"].to_numpy()].tolist())
    return counts.select(hash=pl.Series(users, dtype=pl.UInt64), path="path", share="share")


def _paths(data: PreparedData) -> NDArray[np.int64]:
    """(N + 1,) code of the whole category path by dense item, 0 = none."""
    column = pl.DataFrame(pl.from_arrow(data.items.select(["category"]))).to_series()
    code = usual_categories.path(column).rank("dense").fill_null(0).to_numpy()
    return np.append(0, code).astype(np.int64)


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
