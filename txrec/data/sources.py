"""The declared sources: which files they are, whether their columns are there, how they are cut, how a cut is read.

Everything that can be known to be wrong is known before any work: a missing file, a missing column, an empty source.
A chunk is one unit of reading, small enough to parse at once and independent of every other chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from txrec import schema
from txrec.config import DataConfig, JoinConfig, SourceConfig, fingerprint
from txrec.data import files, sql, values
from txrec.data.json_lines import parse_json, parse_json_map, records
from txrec.data.parse import Lines, Parsed, column_names, join_lines, parse_delimited, parse_sequence_text
from txrec.data.probe import FileLayout, late_keys, probe
from txrec.errors import DataError
from txrec.schema import Reason

Table = Literal["events", "items", "judgments"]
TABLES: tuple[Table, ...] = ("events", "items", "judgments")
CANONICAL: dict[Table, pa.Schema] = {
    "events": schema.EVENTS,
    "items": schema.ITEMS,
    "judgments": schema.JUDGMENTS,
}
_REQUIRED: dict[Table, tuple[str, ...]] = {
    "events": ("user_id", "event"),
    "items": ("item_id",),
    "judgments": ("query", "item_id", "grade"),
}
_SQL_ROW_BYTES = 100
_BLOCK_ROWS = 1 << 19  # of a Parquet file
_MOST_GROUP_ROWS = 1 << 21
_PACKING = 6
"""About how many bytes of text a byte of Parquet holds."""


@dataclass(frozen=True)
class Chunk:
    """A part of a source that is read in one go."""

    number: int
    """Position in the order of all chunks: the order of rows with equal times."""
    table: Table
    source: int
    """Index into the table's configured sources."""
    path: str
    columns: tuple[str, ...]
    """All columns of the file, in order."""
    start: int = 0
    """First byte of a plain text file's range; first row group of a Parquet file."""
    end: int | None = None
    """End of the range; None = all of the file."""
    num_skipped: int = 0
    """Lines of a text file before its first row."""
    delimiter: str = ""
    """csv: between columns."""
    is_stream: bool = False
    """JSON: whether records do not stand on lines of their own."""
    num_folder_columns: int = 0
    """How many columns at the end of `columns` come from the names of folders."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows read at once: raw columns, and what could not be read."""

    frame: pl.DataFrame
    row: NDArray[np.int64]
    """(N,) 1-based row within the chunk."""
    raw: Callable[[Sequence[int]], list[str]]
    """Raw text of rows of `frame`, by index."""
    bad_row: list[int]
    bad_raw: list[str]
    bad_reason: list[str]
    num_lines: int
    """Rows of the chunk that this block covers; they count on in the next block."""


@dataclass(frozen=True)
class Plan:
    """Everything that will be read."""

    chunks: tuple[Chunk, ...]
    num_event_bytes: int
    """Guess of the text of all event files, for the number of partitions."""
    has_time: bool
    """Whether events carry times."""
    empty_files: tuple[str, ...]
    """Files of no byte beside others that have some."""


def sources_of(data: DataConfig, table: Table) -> tuple[SourceConfig, ...]:
    """The configured sources of a table."""
    return {"events": data.events, "items": data.items, "judgments": data.judgments}[table]


def plan(data: DataConfig) -> Plan:
    """Finds and probes every file and cuts it into chunks; nothing is read in full.

    Raises:
        DataError: no source, a missing or empty file, a column that is not there (lists those that are).
    """
    if not any(sources_of(data, table) for table in TABLES):
        raise DataError("no source is configured; declare [[data.events]], [[data.items]] or [[data.judgments]]")
    chunks: list[Chunk] = []
    empty: list[str] = []
    num_event_bytes = 0
    for table in TABLES:
        for index, source in enumerate(sources_of(data, table)):
            for file, layout, cuts in _cut_source(data, table, index, empty):
                first = len(chunks)
                place = (layout.num_skipped, layout.delimiter, layout.is_stream, layout.num_folder_columns)
                chunks += [
                    Chunk(first + i, table, index, file.path, layout.columns, start, end, *place)
                    for i, (start, end) in enumerate(cuts)
                ]
                if table == "events":
                    num_event_bytes += _PACKING * file.size if source.format == "parquet" else file.num_text_bytes
            if source.sql:
                columns = tuple(sql.columns(source))
                _check_columns(data, table, source, columns, "the statement")
                chunks.append(Chunk(len(chunks), table, index, "", columns))
                num_event_bytes += _SQL_ROW_BYTES * sql.num_rows(source) if table == "events" else 0
    return Plan(tuple(chunks), num_event_bytes, _has_time(data, chunks), tuple(empty))


_Cut = tuple[int, int | None]


def _cut_source(
    data: DataConfig, table: Table, index: int, empty: list[str]
) -> Iterator[tuple[files.File, FileLayout, list[_Cut]]]:
    source = sources_of(data, table)[index]
    if source.sql:
        return
    found = files.find(data.root, source.path)
    for join in source.join:
        files.find(data.root, join.path)
    if all(file.size == 0 for file in found):
        raise DataError(f"{found[0].path}: the file is empty; expected rows of {table}")
    empty += [file.path for file in found if file.size == 0]
    layouts = [(file, _with_folders(file, _probed(data, table, source, file))) for file in found if file.size]
    everywhere = tuple(dict.fromkeys(name for _, layout in layouts for name in layout.columns))
    where = layouts[0][0].path if len(layouts) == 1 else f"{source.path} ({len(layouts)} files)"
    _check_columns(data, table, source, everywhere, where)
    for file, layout in layouts:
        yield file, layout, _cuts(file, source, layout)


def _with_folders(file: files.File, layout: FileLayout) -> FileLayout:
    named = [name for name in files.folder_columns(file.path) if name not in layout.columns]
    return replace(layout, columns=(*layout.columns, *named), num_folder_columns=len(named))


def _probed(data: DataConfig, table: Table, source: SourceConfig, file: files.File) -> FileLayout:
    layout = probe(file, source)
    if source.format != "jsonl":
        return layout
    joined = {name for join in source.join for name in _join_columns(data, join)}
    missing = [name for name in _needed(data, table, source) if name not in layout.columns and name not in joined]
    return replace(layout, columns=(*layout.columns, *late_keys(file, source, missing)))


def _cuts(file: files.File, source: SourceConfig, layout: FileLayout) -> list[_Cut]:
    if source.format == "parquet":
        with files.open_random(file.path) as handle:
            return [(group, group + 1) for group in range(pq.ParquetFile(handle).num_row_groups)]
    wide = source.encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32"))
    if file.packed or source.format == "json_map" or source.multiline or wide or layout.is_stream:
        return [(0, None)]
    starts = range(0, file.size, files.RANGE_BYTES)
    return [(start, min(start + files.RANGE_BYTES, file.size)) for start in starts]


def mapping(source: SourceConfig, table: Table, columns: Sequence[str]) -> dict[str, str]:
    """Canonical column = source column, for one file's columns (joined ones included)."""
    same = {name: name for name in CANONICAL[table].names if name in columns}
    named = same | source.columns
    return {canonical: name for canonical, name in named.items() if canonical not in source.constants}


def _needed(data: DataConfig, table: Table, source: SourceConfig) -> dict[str, str]:
    """Source column = what it is needed for."""
    need = {name: canonical for canonical, name in source.columns.items()}
    need.update({rule.column: f"the rule {rule.reason}" for rule in source.reject})
    need.update(dict.fromkeys(source.attributes, "attributes"))
    if table != "items":
        need.update({name: f"item {canonical}" for canonical, name in data.items_from_events.items()})
    return need


def _check_columns(data: DataConfig, table: Table, source: SourceConfig, columns: Sequence[str], where: str) -> None:
    unknown = [name for name in {**source.columns, **source.constants} if name not in CANONICAL[table].names]
    if unknown:
        known = ", ".join(CANONICAL[table].names)
        raise DataError(f"{where}: {unknown[0]!r} is no column of {table}; known are {known}")
    joined = [name for join in source.join for name in _join_columns(data, join)]
    there = {*columns, *joined}
    listed = f"columns found: {', '.join([*columns, *joined])}"
    for name, purpose in _needed(data, table, source).items():
        if name not in there:
            raise DataError(f"{where}: no column {name!r} (needed for {purpose}); {listed}")
    for join in source.join:
        if join.on[0] not in there or join.on[1] not in joined:
            raise DataError(f"{where}: cannot join {join.path} on {join.on[0]} = {join.on[1]}; {listed}")
    mapped = {*mapping(source, table, [*there]), *source.constants}
    for name in _REQUIRED[table]:
        if name not in mapped:
            raise DataError(f"{where}: nothing gives {name}, which {table} need; {listed}; set columns.{name}")


def _has_time(data: DataConfig, chunks: Sequence[Chunk]) -> bool:
    timed = {
        "ts" in mapping(data.events[chunk.source], "events", chunk.columns)
        or "ts" in data.events[chunk.source].constants
        for chunk in chunks
        if chunk.table == "events"
    }
    if len(timed) > 1:
        raise DataError("some event sources have times and others have not; give ts a column in all of them or in none")
    return timed == {True}


def wanted_columns(data: DataConfig, chunk: Chunk) -> list[str]:
    """The columns of the chunk's file that anything asks for."""
    source = sources_of(data, chunk.table)[chunk.source]
    asked = {*_needed(data, chunk.table, source), *mapping(source, chunk.table, chunk.columns).values()}
    asked |= {join.on[0] for join in source.join}
    return [name for name in in_file(chunk) if name in asked]


def in_file(chunk: Chunk) -> tuple[str, ...]:
    """The columns of the chunk that stand in its file and not in the names of its folders."""
    return chunk.columns[: len(chunk.columns) - chunk.num_folder_columns]


def read(data: DataConfig, chunk: Chunk) -> Iterator[Block]:
    """Reads a chunk block by block, joined files included.

    Raises:
        DataError: a damaged file.
    """
    source = sources_of(data, chunk.table)[chunk.source]
    reader = {"parquet": _read_parquet, "json_map": _read_json_map}.get(source.format, _read_lines)
    joins = [(join, _join_frame(data, join)) for join in source.join]
    folders = {name: value or None for name, value in files.folder_columns(chunk.path).items()}
    for block in reader(data, chunk, source):
        added = [pl.lit(value, dtype=pl.String).alias(name) for name, value in folders.items()
                 if name in chunk.columns and name not in block.frame.columns]  # fmt: skip
        yield _joined(replace(block, frame=block.frame.with_columns(added)) if added else block, joins)


def _read_lines(data: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    wanted = wanted_columns(data, chunk)
    done, member = 0, None
    blocks = files.lines(chunk.path, source.encoding, chunk.start, chunk.end)
    if source.format == "jsonl" and chunk.is_stream:
        blocks = records(blocks)
    if source.format == "csv" and chunk.delimiter:
        source = source.model_copy(update={"delimiter": chunk.delimiter})
    cut = (
        whole_records(blocks, chunk, source)
        if source.multiline
        else ((name, Lines.of(block)) for name, block in blocks)
    )
    for name, found in cut:
        headed = name != member and source.format == "csv" and chunk.start == 0
        lines = found.part(chunk.num_skipped) if headed else found
        if source.comment:
            lines = lines.without(source.comment.encode())
        member = name
        parsed = _parse(lines, chunk, source, wanted)
        bad = sorted(parsed.bad)
        yield Block(
            parsed.frame,
            parsed.line + done + 1,
            _RawLines(lines, parsed.line, source.encoding),
            [index + done + 1 for index in bad],
            lines.texts(bad, source.encoding),
            [parsed.bad[index].value for index in bad],
            len(lines),
        )
        done += len(lines)


def whole_records(
    blocks: Iterator[tuple[str, bytes]], chunk: Chunk, source: SourceConfig
) -> Iterator[tuple[str, Lines]]:
    """Lines that belong together as one; a record that may go on in the next block is held back for it."""
    member, rest = "", b""
    for name, block in blocks:
        if rest and name != member:
            yield member, join_lines(Lines.of(rest), len(in_file(chunk)), source, source.escape)[0]
            rest = b""
        lines, num_whole = join_lines(Lines.of(rest + block), len(in_file(chunk)), source, source.escape)
        rest = lines.block[lines.starts[num_whole] :] if num_whole < len(lines) else b""
        member = name
        yield name, lines.part(0, num_whole)
    if rest:
        yield member, join_lines(Lines.of(rest), len(in_file(chunk)), source, source.escape)[0]


def _parse(lines: Lines, chunk: Chunk, source: SourceConfig, wanted: Sequence[str]) -> Parsed:
    if source.format == "jsonl":
        return parse_json(lines, source.encoding, wanted, source.rows)
    if source.format == "sequence_text":
        return parse_sequence_text(lines)
    return parse_delimited(lines, in_file(chunk), wanted, source, source.quoting, source.escape)


@dataclass(frozen=True, eq=False)
class _RawLines:
    lines: Lines
    line: NDArray[np.int64]
    encoding: str

    def __call__(self, indices: Sequence[int]) -> list[str]:
        return self.lines.texts(self.line[np.asarray(indices, dtype=np.int64)].tolist(), self.encoding)


@dataclass(frozen=True, eq=False)
class _RawFields:
    frame: pl.DataFrame

    def __call__(self, indices: Sequence[int]) -> list[str]:
        rows = self.frame[list(indices)]
        rows = rows.with_columns(_decoded(column) for column in rows if column.dtype == pl.Binary)
        return [str(row) for row in rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()]


def _decoded(column: pl.Series) -> pl.Series:
    r"""Bytes as text, because JSON knows none; what cannot be decoded shows as `\xff`."""
    text = [None if value is None else value.decode(errors="backslashreplace") for value in column]
    return pl.Series(column.name, text, dtype=pl.String)


def block_of(frame: pl.DataFrame, done: int = 0) -> Block:
    """Rows that come as a table already (Parquet, SQL); `done` rows came before them."""
    row = np.arange(done + 1, done + 1 + frame.height)
    return Block(frame, row, _RawFields(frame), [], [], [], frame.height)


def _read_parquet(data: DataConfig, chunk: Chunk, _: SourceConfig) -> Iterator[Block]:
    done = 0
    for frame in _row_group(chunk, wanted_columns(data, chunk)):
        yield block_of(frame, done)
        done += frame.height


def _row_group(chunk: Chunk, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of one row group in blocks; polars reads local files four times as fast as Arrow, but whole groups."""
    with files.open_random(chunk.path) as handle:
        file = pq.ParquetFile(handle)
        tops = file.schema_arrow.names
        outer = list(dict.fromkeys(n if n in tops else n.partition(".")[0] for n in columns))
        num_rows = [file.metadata.row_group(group).num_rows for group in range(chunk.start + 1)]
        if "://" in chunk.path or num_rows[-1] > _MOST_GROUP_ROWS:
            for batch in file.iter_batches(batch_size=_BLOCK_ROWS, row_groups=[chunk.start], columns=outer):
                yield _with_inner(pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch]))), columns)
            return
    rows = pl.scan_parquet(chunk.path, glob=False, hive_partitioning=False).select(outer)
    for frame in rows.slice(sum(num_rows[:-1]), num_rows[-1]).collect().iter_slices(_BLOCK_ROWS):
        yield _with_inner(frame, columns)


def _with_inner(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns; `outer.inner` is a field of a struct column."""
    made = []
    for name in columns:
        outer = next((top for top in frame.columns if name == top or name.startswith(f"{top}.")), name)
        column = frame[outer]
        for field in name[len(outer) + 1 :].split(".") if name != outer else ():
            column = column.struct.field(field)
        made.append(column.alias(name))
    return pl.DataFrame(made) if made else pl.DataFrame(height=frame.height)


def _read_json_map(_: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    content = b"".join(block for _, block in files.lines(chunk.path, source.encoding))
    yield block_of(parse_json_map(content, chunk.path))


def _join_layout(data: DataConfig, join: JoinConfig) -> tuple[files.File, list[str], bytes]:
    (file,) = files.find(data.root, join.path)[:1]
    content = b"".join(block for _, block in files.lines(file.path, join.encoding))
    return file, column_names(content.partition(b"\n")[0], join), content


def _join_columns(data: DataConfig, join: JoinConfig) -> list[str]:
    return _join_layout(data, join)[1]


def _join_frame(data: DataConfig, join: JoinConfig) -> pl.DataFrame:
    """The joined file, one row a key (the first counts)."""
    file, columns, content = _join_layout(data, join)
    lines = Lines.of(content)
    if join.header:
        lines = lines.part(1)
    parsed = parse_delimited(lines, columns, columns, join)
    if parsed.bad:
        index, reason = next(iter(sorted(parsed.bad.items())))
        raise DataError(f"{file.path}: row {index + 1} cannot be joined ({reason.value}): {lines.texts([index])[0]!r}")
    return parsed.frame.unique(subset=[join.on[1]], keep="first", maintain_order=True)


def _joined(block: Block, joins: Sequence[tuple[JoinConfig, pl.DataFrame]]) -> Block:
    """Adds the joined columns; rows that find no match leave the block."""
    for join, table in joins:
        left, right = join.on
        renamed = table.rename({name: f"{name}:joined" for name in table.columns if name in block.frame.columns})
        key = f"{right}:joined" if f"{right}:joined" in renamed.columns else right
        frame = block.frame.with_columns(_join_key(_key_column(block.frame, left)).alias(":left")).join(
            renamed.with_columns(_join_key(renamed[key]).alias(":right")).with_columns(
                pl.lit(value=True).alias(":matched")
            ),
            left_on=":left",
            right_on=":right",
            how="left",
            maintain_order="left",
            coalesce=False,
        )
        lost = np.flatnonzero(frame[":matched"].is_null().to_numpy()) if join.required else np.empty(0, np.int64)
        kept = np.setdiff1d(np.arange(frame.height), lost, assume_unique=True)
        block = Block(
            frame.drop(":matched", ":left", ":right")[kept],
            block.row[kept],
            _Picked(block.raw, kept),
            [*block.bad_row, *block.row[lost].tolist()],
            [*block.bad_raw, *block.raw(lost.tolist())],
            [*block.bad_reason, *[Reason.NO_MATCH_IN_JOIN.value] * len(lost)],
            block.num_lines,
        )
    return block


def _key_column(frame: pl.DataFrame, name: str) -> pl.Series:
    empty = pl.Series(name, [None], dtype=pl.String).new_from_index(0, frame.height)
    return frame[name] if name in frame.columns else empty


def _join_key(column: pl.Series) -> pl.Series:
    """A key as text, so that `1001` of a number column, `1001.0` and `"1001"` meet."""
    return values.whole_ids(column.cast(pl.String).str.strip_chars())


@dataclass(frozen=True, eq=False)
class _Picked:
    raw: Callable[[Sequence[int]], list[str]]
    kept: NDArray[np.int64]

    def __call__(self, indices: Sequence[int]) -> list[str]:
        return self.raw(self.kept[np.asarray(indices, dtype=np.int64)].tolist())


def source_fingerprint(data: DataConfig) -> str:
    """Names the state of all source files: changes when a file appears, goes, or changes in size or time.

    A generated shop follows from its settings alone. A database is asked for its number of rows only.
    """
    if data.shop is not None:
        return fingerprint(data.model_dump(mode="json", exclude={"root"}))
    state: list[Any] = [data.model_dump(mode="json", exclude={"root"})]
    for table in TABLES:
        for source in sources_of(data, table):
            if source.sql:
                state.append(sql.num_rows(source))
                continue
            paths = [source.path, *(join.path for join in source.join)]
            found = [file for path in paths for file in files.find(data.root, path)]
            state.append([(file.path.rpartition("/")[2], file.size, file.changed_ns) for file in found])
    return fingerprint(state)
