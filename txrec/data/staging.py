"""The work of preparation in pieces that know nothing of each other: chunks of files, then partitions of users.

    read_chunk        file range → canonical rows, dealt into partitions by a hash of the user    staging/events
    clean_partition   all events of some users: ordered, cleaned; split_partition: split, counted  staging/split
    core_partition    between the two: one round of k-core, only if asked for
    build_vocabulary  counts of all partitions → items, queries, tokenizer
    write_sequences   dense indices → data/sequences

A piece reads and writes files of the staging folder, returns a few figures, holds one block or one partition in
memory, and can run in any process of any machine that sees the folder.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import ipc

from txrec import schema
from txrec.config import Config
from txrec.data import clean, facts, sequences, sources, split, vocab
from txrec.data.canonical import EVENT_COLUMNS, ORIGIN_SHIFT, QUARANTINE, canonical
from txrec.data.prepared import training_queries
from txrec.data.sources import Block, Chunk, Plan
from txrec.schema import EVENT_CODES, ITEM_EVENTS, Split
from txrec.text import Analyser
from txrec.text.analyser import FILE as ANALYSER_FILE

_ITEM_CODES = [EVENT_CODES[name] for name in ITEM_EVENTS]
_ROW_MASK = (1 << ORIGIN_SHIFT) - 1


@dataclass(frozen=True)
class Job:
    """What every piece needs to know."""

    config: Config
    plan: Plan
    folder: str
    """Staging folder."""
    num_partitions: int
    latest_us: int
    """Later times are in the future."""
    windows: tuple[int, int] = (0, 0)
    """global_time: starts of validation and test, microseconds."""

    def file(self, kind: str, name: str) -> Path:
        """A staging file, its folder made."""
        folder = Path(self.folder) / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.arrow"

    @property
    def has_core(self) -> bool:
        """Whether k-core is asked for: rounds over all partitions between cleaning and splitting."""
        cfg = self.config.prepare
        return cfg.min_user_events > 1 or cfg.min_item_events > 1

    def staged(self, kind: str) -> list[Path]:
        """Staging files of a kind, in order."""
        return sorted((Path(self.folder) / kind).glob("*.arrow"))


@dataclass(frozen=True)
class Read:
    """What became of a chunk."""

    chunk: int
    num_read: int
    num_kept: int
    rejected: dict[str, int]
    num_lines: int
    first_us: int
    last_us: int


@dataclass(frozen=True)
class Cleaned:
    """What became of a partition."""

    num_kept: int
    rejected: dict[str, int] = field(default_factory=dict)


def read_chunk(job: Job, chunk: Chunk) -> Read:
    """Reads a chunk of files into the staging folder."""
    stager = Stager(job, chunk)
    for block in sources.read(job.config.data, chunk):
        stager.add(block)
    return stager.result()


class Stager:
    """Takes the blocks of a chunk one by one."""

    def __init__(self, job: Job, chunk: Chunk) -> None:
        self._job, self._chunk = job, chunk
        self._rejected: Counter[str] = Counter()
        self._num_read = self._num_kept = self._num_lines = self._num_blocks = 0
        self._first_us, self._last_us = 2**62, 0

    @property
    def num_lines(self) -> int:
        """Rows taken so far."""
        return self._num_lines

    def add(self, block: Block) -> None:
        """Canonicalises a block and writes what is kept and what is not."""
        job, chunk = self._job, self._chunk
        done = canonical(job.config.data, chunk, block, job.plan.has_time, job.latest_us)
        name = f"{chunk.number:06d}-{self._num_blocks:06d}"
        if done.rejected.num_rows:
            _write(job.file("rejected", name), [done.rejected])
            self._rejected.update(done.rejected["reason"].to_pylist())
        if done.frame.height:
            if chunk.table == "events":
                _write(job.file("events", name), _deal(done.frame, job.num_partitions))
                self._first_us = min(self._first_us, int(done.frame["ts"].min()))
                self._last_us = max(self._last_us, int(done.frame["ts"].max()))
            else:
                _write(job.file(chunk.table, name), [_arrow(done.frame)])
        self._num_blocks += 1
        self._num_read += done.num_read
        self._num_kept += done.frame.height
        self._num_lines += block.num_lines

    def result(self) -> Read:
        """The figures of all blocks together."""
        return Read(
            self._chunk.number,
            self._num_read,
            self._num_kept,
            dict(self._rejected),
            self._num_lines,
            self._first_us,
            self._last_us,
        )


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    """One record batch a table, so that a reader can take the one that it needs.

    Not compressed: lz4 halves the bytes, and takes a tenth of the time of the whole preparation.
    """
    writer = None
    for table in tables:
        if writer is None:
            writer = ipc.new_file(str(path), table.schema)
        batches = table.combine_chunks().to_batches()
        writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))
    if writer is not None:
        writer.close()


def _deal(frame: pl.DataFrame, num_partitions: int) -> Iterator[pa.Table]:
    """The rows of every partition, one table each, the order of rows kept."""
    part = (frame["user_id"].hash(seed=0) % num_partitions).to_numpy().astype(np.uint16)
    order = np.argsort(part, kind="stable")  # a radix sort
    table = _arrow(frame).take(pa.array(order)).combine_chunks()
    bounds = np.searchsorted(part[order], np.arange(num_partitions + 1))
    for first, last in pairwise(bounds):
        yield table.slice(int(first), int(last - first))


def _batch(path: Path, number: int) -> pa.RecordBatch:
    with pa.OSFile(str(path)) as handle:
        return ipc.open_file(handle).get_batch(number)


def _table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as handle:
        return ipc.open_file(handle).read_all()


def _frame(job: Job, kind: str) -> pl.DataFrame:
    tables = [_table(path) for path in job.staged(kind)]
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))) if tables else pl.DataFrame()


def clean_partition(job: Job, partition: int) -> Cleaned:
    """Orders and cleans all events of the partition's users, for k-core to go on with."""
    events, cleaned = _clean(job, partition)
    _write(job.file("clean", f"{partition:06d}"), [_arrow(clean.as_text(events))])
    return cleaned


def clean_and_split_partition(job: Job, partition: int) -> tuple[Cleaned, facts.Facts]:
    """`clean_partition` and `split_partition` in one go, where nothing comes between them."""
    events, cleaned = _clean(job, partition)
    return cleaned, _split(job, partition, events)


def _clean(job: Job, partition: int) -> tuple[pl.DataFrame, Cleaned]:
    batches = [_batch(path, partition) for path in job.staged("events")]
    if batches:
        events = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches).combine_chunks()))
    else:
        events = pl.DataFrame(schema=EVENT_COLUMNS)
    kept, dropped = clean.clean(clean.in_order(events), job.config.prepare, job.plan.has_time)
    _quarantine(job, f"clean-{partition:06d}", dropped)
    return kept, Cleaned(kept.height, {drop.reason.value: drop.frame.height for drop in dropped})


def _quarantine(job: Job, name: str, dropped: list[clean.Dropped]) -> None:
    """Rows that were canonical already are kept as JSON of their fields."""
    tables = []
    for drop in dropped:
        fields = [name for name in EVENT_COLUMNS if name != "origin"]
        raw = clean.as_text(drop.frame).select("origin", raw=pl.struct(fields).struct.json_encode())
        tables.append(_arrow(raw.with_columns(reason=pl.lit(drop.reason.value))).cast(QUARANTINE))
    if tables:
        _write(job.file("rejected", name), [pa.concat_tables(tables)])


def count_items(job: Job, partition: int) -> list[str]:
    """k-core: counts the partition's events an item into the staging folder."""
    events = _clean_frame(job, partition)
    counts = events.filter(pl.col("item_id").is_not_null()).group_by("item_id").len()
    _write(job.file("core", f"{partition:06d}"), [_arrow(counts)])
    return []


def core_partition(job: Job, partition: int, round_number: int) -> Cleaned:
    """One round of k-core: drops events on rare items, then users left with too few."""
    cfg = job.config.prepare
    counts = _frame(job, "core").group_by("item_id").agg(pl.col("len").sum())
    rare_items = counts.filter(pl.col("len") < cfg.min_item_events)["item_id"]
    events = _clean_frame(job, partition)
    masks = clean.rare(events, cfg, rare_items)
    dropped = [clean.Dropped(reason, events.filter(mask)) for reason, mask in masks if mask.any()]
    gone = np.logical_or.reduce([mask for _, mask in masks])
    _quarantine(job, f"core-{round_number:03d}-{partition:06d}", dropped)
    if dropped:
        _write(job.file("clean", f"{partition:06d}"), [_arrow(events.filter(~gone))])
    return Cleaned(int((~gone).sum()), {drop.reason.value: drop.frame.height for drop in dropped})


def _clean_frame(job: Job, partition: int) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(_table(job.file("clean", f"{partition:06d}"))))


def split_partition(job: Job, partition: int) -> facts.Facts:
    """Splits the partition's events and counts items, queries and product fields by part."""
    return _split(job, partition, _clean_frame(job, partition))


def _split(job: Job, partition: int, events: pl.DataFrame) -> facts.Facts:
    engaged = events["event"].is_in(_ITEM_CODES)
    if job.config.prepare.split.kind == "leave_one_out":
        parts = split.leave_one_out(events["user"].to_numpy(), engaged.to_numpy())
    else:
        parts = split.global_time(events["ts"].to_numpy(), *job.windows)
    events = events.with_columns(split=pl.Series(parts, dtype=pl.Int8), engaged=engaged)
    name = f"{partition:06d}"
    with_item, with_query = events.filter(pl.col("item_id").is_not_null()), events.filter(pl.col("query").is_not_null())
    items = with_item.group_by("item_id").agg(**_parts(pl.col("engaged")))
    queries = with_query.group_by("query").agg(**_parts())
    _write(job.file("items_of_events", name), [_arrow(clean.as_text(items))])
    _write(job.file("queries", name), [_arrow(clean.as_text(queries))])
    fields = _fields(events)
    if fields is not None:
        _write(job.file("fields", name), [_arrow(clean.as_text(fields))])
    _write(job.file("split", name), [_encoded(events)])
    return facts.of(events)


def _fields(events: pl.DataFrame) -> pl.DataFrame | None:
    """Counts of every value of product fields that event (or judgment) rows carry."""
    carried = [name for name in events.columns if name.startswith("item:")]
    train = (pl.col("split") == int(Split.TRAIN)).sum()
    tables = [
        events.filter(pl.col("item_id").is_not_null() & pl.col(name).is_not_null())
        .group_by("item_id", value=pl.col(name))
        .agg(train=train, total=pl.len())
        .select("item_id", "value", "train", "total", field=pl.lit(name.removeprefix("item:")))
        for name in carried
    ]
    return pl.concat(tables) if tables else None


def _encoded(events: pl.DataFrame) -> pa.Table:
    """Strings as dictionaries: the next step looks up each distinct one once."""
    table = _arrow(events.select("user_id", "item_id", "query", "event", "ts", "value", "split", "session"))
    for name in ("user_id", "item_id", "query"):
        column = table[name].cast(pa.dictionary(pa.int32(), pa.string()))
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def build_vocabulary(job: Job) -> dict[str, Any]:
    """Writes items, queries and judgments, the text analyser and the tokenizer; returns sizes and counts."""
    config, out = job.config, Path(job.config.data_dir)
    judged = _judged(job)
    rows, again = vocab.catalogue(_catalogue_rows(job))
    if again.height:
        _quarantine_items(job, again)
    item_counts = _item_counts(job, judged)
    query_counts = _query_counts(job, judged)
    items, num_trained, num_categories, num_brands = vocab.build_items(
        rows, item_counts.select("item_id", "train"), _field_counts(job, judged), config.prepare.num_price_buckets
    )
    queries = vocab.build_queries(query_counts)
    pq.write_table(items, out / "items.parquet")
    pq.write_table(queries, out / "queries.parquet")
    if judged.height:
        table = _arrow(judged.select(*schema.JUDGMENTS.names, "split"))
        pq.write_table(table.cast(schema.JUDGMENTS.append(pa.field("split", pa.int8()))), out / "judgments.parquet")
    analyser = Analyser.of_catalogue(config.text, items, training_queries(queries))
    analyser.save(out / ANALYSER_FILE)
    tokenizer = vocab.build_tokenizer(items, queries, config) if config.text.encoder != "none" else None
    if tokenizer is not None:
        tokenizer.save(str(out / "tokenizer.json"))
    return {
        "num_items": items.num_rows,
        "num_trained_items": num_trained,
        "num_queries": queries.num_rows,
        "num_categories": num_categories,
        "num_brands": num_brands,
        "num_price_buckets": pc.max(items["price_bucket"]).as_py() or 0,
        "num_titled_items": pc.sum(pc.not_equal(items["text"], "")).as_py() or 0,
        "num_repeated_items": again.height,
        "judgments": facts.by_split(judged["split"]) if judged.height else {},
        **_unknown(item_counts, "test_items", "cold_test_items"),
        **_unknown(query_counts, "test_queries", "unseen_test_queries"),
        **_popularity(items["train_count"].to_numpy()[:num_trained]),
    }


def _item_counts(job: Job, judged: pl.DataFrame) -> pl.DataFrame:
    """Events of every item; judged items are items too, but a judgment is no event."""
    counts = _merged(job, "items_of_events", "item_id")
    if judged.height:
        names = judged.select(pl.col("item_id").unique(maintain_order=True), **dict.fromkeys(_COUNTS, pl.lit(0)))
        counts = pl.concat([counts, names.cast(dict(counts.schema))])
    return counts.group_by("item_id").agg(pl.col(*_COUNTS).sum())


def _query_counts(job: Job, judged: pl.DataFrame) -> pl.DataFrame:
    counts = _merged(job, "queries", "query")
    if judged.height:
        of_judgments = judged.group_by("query").agg(**_parts())
        counts = pl.concat([counts, of_judgments.select("query", *_COUNTS).cast(dict(counts.schema))])
    return counts.group_by("query").agg(pl.col(*_COUNTS).sum())


def _field_counts(job: Job, judged: pl.DataFrame) -> pl.DataFrame:
    frames = [_frame(job, "fields"), _fields(judged) if judged.height else None]
    counts = pl.concat([_NO_FIELDS, *[frame for frame in frames if frame is not None and frame.height]])
    return counts.group_by("item_id", "field", "value").agg(pl.col("train", "total").sum())


def _parts(engaged: pl.Expr | None = None) -> dict[str, pl.Expr]:
    """Rows in training (of those that count), in all, and in test."""
    train = pl.col("split") == int(Split.TRAIN)
    return {
        "train": (train if engaged is None else train & engaged).sum(),
        "total": pl.len(),
        "test": (pl.col("split") == int(Split.TEST)).sum(),
    }


def _unknown(counts: pl.DataFrame, of_test: str, unknown: str) -> dict[str, int]:
    tested = counts.filter(pl.col("test") > 0)
    return {f"num_{of_test}": tested.height, f"num_{unknown}": tested.filter(pl.col("train") == 0).height}


def _popularity(train_counts: Any) -> dict[str, list[int]]:
    """Training events by rank of the item, at no more than 200 ranks."""
    if not len(train_counts):
        return {"popularity_rank": [], "popularity": []}
    ranks = np.unique(np.geomspace(1, len(train_counts), 200).astype(int))
    return {"popularity_rank": ranks.tolist(), "popularity": train_counts[ranks - 1].tolist()}


_COUNTS = {"train": pl.UInt32(), "total": pl.UInt32(), "test": pl.UInt32()}
_NO_FIELDS = pl.DataFrame(
    schema={"item_id": pl.String, "value": pl.String, "train": pl.UInt32, "total": pl.UInt32, "field": pl.String}
)


def _merged(job: Job, kind: str, key: str) -> pl.DataFrame:
    frame = _frame(job, kind)
    if not frame.width:
        return pl.DataFrame(schema={key: pl.String(), **_COUNTS})
    return frame.group_by(key).agg(pl.col(*_COUNTS).sum())


def _catalogue_rows(job: Job) -> pl.DataFrame:
    rows = _frame(job, "items")
    if rows.width:
        return rows
    pair = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    kinds = {"category": pl.List(pl.String), "price": pl.Float32, "available": pl.Boolean, "attributes": pair}
    return pl.DataFrame(schema={name: kinds.get(name, pl.String) for name in schema.ITEMS.names} | {"origin": pl.Int64})


def _quarantine_items(job: Job, again: pl.DataFrame) -> None:
    raw = again.select("origin", raw=pl.struct(schema.ITEMS.names).struct.json_encode())
    raw = raw.with_columns(reason=pl.lit(schema.Reason.DUPLICATE.value))
    _write(job.file("rejected", "items"), [_arrow(raw).cast(QUARANTINE)])


def _judged(job: Job) -> pl.DataFrame:
    """All judgments with their `split`; no rows without judgments."""
    rows = _frame(job, "judgments")
    if not rows.height:
        return rows
    distinct = rows["query"].unique(maintain_order=True)
    parts = split.by_query(distinct.to_list(), job.config.prepare.split.judgments_test_frac)
    of_query = pl.DataFrame({"query": distinct, "split": pl.Series(parts, dtype=pl.Int8)})
    return rows.join(of_query, on="query", how="left", maintain_order="left")


def write_sequences(job: Job, partition: int) -> int:
    """Writes the partition's histories in dense indices; returns the number of users."""
    out = Path(job.config.data_dir)
    item_ids = pq.read_table(out / "items.parquet", columns=["item_id"])["item_id"].combine_chunks()
    queries = pq.read_table(out / "queries.parquet", columns=["query"])["query"].combine_chunks()
    table = sequences.to_sequences(_table(job.file("split", f"{partition:06d}")), item_ids, queries)
    if table.num_rows:
        (out / "sequences").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, out / "sequences" / f"part-{partition:05d}.parquet", compression="zstd")
    return int(table.num_rows)


def write_rejected(job: Job, names: list[str], part: int, first_rows: dict[int, int]) -> dict[str, int]:
    """Turns quarantined rows into schema.REJECTED with row numbers of the whole file.

    Args:
        job: the job.
        names: staging files.
        part: number of the Parquet file to write.
        first_rows: chunk number = rows of its file before it.
    """
    table = pa.concat_tables([_table(Path(name)) for name in names])
    origin = table["origin"].to_numpy()
    chunk, row = origin >> ORIGIN_SHIFT, origin & _ROW_MASK
    before = np.array([first_rows.get(number, 0) for number in range(len(job.plan.chunks))], dtype=np.int64)
    paths = pa.array([chunk.path or f"sql {chunk.table} {chunk.source}" for chunk in job.plan.chunks], pa.string())
    out = Path(job.config.data_dir) / "rejected"
    out.mkdir(parents=True, exist_ok=True)
    rows = pa.table(
        {
            "source": paths.take(pa.array(chunk)),
            "row": row + before[chunk],
            "raw": table["raw"],
            "reason": table["reason"],
        },
        schema=schema.REJECTED,
    )
    pq.write_table(rows, out / f"part-{part:05d}.parquet", compression="zstd")
    return {item["values"]: item["counts"] for item in pc.value_counts(rows["reason"].combine_chunks()).to_pylist()}


def first_rows(plan: Plan, reads: Iterable[Read]) -> dict[int, int]:
    """Rows that a chunk's file has before it."""
    num_lines = {read.chunk: read.num_lines for read in reads}
    before: dict[int, int] = {}
    running: Counter[tuple[str, str]] = Counter()
    for chunk in plan.chunks:
        before[chunk.number] = running[chunk.table, chunk.path]
        running[chunk.table, chunk.path] += num_lines.get(chunk.number, 0)
    return before
