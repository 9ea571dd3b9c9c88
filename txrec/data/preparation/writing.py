"""Sequences and rejected rows of a preparation as Parquet files, named after the first row of the input in each.

Names and contents follow from the input alone: a part that is written twice, by a task that was started again, is the
same file.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from txrec import object_storage, schema
from txrec.data import profiles
from txrec.data.preparation import known_ids, parcels, sequences
from txrec.data.preparation.canonical_reading import ChunkFigures
from txrec.data.preparation.histories import parts_of
from txrec.data.preparation.job import Job
from txrec.data.sources.canonical import ORIGIN_SHIFT
from txrec.data.sources.sources import Plan
from txrec.storage import replace_file

_ROW_MASK = (1 << ORIGIN_SHIFT) - 1


@dataclass(frozen=True, eq=False)
class Indices:
    """The values that have dense indices, row i having index i + 1."""

    item_ids: pa.Array
    queries: pa.Array
    users: pa.Array
    """Users of the users table; they have no indices."""

    @classmethod
    def of(cls, folder: Path) -> "Indices":
        """Reads them from the tables of a prepared data set."""
        items = pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"]
        queries = pq.read_table(folder / "queries.parquet", columns=["query"])["query"]
        described = folder / profiles.FILE
        users = pq.read_table(described, columns=["user_id"])["user_id"].combine_chunks() if described.is_file() else []
        return cls(items.combine_chunks(), queries.combine_chunks(), pa.array(users, pa.string()))


def write_partition(job: Job, indices: Indices, made: pa.Table) -> pa.Table:
    """Writes the histories of every partition in dense indices.

    Returns:
        Parcels `figures:sequences` = {"users", "events"}, with a users table also `figures:overlap`
        (`known_ids.Overlap`).
    """
    folder = Path(job.config.data_dir) / "sequences"
    figures = []
    for number, events in parcels.tables(made, "events"):
        split_events = events.append_column("split", pa.array(parts_of(job, events)))
        table = sequences.to_sequences(split_events, indices.item_ids, indices.queries)
        folder.mkdir(parents=True, exist_ok=True)
        _write(table, folder / f"{_name(number)}.parquet")
        figures.append(parcels.pack_figures("sequences", {"users": table.num_rows, "events": events.num_rows}))
        if len(indices.users):
            known = known_ids.overlap("users", pl.Series(table["user_id"]), pl.Series(indices.users))
            figures.append(parcels.pack_figures("overlap", asdict(known)))
    return parcels.together(figures)


def write_rejected(job: Job, first_rows: dict[int, int], made: pa.Table) -> pa.Table:
    """Writes rejected rows as schema.REJECTED, with their row numbers in the whole file.

    Args:
        job: the preparation.
        first_rows: of every chunk, the rows of its file before it.
        made: parcels.

    Returns:
        Parcels `figures:quarantine` = rows by reason.
    """
    folder = Path(job.config.data_dir) / "rejected"
    figures = []
    for number, table in parcels.tables(made, "rejected"):
        folder.mkdir(parents=True, exist_ok=True)
        rows = _numbered(job.plan, first_rows, table.sort_by("origin"))
        _write(rows, folder / f"{_name(number)}.parquet")
        counts = pc.value_counts(rows["reason"].combine_chunks()).to_pylist()
        figures.append(parcels.pack_figures("quarantine", {entry["values"]: entry["counts"] for entry in counts}))
    return parcels.together(figures)


def _numbered(plan: Plan, first_rows: dict[int, int], table: pa.Table) -> pa.Table:
    origin = table["origin"].to_numpy()
    chunk, row = origin >> ORIGIN_SHIFT, origin & _ROW_MASK
    before = np.array([first_rows.get(number, 0) for number in range(len(plan.chunks))], dtype=np.int64)
    paths = pa.array([part.path or f"sql {part.table} {part.source}" for part in plan.chunks], pa.string())
    columns = {
        "source": paths.take(pa.array(chunk)),
        "row": row + before[chunk],
        "raw": table["raw"],
        "reason": table["reason"],
    }
    return pa.table(columns, schema=schema.REJECTED)


def first_rows(plan: Plan, figures: Iterable[ChunkFigures]) -> dict[int, int]:
    """Rows of its file before every chunk."""
    num_lines = {one.chunk: one.num_lines for one in figures}
    before: dict[int, int] = {}
    running: Counter[tuple[str, str]] = Counter()
    for chunk in plan.chunks:
        before[chunk.number] = running[chunk.table, chunk.path]
        running[chunk.table, chunk.path] += num_lines.get(chunk.number, 0)
    return before


def _name(origin: int) -> str:
    """Order of parts by their first row: chunk, then row."""
    return f"part-{origin >> ORIGIN_SHIFT:06d}-{origin & _ROW_MASK:010d}"


def _write(table: pa.Table, path: Path) -> None:
    with replace_file(path) as fresh:
        pq.write_table(table, fresh, compression="zstd")
    object_storage.share(path)
