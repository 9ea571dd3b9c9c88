"""Declared sources: their files, the checks of their columns, and the chunks that they are cut into.

Every source is checked before any work: a missing file, a missing column, an empty source. A chunk is one unit of
reading, small enough to parse at once and independent of every other chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from txrec import schema
from txrec.config import DataConfig, SourceConfig, fingerprint
from txrec.data.formats import files
from txrec.data.sources import sql
from txrec.data.sources.joins import join_columns, joined_names
from txrec.data.sources.probe import FileLayout, late_keys, probe
from txrec.errors import DataError

Table = Literal["events", "items", "judgments", "users"]

TABLES: tuple[Table, ...] = ("events", "items", "judgments", "users")

CANONICAL: dict[Table, pa.Schema] = {
    "events": schema.EVENTS,
    "items": schema.ITEMS,
    "judgments": schema.JUDGMENTS,
    "users": schema.USERS,
}

_REQUIRED: dict[Table, tuple[str, ...]] = {
    "events": ("user_id", "event"),
    "items": ("item_id",),
    "judgments": ("query", "item_id", "grade"),
    "users": ("user_id",),
}

_GATHERED = {"attributes", "prices", "stock", "properties"}
"""Canonical columns that are made of several columns of a source."""

_KEYS = ("item_id", "user_id")
"""Columns that name the products and the users of long tables."""
_SQL_ROW_BYTES = 100

_PACKING = 6
"""Approximate bytes of text per byte of Parquet."""


@dataclass(frozen=True)
class Chunk:
    """A part of a source, the unit of reading."""

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
    """Columns at the end of `columns` that are not in the file: from the names of folders, and long properties."""
    joined: tuple[str, ...] = ()
    """Columns that its rows take from joined files."""
    parts: tuple["Chunk", ...] = ()
    """Long tables: the chunks of all files of the source, which are read as one."""


@dataclass(frozen=True)
class Plan:
    """All chunks of a preparation."""

    chunks: tuple[Chunk, ...]
    num_event_bytes: int
    """Guess of the text of all event files, for the number of partitions."""
    has_time: bool
    """True where events have times."""
    empty_files: tuple[str, ...]
    """Files without a byte, next to others of the same source that have some."""


def sources_of(data: DataConfig, table: Table) -> tuple[SourceConfig, ...]:
    """The configured sources of a table."""
    return {"events": data.events, "items": data.items, "judgments": data.judgments, "users": data.users}[table]


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
            joined: tuple[str, ...] | None = None
            for file, layout, cuts in _cut_source(data, table, index, empty):
                joined = tuple(_joined_columns(data, source, layout.columns)[0]) if joined is None else joined
                first = len(chunks)  # of this file
                place = (layout.num_skipped, layout.delimiter, layout.is_stream, layout.num_folder_columns)
                chunks += [
                    Chunk(first + i, table, index, file.path, layout.columns, start, end, *place, joined)
                    for i, (start, end) in enumerate(cuts)
                ]
                if table == "events":
                    num_event_bytes += _PACKING * file.size if source.format == "parquet" else file.num_text_bytes
            if source.long is not None:
                own = tuple(one for one in chunks if (one.table, one.source) == (table, index))
                del chunks[own[0].number :]
                columns = tuple(dict.fromkeys(name for one in own for name in one.columns))
                chunks.append(replace(own[0], columns=columns, start=0, end=None, parts=own))
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
    matches = files.find(data.root, source.path)
    for join in source.join:
        files.find(data.root, join.path)
    if all(file.size == 0 for file in matches):
        raise DataError(f"{matches[0].path}: the file is empty; expected rows of {table}")
    empty += [file.path for file in matches if file.size == 0]
    layouts = [(file, _with_folders(file, _probed(data, table, source, file))) for file in matches if file.size]
    if source.long is not None or (source.format != "jsonl" and (source.embedded or source.pairs or source.split)):
        layouts = [(file, _with_added(data, table, source, layout)) for file, layout in layouts]
    everywhere = tuple(dict.fromkeys(name for _, layout in layouts for name in layout.columns))
    where = layouts[0][0].path if len(layouts) == 1 else f"{source.path} ({len(layouts)} files)"
    _check_columns(data, table, source, everywhere, where)
    if source.format == "csv" and source.long is None:
        _check_files(data, table, source, layouts)
    for file, layout in layouts:
        yield file, layout, _cuts(file, source, layout)


def _check_files(
    data: DataConfig, table: Table, source: SourceConfig, layouts: Sequence[tuple[files.File, FileLayout]]
) -> None:
    """Refuses a file of several that has none of the columns that the others have."""
    needed = {*_needed(data, table, source), *CANONICAL[table].names, *(join.on[0] for join in source.join)}
    for file, layout in layouts:
        own = layout.columns[: len(layout.columns) - layout.num_folder_columns]
        if not needed & {*own}:
            raise DataError(
                f"{file.path}: has none of the columns of the other files; columns found: {', '.join(own)[:200]}; "
                "is its delimiter another one? Declare it as a source of its own, or leave it out of path"
            )


def _with_folders(file: files.File, layout: FileLayout) -> FileLayout:
    named = [name for name in files.folder_columns(file.path) if name not in layout.columns]
    return replace(layout, columns=(*layout.columns, *named), num_folder_columns=len(named))


def _with_added(data: DataConfig, table: Table, source: SourceConfig, layout: FileLayout) -> FileLayout:
    added = _added_names(data, table, source, layout.columns)
    return replace(layout, columns=(*layout.columns, *added), num_folder_columns=layout.num_folder_columns + len(added))


def _probed(data: DataConfig, table: Table, source: SourceConfig, file: files.File) -> FileLayout:
    layout = probe(file, source)
    if source.format != "jsonl" or source.long is not None:
        return layout
    joined = {name for join in source.join for name in join_columns(data, join)}
    missing = [name for name in _needed(data, table, source) if name not in layout.columns and name not in joined]
    return replace(layout, columns=(*layout.columns, *late_keys(file, source, missing)))


def _cuts(file: files.File, source: SourceConfig, layout: FileLayout) -> list[_Cut]:
    if source.format == "parquet":
        with files.open_parquet(file.path) as content:
            return [(group, group + 1) for group in range(content.num_row_groups)]
    wide = source.encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32"))
    if file.packed or source.format == "json_map" or source.multiline or wide or layout.is_stream:
        return [(0, None)]
    starts = range(0, file.size, files.RANGE_BYTES)
    return [(start, min(start + files.RANGE_BYTES, file.size)) for start in starts]


def mapping(source: SourceConfig, table: Table, columns: Sequence[str]) -> dict[str, str]:
    """Canonical column = source column, for one file's columns (joined ones included)."""
    unfolded = {*source.embedded, *source.pairs}  # `value` of a message queue is no value of an event
    same = {name: name for name in CANONICAL[table].names if name in columns and name not in unfolded}
    named = same | source.columns
    return {canonical: name for canonical, name in named.items() if canonical not in source.constants}


def _needed(data: DataConfig, table: Table, source: SourceConfig) -> dict[str, str]:
    """Source column = its purpose."""
    need = {name: canonical for canonical, name in source.columns.items()}
    need.update({rule.column: f"the rule {rule.reason}" for rule in source.reject})
    need.update(dict.fromkeys(source.attributes, "attributes"))
    need.update(dict.fromkeys(source.properties, "properties"))
    need.update(dict.fromkeys(source.context, "context"))
    need.update({name: f"prices.{store}" for store, name in source.prices.items()})
    need.update({name: f"stock.{store}" for store, name in source.stock.items()})
    if source.split is not None:
        need[source.split.column] = "split"
    if source.time.clock:
        need[source.time.clock] = "time.clock"
    if table in ("events", "judgments"):
        need.update({name: f"item {canonical}" for canonical, name in data.items_from_events.items()})
    return need


def _check_columns(data: DataConfig, table: Table, source: SourceConfig, columns: Sequence[str], where: str) -> None:
    unknown = [name for name in {**source.columns, **source.constants} if name not in CANONICAL[table].names]
    if unknown:
        known = ", ".join(CANONICAL[table].names)
        raise DataError(f"{where}: {unknown[0]!r} is no column of {table}; known are {known}")
    _check_gathered(source, where)
    _check_long(table, source, columns, where)
    joined, keys = _joined_columns(data, source, columns)
    there = {*columns, *joined}
    listed = f"columns found: {', '.join([*columns, *joined])}"
    for name, purpose in _needed(data, table, source).items():
        if name not in there:
            raise DataError(f"{where}: no column {name!r} (needed for {purpose}); {listed}")
    for name in source.rows if source.format == "parquet" else ():
        if name not in columns:
            raise DataError(f"{where}: no list {name!r} (named in rows); {listed}")
    for join in source.join:
        if join.on[0] not in there or join.on[1] not in keys:
            raise DataError(f"{where}: cannot join {join.path} on {join.on[0]} = {join.on[1]}; {listed}")
    mapped = {*mapping(source, table, [*there]), *source.constants}
    for name in _REQUIRED[table]:
        if name not in mapped:
            raise DataError(f"{where}: nothing gives {name}, which {table} need; {listed}; set columns.{name}")


def _check_long(table: Table, source: SourceConfig, columns: Sequence[str], where: str) -> None:
    long = source.long
    if long is None:
        return
    if table not in ("items", "users"):
        raise DataError(f"{where}: long is for items and users, found for {table}; pivot the file before")
    for name in filter(None, (long.property, long.value, long.time)):
        if name not in columns:
            raise DataError(f"{where}: no column {name!r} (needed for long); columns found: {', '.join(columns)}")


def _joined_columns(data: DataConfig, source: SourceConfig, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Columns of the joined files as rows have them, and as their files name them."""
    joined: list[str] = []
    keys: list[str] = []
    for join in source.join:
        names = joined_names(join_columns(data, join), (*columns, *joined))
        joined += names.values()
        keys += names
    return joined, keys


def _check_gathered(source: SourceConfig, where: str) -> None:
    """Refuses one column for what is made of several."""
    for name in _GATHERED & source.columns.keys():
        raise DataError(f"{where}: columns.{name} cannot be one column; {name} = ... of the source names them all")


def _has_time(data: DataConfig, chunks: Sequence[Chunk]) -> bool:
    timed = {
        "ts" in mapping(data.events[chunk.source], "events", [*chunk.columns, *chunk.joined])
        or "ts" in data.events[chunk.source].constants
        for chunk in chunks
        if chunk.table == "events"
    }
    if len(timed) > 1:
        raise DataError("some event sources have times and others have not; give ts a column in all of them or in none")
    return timed == {True}


def _added_names(data: DataConfig, table: Table, source: SourceConfig, columns: Sequence[str]) -> list[str]:
    """Columns that a file does not have: of a long source its properties, else inner fields of texts and pairs."""
    if source.long is None:
        split = [] if source.split is None else [f"{source.split.column}.{name}" for name in source.split.names]
        outer = tuple(f"{name}." for name in (*source.embedded, *source.pairs))
        needed = [name for name in _needed(data, table, source) if name not in columns]
        return [name for name in needed if name in split or name.startswith(outer)]
    plain = [field.name for field in CANONICAL[table] if field.name not in (*_GATHERED, *_KEYS, *source.columns)]
    return [name for name in (*_needed(data, table, source), *plain) if name not in columns]


def added_columns(data: DataConfig, chunk: Chunk) -> list[str]:
    """Columns of a chunk that its file does not have: properties of a long table, inner fields of texts and pairs."""
    there = {name for part in chunk.parts or (chunk,) for name in file_columns(part)}
    return _added_names(data, chunk.table, sources_of(data, chunk.table)[chunk.source], [*there])


def columns_read(data: DataConfig, chunk: Chunk) -> list[str]:
    """The columns of the chunk's file that are read, in order."""
    source = sources_of(data, chunk.table)[chunk.source]
    used = {*_needed(data, chunk.table, source), *mapping(source, chunk.table, chunk.columns).values()}
    used |= {join.on[0] for join in source.join}
    used |= {*source.embedded, *source.pairs} if source.format != "jsonl" else set()
    if source.long is not None:
        used |= {source.long.property, source.long.value, source.long.time}
    return [name for name in file_columns(chunk) if name in used]


def used_columns(data: DataConfig, chunk: Chunk) -> set[str]:
    """The columns of a chunk's rows that its source uses, joined ones included."""
    source = sources_of(data, chunk.table)[chunk.source]
    there = mapping(source, chunk.table, [*chunk.columns, *chunk.joined])
    used = {*_needed(data, chunk.table, source), *there.values()}
    return used | {join.on[0] for join in source.join}


def file_columns(chunk: Chunk) -> tuple[str, ...]:
    """The columns of the chunk that are in its file, without those from the names of its folders."""
    return chunk.columns[: len(chunk.columns) - chunk.num_folder_columns]


def source_fingerprint(data: DataConfig) -> str:
    """Fingerprint of all source files: changes when a file is added, removed, or changes in size or time.

    A generated shop follows from its settings alone. Of a database only the number of rows counts.
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
            all_files = [file for path in paths for file in files.find(data.root, path)]
            state.append([(file.path.rpartition("/")[2], file.size, file.changed_ns) for file in all_files])
    if data.slates:
        state.append([(file.size, file.changed_ns) for file in files.find(data.root, data.slates)])
    return fingerprint(state)
