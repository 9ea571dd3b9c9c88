"""Reading of a chunk's raw rows, block by block: text lines, JSON, Parquet, with the joined files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from txrec.config import DataConfig, SourceConfig
from txrec.data import files
from txrec.data.blocks import Block, RawLines, block_of
from txrec.data.joins import joined_table, with_joined
from txrec.data.json_lines import parse_json, parse_json_map, records
from txrec.data.parse import Lines, Parsed, join_lines, parse_delimited, parse_sequence_text
from txrec.data.sources import Chunk, columns_read, file_columns, sources_of

_BLOCK_ROWS = 1 << 19
"""Rows of a block of a Parquet file."""
_MAX_GROUP_ROWS = 1 << 21
"""Rows of a row group that is read as a whole."""


def read(data: DataConfig, chunk: Chunk) -> Iterator[Block]:
    """Reads a chunk block by block, joined files included.

    Raises:
        DataError: a damaged file.
    """
    source = sources_of(data, chunk.table)[chunk.source]
    reader = {"parquet": _read_parquet, "json_map": _read_json_map}.get(source.format, _read_lines)
    joins = [(join, joined_table(data, join)) for join in source.join]
    folders = {name: value or None for name, value in files.folder_columns(chunk.path).items()}
    for block in reader(data, chunk, source):
        added = [pl.lit(value, dtype=pl.String).alias(name) for name, value in folders.items()
                 if name in chunk.columns and name not in block.frame.columns]  # fmt: skip
        yield with_joined(replace(block, frame=block.frame.with_columns(added)) if added else block, joins)


def _read_lines(data: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    columns = columns_read(data, chunk)
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
    for name, whole in cut:
        has_header = name != member and source.format == "csv" and chunk.start == 0
        lines = whole.part(chunk.num_skipped) if has_header else whole
        if source.comment:
            lines = lines.without(source.comment.encode())
        member = name
        parsed = _parse(lines, chunk, source, columns)
        bad = sorted(parsed.bad)
        yield Block(
            parsed.frame,
            parsed.line + done + 1,
            RawLines(lines, parsed.line, source.encoding),
            [index + done + 1 for index in bad],
            lines.texts(bad, source.encoding),
            [parsed.bad[index].value for index in bad],
            len(lines),
        )
        done += len(lines)


def whole_records(
    blocks: Iterator[tuple[str, bytes]], chunk: Chunk, source: SourceConfig
) -> Iterator[tuple[str, Lines]]:
    """Records of several lines joined to one line each; a record that may continue in the next block waits for it."""
    member, rest = "", b""
    for name, block in blocks:
        if rest and name != member:
            yield member, join_lines(Lines.of(rest), len(file_columns(chunk)), source, source.escape)[0]
            rest = b""
        lines, num_whole = join_lines(Lines.of(rest + block), len(file_columns(chunk)), source, source.escape)
        rest = lines.block[lines.starts[num_whole] :] if num_whole < len(lines) else b""
        member = name
        yield name, lines.part(0, num_whole)
    if rest:
        yield member, join_lines(Lines.of(rest), len(file_columns(chunk)), source, source.escape)[0]


def _parse(lines: Lines, chunk: Chunk, source: SourceConfig, columns: Sequence[str]) -> Parsed:
    if source.format == "jsonl":
        return parse_json(lines, source.encoding, columns, source.rows)
    if source.format == "sequence_text":
        return parse_sequence_text(lines)
    return parse_delimited(lines, file_columns(chunk), columns, source, source.quoting, source.escape)


def _read_parquet(data: DataConfig, chunk: Chunk, _: SourceConfig) -> Iterator[Block]:
    done = 0
    for frame in _row_group(chunk, columns_read(data, chunk)):
        yield block_of(frame, done)
        done += frame.height


def _row_group(chunk: Chunk, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of one row group in blocks; polars reads local files four times as fast as Arrow, but whole groups."""
    with files.open_parquet(chunk.path) as file:
        tops = file.schema_arrow.names
        outer = list(dict.fromkeys(n if n in tops else n.partition(".")[0] for n in columns))
        num_rows = [file.metadata.row_group(group).num_rows for group in range(chunk.start + 1)]
        if "://" in chunk.path or num_rows[-1] > _MAX_GROUP_ROWS:
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
