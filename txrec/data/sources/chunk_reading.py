"""Reading of a chunk's raw rows, block by block: text lines, JSON, Parquet, with the joined files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl

from txrec.config import DataConfig, SourceConfig
from txrec.data.formats import files, parquet_rows
from txrec.data.formats.blocks import Block, RawLines, SelectedRaw, block_of
from txrec.data.formats.json_lines import parse_json, parse_json_map, records
from txrec.data.formats.json_unfolding import unfolded, unfolded_columns
from txrec.data.formats.line_ends import split_at_returns
from txrec.data.formats.long_tables import pivoted
from txrec.data.formats.text_lists import with_elements
from txrec.data.formats.text_tables import Lines, Parsed, join_lines, parse_delimited, parse_sequence_text
from txrec.data.sources.joins import joined_tables, with_joined
from txrec.data.sources.sources import Chunk, added_columns, columns_read, file_columns, sources_of, used_columns
from txrec.schema import Reason


def read(data: DataConfig, chunk: Chunk) -> Iterator[Block]:
    """Reads a chunk block by block, joined files included.

    Raises:
        DataError: a damaged file.
    """
    source = sources_of(data, chunk.table)[chunk.source]
    joins = joined_tables(data, source, chunk.columns, used_columns(data, chunk)) if source.join else []
    folders = {name: value or None for name, value in files.folder_columns(chunk.path).items()}
    for block in _rows(data, chunk, source):
        added = [pl.lit(value, dtype=pl.String).alias(name) for name, value in folders.items()
                 if name in chunk.columns and name not in block.frame.columns]  # fmt: skip
        block = replace(block, frame=block.frame.with_columns(added)) if added else block  # noqa: PLW2901
        yield with_joined(block, joins, chunk.columns)


def _rows(data: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    """Rows of a chunk before joins; those of a long table as one row per product or user."""
    if source.long is not None and chunk.parts:
        long_rows = (block for part in chunk.parts for block in _rows(data, part, source))
        key = "user_id" if chunk.table == "users" else "item_id"
        yield pivoted(long_rows, source, source.long, key, added_columns(data, chunk))
        return
    reader = {"parquet": _read_parquet, "json_map": _read_json_map}.get(source.format, _read_lines)
    fields = (*source.embedded, *source.pairs) if source.format != "jsonl" else ()
    added = added_columns(data, chunk) if fields and source.long is None else []
    names = [name for name in added if name.startswith(tuple(f"{field}." for field in fields))]
    for block in reader(data, chunk, source):
        whole = replace(block, frame=unfolded_columns(block.frame, fields, names)) if names else block
        yield whole if source.split is None else with_elements(whole, source.split)


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
    for name, uncut in cut:
        whole = uncut
        if source.format == "csv":
            whole = split_at_returns(uncut, len(file_columns(chunk)), source, source.quoting, source.escape)
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
        return parse_json(unfolded(lines, source.embedded, source.pairs), source.encoding, columns, source.rows)
    if source.format == "sequence_text":
        return parse_sequence_text(lines)
    return parse_delimited(lines, file_columns(chunk), columns, source, source.quoting, source.escape)


def _read_parquet(data: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    columns, done = columns_read(data, chunk), 0
    for frame in parquet_rows.blocks(chunk.path, chunk.start, [*columns, *source.rows]):
        rows = parquet_rows.exploded(frame, source.rows)
        block = block_of(parquet_rows.selected(rows.frame, columns), done)
        if source.rows:
            records = block_of(frame)
            bad = rows.unequal.tolist()
            reasons = [Reason.UNEQUAL_LISTS.value] * len(bad)
            raw = SelectedRaw(records.raw, rows.origin)
            bad_rows = [done + 1 + index for index in bad]
            block = Block(block.frame, rows.origin + done + 1, raw, bad_rows, records.raw(bad), reasons, frame.height)
        yield block
        done += frame.height


def _read_json_map(_: DataConfig, chunk: Chunk, source: SourceConfig) -> Iterator[Block]:
    content = b"".join(block for _, block in files.lines(chunk.path, source.encoding))
    yield block_of(parse_json_map(content, chunk.path))
