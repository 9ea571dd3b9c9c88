"""Reading of a chunk: canonical rows, rejected rows with their reasons, and the chunk's figures.

Events travel as flat rows (`event_rows`), for they are exchanged by user; the other tables as parcels. Among the
rows of events, `reason` says what each is:

    0            an event
    1 + index    a rejected row: index into schema.Reason, its raw text in `query`
    -1           the figures of a chunk (`ChunkFigures`) as JSON in `query`

Rejected rows and figures get a made-up `user_id`, one per block, which spreads them over the partitions.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from txrec.data.formats.blocks import Block, block_of
from txrec.data.preparation import parcels
from txrec.data.preparation.job import Job
from txrec.data.sources import chunk_reading, sources, sql
from txrec.data.sources.canonical import EVENT_COLUMNS, QUARANTINE, Canonical, canonical
from txrec.data.sources.remarks import Remarks
from txrec.data.sources.sources import Chunk
from txrec.schema import Reason

SQL_ROWS = 100_000
EVENT, FIGURES = 0, -1
REASONS = [reason.value for reason in Reason]
_TYPES = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Int8: pa.int8(), pl.Float32: pa.float32()}


@dataclass
class ChunkFigures:
    """Rows of a chunk: read, kept, rejected by reason, and the span of their times."""

    chunk: int
    num_read: int = 0
    num_kept: int = 0
    num_lines: int = 0
    """Rows of the file that the chunk covers: later chunks of the file count on from here."""
    rejected: dict[str, int] = field(default_factory=dict)
    first_us: int = 2**62
    last_us: int = 0
    matches: dict[str, int] = field(default_factory=dict)
    """Declared column, word or rule = rows that it matched."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Words of availability that say neither yes nor no = rows."""
    open_numbers: dict[str, int] = field(default_factory=dict)
    """Numbers that can be read in two ways, and those that settle it."""
    notes: dict[str, int] = field(default_factory=dict)
    """Message on values or files = rows, as of `Remarks`."""
    note_examples: dict[str, str] = field(default_factory=dict)

    def add(self, block: Block, done: Canonical) -> None:
        """Counts one block."""
        self.num_read += done.num_read
        self.num_kept += done.frame.height
        self.num_lines += block.num_lines
        self.rejected = dict(Counter(self.rejected) + Counter(done.rejected["reason"].to_pylist()))
        Remarks.add_counts(self, done.remarks)
        if "ts" in done.frame.columns and done.frame.height:
            self.first_us = min(self.first_us, done.frame.select(pl.col("ts").min()).item())
            self.last_us = max(self.last_us, done.frame.select(pl.col("ts").max()).item())


def event_schema(job: Job) -> pa.Schema:
    """Columns of the rows that `event_rows` yields, the same for every chunk."""
    names = [(name, _TYPES[type(EVENT_COLUMNS[name])]) for name in job.event_columns]
    carried = [(name, pa.string()) for name in job.carried_columns]
    return pa.schema([*names, *carried, ("reason", pa.int8())])


def event_rows(job: Job, chunk: Chunk) -> Iterator[pa.Table]:
    """Reads a chunk of events.

    Returns:
        Tables of `event_schema`: events and rejected rows of every block, then one row of figures.

    Raises:
        DataError: a damaged file.
    """
    schema, counted = event_schema(job), ChunkFigures(chunk.number)
    for number, (block, done) in enumerate(_blocks(job, chunk)):
        counted.add(block, done)
        if done.frame.height:
            yield _events(done.frame, schema)
        if done.rejected.num_rows:
            codes = pc.add(pc.index_in(done.rejected["reason"], value_set=pa.array(REASONS)), 1)
            yield _others(schema, f"\0{chunk.number}-{number}", codes, done.rejected["raw"], done.rejected["origin"])
    text = json.dumps(asdict(counted))
    yield _others(schema, f"\0{chunk.number}", pa.array([FIGURES]), pa.array([text]), pa.array([0], pa.int64()))


def _events(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    names = [name for name in schema.names if name != "reason"]
    table = frame.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
    reason = pa.array(np.full(frame.height, EVENT, np.int8))
    return table.append_column("reason", reason).cast(schema)


def _others(schema: pa.Schema, user: str, reason: pa.Array, text: pa.Array, origin: pa.Array) -> pa.Table:
    filled = {"user_id": pa.repeat(user, len(text)), "reason": reason, "query": text, "origin": origin}
    columns = [
        filled[column.name].cast(column.type) if column.name in filled else pa.nulls(len(text), column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def other_parcels(job: Job, chunk: Chunk) -> Iterator[pa.Table]:
    """Reads a chunk of another table into parcels: `items`, `judgments` or `users`, `rejected`, `figures:chunk`.

    Raises:
        DataError: a damaged file.
    """
    counted = ChunkFigures(chunk.number)
    for block, done in _blocks(job, chunk):
        counted.add(block, done)
        if done.frame.height:
            table = done.frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            yield parcels.pack(chunk.table, table["origin"][0].as_py(), table)
        if done.rejected.num_rows:
            yield parcels.pack("rejected", pc.min(done.rejected["origin"]).as_py(), done.rejected)
    yield parcels.pack_figures("chunk", asdict(counted))


def _blocks(job: Job, chunk: Chunk) -> Iterator[tuple[Block, Canonical]]:
    data = job.config.data
    statement = sources.sources_of(data, chunk.table)[chunk.source].sql
    blocks = chunk_reading.read(data, chunk) if chunk.path else sql_blocks(statement, job.addresses[chunk.number])
    for block in blocks:
        yield block, canonical(data, chunk, block, job.plan.has_time, job.latest_us)


def sql_blocks(statement: str, address: str) -> Iterator[Block]:
    """The rows of one statement in their order; a single task reads them, for only so are they numbered."""
    done = 0
    with closing(sql.connect(address)) as connection:
        for frame in pl.read_database(statement, connection, iter_batches=True, batch_size=SQL_ROWS):
            yield block_of(frame, done)
            done += frame.height


@dataclass(frozen=True, eq=False)
class EventRows:
    """Rows of one partition of users, separated by table."""

    events: pa.Table
    """Events in the order of the input."""
    rejected: pa.Table
    """canonical.QUARANTINE."""
    figures: list[ChunkFigures]


def sort_out(rows: pa.Table) -> EventRows:
    """Tells the rows of `event_rows` apart and restores the order of the input.

    An exchange keeps the order of rows within a block and no order of blocks. So the rows are few ascending runs,
    which are put in order as wholes.
    """
    origin, reason = np.asarray(rows["origin"]), np.asarray(rows["reason"])
    bounds = np.flatnonzero((origin[1:] < origin[:-1]) | (reason[1:] != reason[:-1])) + 1
    starts = np.append(0, bounds)[: rows.num_rows]
    lengths = np.diff(np.append(starts, rows.num_rows))
    kind = reason[starts]
    events = _in_order(rows, [run for run in range(len(starts)) if kind[run] == EVENT], starts, lengths)
    lost = rows.filter(pc.greater(rows["reason"], EVENT)) if (kind > EVENT).any() else rows.slice(0, 0)
    codes = pc.subtract(lost["reason"].cast(pa.int32()), 1)
    rejected = pa.table(
        [lost["origin"], lost["query"].cast(pa.string()), pa.array(REASONS).take(codes.combine_chunks())],
        schema=QUARANTINE,
    ).sort_by("origin")
    texts = rows.filter(pc.equal(rows["reason"], FIGURES))["query"].to_pylist() if (kind == FIGURES).any() else []
    return EventRows(events, rejected, [ChunkFigures(**json.loads(text)) for text in texts])


def _in_order(rows: pa.Table, runs: list[int], starts: np.ndarray, lengths: np.ndarray) -> pa.Table:
    origin = np.asarray(rows["origin"])
    ordered = sorted(runs, key=lambda run: int(origin[starts[run]]))
    table = pa.concat_tables([rows.slice(0, 0), *[rows.slice(int(starts[run]), int(lengths[run])) for run in ordered]])
    table = table.drop_columns("reason")
    place = np.asarray(table["origin"])
    return table if (place[1:] > place[:-1]).all() else table.take(pa.array(np.argsort(place, kind="stable")))
