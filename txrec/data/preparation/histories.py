"""Partitions of users: cleaned, thinned to their k-core, counted for the vocabulary, written as sequences.

Every function takes one Arrow table of one or more partitions and returns parcels (`txrec.data.preparation.parcels`),
touches no state, and can run in any process of any machine. A partition holds all events of its users.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from txrec.data.preparation import clean, event_statistics, parcels, split
from txrec.data.preparation.canonical_reading import sort_out
from txrec.data.preparation.job import Job
from txrec.data.sources.canonical import EVENT_COLUMNS, QUARANTINE
from txrec.schema import Split, is_engagement

COUNTS = {"train": pl.UInt32(), "total": pl.UInt32(), "test": pl.UInt32()}
ITEM_COUNTS, QUERY_COUNTS, FIELD_COUNTS = "counts:items", "counts:queries", "counts:fields"
_CODED = ("user_id", "item_id", "query")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def clean_partition(job: Job, rows: pa.Table) -> pa.Table:
    """Orders and cleans the events of a partition.

    Args:
        job: the preparation.
        rows: rows of `canonical_reading.event_rows`, blocks in any order.

    Returns:
        Parcels: `events` (ordered by user and time; ids and queries dictionary-encoded), `rejected`, `figures:chunk` of
        the chunks whose figures came with the rows, `figures:cleaned` = {"kept", "rejected"}, and `figures:times` =
        `split.TimeCounts`.
    """
    if not rows.num_rows:
        return parcels.PARCELS.empty_table()
    arrived = sort_out(rows)
    made = [parcels.pack_figures("chunk", asdict(figures)) for figures in arrived.figures]
    rejected = [arrived.rejected]
    if arrived.events.num_rows:
        events = _with_all_columns(pl.DataFrame(pl.from_arrow(arrived.events)))
        kept, dropped = clean.clean(clean.in_order(events), job.config.prepare, job.plan.has_time)
        rejected += [_quarantined(drop) for drop in dropped]
        counts = {drop.reason.value: drop.frame.height for drop in dropped}
        made.append(parcels.pack_figures("cleaned", {"kept": kept.height, "rejected": counts}))
        if kept.height:
            if job.plan.has_time:
                made.append(parcels.pack_figures("times", asdict(split.count_times(kept))))
            made.append(parcels.pack("events", kept.select(pl.col("origin").min()).item(), _encoded(job, kept)))
    return parcels.together([*made, *_rejected(pa.concat_tables(rejected))])


def _with_all_columns(events: pl.DataFrame) -> pl.DataFrame:
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in EVENT_COLUMNS.items() if name not in events.columns]
    return events.with_columns(absent)


def _rejected(rows: pa.Table) -> list[pa.Table]:
    return [parcels.pack("rejected", pc.min(rows["origin"]).as_py(), rows)] if rows.num_rows else []


def _quarantined(dropped: clean.Dropped) -> pa.Table:
    """Rows that were canonical already are kept as JSON of their fields."""
    fields = [name for name in EVENT_COLUMNS if name != "origin"]
    raw = clean.as_text(dropped.frame).select("origin", raw=pl.struct(fields).struct.json_encode())
    table = raw.with_columns(reason=pl.lit(dropped.reason.value)).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(QUARANTINE)


def _encoded(job: Job, events: pl.DataFrame) -> pa.Table:
    """Columns for later steps, strings as dictionaries: each distinct one is looked up once."""
    names = [*_CODED, "event", "ts", "value", "session", "origin", *job.carried_columns]
    if job.has_core:  # which may still drop rows, and their quarantine tells every field
        names += ["session_id", "request_id"]
    table = events.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
    for name in _CODED:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(_DICTIONARY))
    return table.unify_dictionaries().combine_chunks()


def _codes(table: pa.Table, name: str) -> pa.Array:
    """(N,) int32 positions in the column's dictionary, null where the value is."""
    return _whole(table[name]).indices


def _dictionary(table: pa.Table, name: str) -> pa.Array:
    return _whole(table[name]).dictionary


def _whole(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()


# -- k-core ------------------------------------------------------------------------------------------------------------


def count_item_events(partitions: pa.Table) -> pa.Table:
    """k-core: events per item of every partition, as parcels `counts:items`."""
    counts = [_events_per_item(table) for _, table in parcels.tables(partitions, "events")]
    return parcels.together(parcels.pack(ITEM_COUNTS, 0, table) for table in counts)


def _events_per_item(events: pa.Table) -> pa.Table:
    counts = pl.DataFrame({"code": pl.Series(_codes(events, "item_id"))}).drop_nulls().group_by("code").len()
    return pa.table({"item_id": _dictionary(events, "item_id").take(counts["code"].to_arrow()), "len": counts["len"]})


def rare_items(counts: pa.Table, min_events: int) -> pa.Table:
    """k-core: the items with too few events, of parcels `counts:items`, as one parcel `rare`."""
    table = parcels.unpack(counts, ITEM_COUNTS)
    if table is None:
        return parcels.pack("rare", 0, pa.table({"item_id": pa.array([], pa.string())}))
    total = table.group_by("item_id").aggregate([("len", "sum")])
    rare = total.filter(pc.less(total["len_sum"], min_events)).select(["item_id"])
    return parcels.pack("rare", 0, rare)


def drop_rare(job: Job, rare: pa.Table, partitions: pa.Table) -> pa.Table:
    """One round of k-core: events on rare items go, then users left with too few events.

    Args:
        job: the preparation.
        rare: `item_id`, the rare ones.
        partitions: parcels.

    Returns:
        The parcels with fewer events and more `rejected`, and `figures:core` = rows rejected by reason.
    """
    ids = rare["item_id"].combine_chunks()

    def one(number: int, events: pa.Table) -> Sequence[pa.Table]:
        dictionary = _dictionary(events, "item_id")
        is_rare = pc.is_in(dictionary, value_set=ids).take(_codes(events, "item_id"))
        user = np.asarray(_codes(events, "user_id"))
        masks = clean.rare(user, np.asarray(pc.fill_null(is_rare, False)), job.config.prepare.min_user_events)
        lost = [(reason, mask) for reason, mask in masks if mask.any()]
        if not lost:
            return [parcels.pack("events", number, events), parcels.pack_figures("core", {})]
        kept = events.filter(pa.array(~np.logical_or.reduce([mask for _, mask in masks])))
        rejected = [
            _quarantined(clean.Dropped(reason, _decoded(events.filter(pa.array(mask))))) for reason, mask in lost
        ]
        figures = parcels.pack_figures("core", {reason.value: int(mask.sum()) for reason, mask in lost})
        remaining = [parcels.pack("events", number, kept)] if kept.num_rows else []
        return [*remaining, *_rejected(pa.concat_tables(rejected)), figures]

    rest = partitions.filter(pc.not_equal(partitions["kind"], "figures:core"))  # of the round before
    return parcels.each(rest, "events", one)


def _decoded(events: pa.Table) -> pl.DataFrame:
    plain = events.cast(pa.schema([pa.field(f.name, pa.string()) if f.name in _CODED else f for f in events.schema]))
    return pl.DataFrame(pl.from_arrow(plain))


# -- splitting and counting --------------------------------------------------------------------------------------------


def count_partition(job: Job, partitions: pa.Table) -> pa.Table:
    """Splits the events of every partition and counts them by item, query and product field.

    Returns:
        Parcels `counts:*` (a row per value with its events in training, in all, and in test) and `figures:events`
        (`event_statistics.EventStatistics`).
    """
    made: list[pa.Table] = []
    for _, events in parcels.tables(partitions, "events"):
        made += _counts(events, parts_of(job, events))
    return parcels.together(made)


def parts_of(job: Job, events: pa.Table) -> NDArray[np.int8]:
    """(N,) Split of every event."""
    if job.config.prepare.split.kind == "leave_one_out":
        engaged = is_engagement(np.asarray(events["event"]))
        return split.leave_one_out(np.asarray(_codes(events, "user_id")), engaged)
    return split.global_time(np.asarray(events["ts"]), *job.windows)


def _counts(events: pa.Table, parts: NDArray[np.int8]) -> list[pa.Table]:
    kinds = np.asarray(events["event"])
    frame = pl.DataFrame(
        {
            "user": np.asarray(_codes(events, "user_id")),
            "item": pl.Series(_codes(events, "item_id")),
            "query": pl.Series(_codes(events, "query")),
            "split": parts,
            "engaged": is_engagement(kinds),
            "event": kinds,
            "ts": np.asarray(events["ts"]),
            "session": np.asarray(events["session"]),
        }
    )
    words = pc.add(pc.count_substring(_dictionary(events, "query"), " "), 1)
    by_item = frame.filter(pl.col("item").is_not_null()).group_by("item").agg(**part_counts(pl.col("engaged")))
    by_query = frame.filter(pl.col("query").is_not_null()).group_by("query").agg(**part_counts())
    made = [
        _counted(ITEM_COUNTS, "item_id", by_item, "item", _dictionary(events, "item_id")),
        _counted(QUERY_COUNTS, "query", by_query, "query", _dictionary(events, "query")),
    ]
    fields = count_fields(pl.DataFrame(pl.from_arrow(_fields_of(events))).with_columns(split=pl.Series(parts)))
    if fields is not None:
        made.append(parcels.pack(FIELD_COUNTS, 0, fields.to_arrow(compat_level=pl.CompatLevel.oldest())))
    item_ids = pl.Series(pl.from_arrow(_dictionary(events, "item_id")), dtype=pl.String)
    statistics = event_statistics.count(frame, by_query.select("query", "total"), np.asarray(words), item_ids)
    return [*made, parcels.pack_figures("events", asdict(statistics))]


def _counted(kind: str, name: str, counts: pl.DataFrame, code: str, dictionary: pa.Array) -> pa.Table:
    columns = {count: counts[count].to_arrow() for count in COUNTS}
    return parcels.pack(kind, 0, pa.table({name: dictionary.take(counts[code].to_arrow()), **columns}))


def _fields_of(events: pa.Table) -> pa.Table:
    carried = [name for name in events.column_names if name.startswith("item:")]
    ids = _whole(events["item_id"]).cast(pa.string())
    return events.select(carried).append_column("item_id", ids)


def count_fields(rows: pl.DataFrame) -> pl.DataFrame | None:
    """Counts of every value of product fields that event (or judgment) rows carry; None where they carry none.

    Args:
        rows: `item_id`, `split`, and the fields as `item:NAME`.

    Returns:
        `item_id`, `value`, `train`, `total`, `field`.
    """
    carried = [name for name in rows.columns if name.startswith("item:")]
    train = (pl.col("split") == int(Split.TRAIN)).sum()
    counts = [
        rows.filter(pl.col("item_id").is_not_null() & pl.col(name).is_not_null())
        .group_by("item_id", value=pl.col(name))
        .agg(train=train, total=pl.len())
        .select("item_id", "value", "train", "total", field=pl.lit(name.removeprefix("item:")))
        for name in carried
    ]
    return pl.concat(counts) if counts else None


def part_counts(counted: pl.Expr | None = None) -> dict[str, pl.Expr]:
    """Rows in training (of those that `counted` marks), in all, and in test."""
    train = pl.col("split") == int(Split.TRAIN)
    return {
        "train": (train if counted is None else train & counted).sum(),
        "total": pl.len(),
        "test": (pl.col("split") == int(Split.TEST)).sum(),
    }
