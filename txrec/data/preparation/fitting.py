"""Item and query tables, text analyser, tokenizer and judgments, fitted on the counts of all partitions."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from txrec import object_storage, schema
from txrec.data import profiles
from txrec.data.preparation import event_statistics, known_ids, parcels, split, vocab
from txrec.data.preparation.histories import COUNTS, FIELD_COUNTS, ITEM_COUNTS, QUERY_COUNTS, count_fields, part_counts
from txrec.data.preparation.job import Job
from txrec.data.prepared import training_queries
from txrec.data.sources.canonical import QUARANTINE
from txrec.schema import Reason
from txrec.text import Analyser
from txrec.text.analyser import FILE as ANALYSER_FILE

_NO_FIELDS = pl.DataFrame(
    schema={"item_id": pl.String, "value": pl.String, "train": pl.UInt32, "total": pl.UInt32, "field": pl.String}
)
_MOST_RANKS = 200


@dataclass(frozen=True)
class DatasetSizes:
    """Sizes of the tables of a prepared data set, and how much of its test part training never saw."""

    num_items: int
    num_trained_items: int
    num_queries: int
    num_categories: int
    num_brands: int
    num_price_buckets: int
    num_titled_items: int
    """Items with a text."""
    num_repeated_items: int
    """Rows of the catalogue whose item_id came before; rejected."""
    num_test_items: int
    num_cold_test_items: int
    """Items with events in test, and those of them without an event in training."""
    num_test_queries: int
    num_unseen_test_queries: int
    num_profiles: int = 0
    """Users of the users table."""
    num_repeated_users: int = 0
    """Rows of the users table whose user_id came before; rejected."""
    judgments: dict[str, int] = field(default_factory=dict)
    """Split label = judgments; empty without judgments."""
    popularity_rank: list[int] = field(default_factory=list)
    popularity: list[int] = field(default_factory=list)
    """Training events of the items at these ranks."""


def fit(job: Job, counted: pa.Table) -> pa.Table:
    """Writes the tables of items, queries, judgments and users.

    Args:
        job: the preparation.
        counted: parcels `counts:*`, `items`, `judgments` and `users` of everything.

    Returns:
        Parcels: `figures:sizes` (`DatasetSizes`), `figures:overlap` (`known_ids.Overlap`), and `rejected` where the
        catalogue repeats an item_id or the users table a user_id.
    """
    config, out = job.config, Path(job.config.data_dir)
    out.mkdir(parents=True, exist_ok=True)
    judged = _judged(job, counted)
    rows, repeated = vocab.catalogue(_catalogue_rows(counted))
    item_counts = _item_counts(counted, judged)
    query_counts = _query_counts(counted, judged)
    fields = _field_counts(counted, judged)
    items = vocab.build_items(rows, item_counts.select("item_id", "train"), fields, config.prepare.num_price_buckets)
    queries = vocab.build_queries(query_counts)
    pq.write_table(items.table, out / "items.parquet")
    pq.write_table(queries, out / "queries.parquet")
    if judged.height:
        table = judged.select(*schema.JUDGMENTS.names, "split").to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(table.cast(schema.JUDGMENTS.append(pa.field("split", pa.int8()))), out / "judgments.parquet")
    users, repeated_users = _user_rows(counted)
    if users.height:
        pq.write_table(_profiles(users), out / profiles.FILE)
    for name in ("items.parquet", "queries.parquet", "judgments.parquet", profiles.FILE):
        if (out / name).is_file():
            object_storage.share(out / name)
    sizes = _sizes(items, queries.num_rows, repeated.height, judged, (item_counts, query_counts))
    sizes = replace(sizes, num_profiles=users.height, num_repeated_users=repeated_users.height)
    both = ((repeated, schema.ITEMS), (repeated_users, schema.USERS))
    rejected = [_repeated(rows, columns) for rows, columns in both if rows.height]
    logged = item_counts.filter(pl.col("total") > 0)["item_id"]
    known = known_ids.overlap("products", logged, rows["item_id"])
    figures = [parcels.pack_figures("sizes", asdict(sizes)), parcels.pack_figures("overlap", asdict(known))]
    return parcels.together([*figures, *rejected])


def fit_texts(job: Job) -> None:
    """Writes the text analyser and the tokenizer, fitted on the tables that `fit` wrote."""
    config, out = job.config, Path(job.config.data_dir)
    tables = [object_storage.fetch(out / name) for name in ("items.parquet", "queries.parquet")]
    object_storage.require_seen(tables[0], "runs_root")
    items, queries = (pq.read_table(file) for file in tables)
    Analyser.of_catalogue(config.text, items, training_queries(queries)).save(out / ANALYSER_FILE)
    tokenizer = vocab.build_tokenizer(items, queries, config) if config.text.encoder != "none" else None
    if tokenizer is not None:
        tokenizer.save(str(out / "tokenizer.json"))
        object_storage.share(out / "tokenizer.json")
    object_storage.share(out / ANALYSER_FILE)


def _sizes(
    items: vocab.ItemVocabulary,
    num_queries: int,
    num_repeated: int,
    judged: pl.DataFrame,
    counts: tuple[pl.DataFrame, pl.DataFrame],
) -> DatasetSizes:
    table = items.table
    test_items, cold_items = _unknown(counts[0])
    test_queries, unseen_queries = _unknown(counts[1])
    ranks, popularity = _popularity(table["train_count"].to_numpy()[: items.num_trained_items])
    return DatasetSizes(
        num_items=table.num_rows,
        num_trained_items=items.num_trained_items,
        num_queries=num_queries,
        num_categories=items.num_categories,
        num_brands=items.num_brands,
        num_price_buckets=pc.max(table["price_bucket"]).as_py() or 0,
        num_titled_items=pc.sum(pc.not_equal(table["text"], "")).as_py() or 0,
        num_repeated_items=num_repeated,
        num_test_items=test_items,
        num_cold_test_items=cold_items,
        num_test_queries=test_queries,
        num_unseen_test_queries=unseen_queries,
        judgments=event_statistics.by_split(judged["split"]) if judged.height else {},
        popularity_rank=ranks,
        popularity=popularity,
    )


def _item_counts(counted: pa.Table, judged: pl.DataFrame) -> pl.DataFrame:
    """Events of every item; judged items are items too, but a judgment is no event."""
    counts = [_frame(counted, ITEM_COUNTS, pl.Schema({"item_id": pl.String(), **COUNTS}))]
    if judged.height:
        ids = judged.select(pl.col("item_id").unique(maintain_order=True), **dict.fromkeys(COUNTS, pl.lit(0)))
        counts.append(ids.cast(counts[0].schema))
    return pl.concat(counts).group_by("item_id").agg(pl.col(*COUNTS).sum())


def _query_counts(counted: pa.Table, judged: pl.DataFrame) -> pl.DataFrame:
    counts = [_frame(counted, QUERY_COUNTS, pl.Schema({"query": pl.String(), **COUNTS}))]
    if judged.height:
        of_judgments = judged.group_by("query").agg(**part_counts()).select("query", *COUNTS)
        counts.append(of_judgments.cast(counts[0].schema))
    return pl.concat(counts).group_by("query").agg(pl.col(*COUNTS).sum())


def _field_counts(counted: pa.Table, judged: pl.DataFrame) -> pl.DataFrame:
    frames = [_frame(counted, FIELD_COUNTS, _NO_FIELDS.schema), count_fields(judged) if judged.height else None]
    counts = pl.concat([_NO_FIELDS, *[frame for frame in frames if frame is not None and frame.height]])
    return counts.group_by("item_id", "field", "value").agg(pl.col("train", "total").sum())


def _frame(counted: pa.Table, kind: str, columns: pl.Schema) -> pl.DataFrame:
    table = parcels.unpack(counted, kind)
    return pl.DataFrame(schema=columns) if table is None else pl.DataFrame(pl.from_arrow(table)).cast(columns)


def _unknown(counts: pl.DataFrame) -> tuple[int, int]:
    """Values in test, and those of them that training never saw."""
    tested = counts.filter(pl.col("test") > 0)
    return tested.height, tested.filter(pl.col("train") == 0).height


def _popularity(train_counts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Ranks of items, no more than `_MOST_RANKS`, and their training events."""
    if not len(train_counts):
        return [], []
    ranks = np.unique(np.geomspace(1, len(train_counts), _MOST_RANKS).astype(int))
    return ranks.tolist(), train_counts[ranks - 1].tolist()


def _catalogue_rows(counted: pa.Table) -> pl.DataFrame:
    table = parcels.unpack(counted, "items")
    if table is not None:
        return pl.DataFrame(pl.from_arrow(table))
    pair = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    numbers = pl.List(pl.Struct({"key": pl.String, "value": pl.Float64}))
    kinds = {"category": pl.List(pl.String), "price": pl.Float32, "available": pl.Boolean, "attributes": pair}
    kinds |= {"prices": numbers, "stock": numbers, "sale_start": pl.Int64(), "sale_end": pl.Int64()}
    columns = {name: kinds.get(name, pl.String) for name in schema.ITEMS.names} | {"origin": pl.Int64}
    return pl.DataFrame(schema=pl.Schema(columns))


def _user_rows(counted: pa.Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of every user, and the rows after it."""
    table = parcels.unpack(counted, "users")
    if table is None:
        return pl.DataFrame(), pl.DataFrame()
    rows = pl.DataFrame(pl.from_arrow(table))
    first = rows["user_id"].is_first_distinct()
    return rows.filter(first), rows.filter(~first)


def _profiles(rows: pl.DataFrame) -> pa.Table:
    user, segments = (rows[name].to_arrow(compat_level=pl.CompatLevel.oldest()) for name in ("user_id", "segments"))
    columns = [user, vocab.as_map(rows["properties"]), segments]
    return pa.table(columns, names=schema.USERS.names).cast(schema.USERS)


def _repeated(rows: pl.DataFrame, columns: pa.Schema) -> pa.Table:
    raw = rows.select("origin", raw=pl.struct(columns.names).struct.json_encode())
    table = raw.with_columns(reason=pl.lit(Reason.DUPLICATE.value)).to_arrow(compat_level=pl.CompatLevel.oldest())
    return parcels.pack("rejected", rows.select(pl.col("origin").min()).item(), table.cast(QUARANTINE))


def _judged(job: Job, counted: pa.Table) -> pl.DataFrame:
    """All judgments with their `split`; no rows without judgments."""
    table = parcels.unpack(counted, "judgments")
    if table is None:
        return pl.DataFrame()
    rows = pl.DataFrame(pl.from_arrow(table))
    distinct = rows["query"].unique(maintain_order=True)
    parts = split.by_query(distinct.to_list(), job.config.prepare.split.judgments_test_frac)
    of_query = pl.DataFrame({"query": distinct, "split": pl.Series(parts, dtype=pl.Int8)})
    return rows.join(of_query, on="query", how="left", maintain_order="left")
