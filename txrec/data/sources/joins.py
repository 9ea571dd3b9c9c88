"""Joined files: columns that a source takes from another file by a key."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from txrec.config import DataConfig, JoinConfig, SourceConfig
from txrec.data.formats import files, parquet_rows, values
from txrec.data.formats.blocks import Block, SelectedRaw
from txrec.data.formats.json_lines import is_stream, parse_json, records
from txrec.data.formats.line_ends import first_line, split_at_returns
from txrec.data.formats.text_tables import Lines, Parsed, column_names, join_lines, parse_delimited
from txrec.data.sources.probe import check_is_text, distinct
from txrec.errors import DataError
from txrec.schema import Reason


@dataclass(frozen=True, eq=False)
class Joined:
    """A joined file, one row per key."""

    join: JoinConfig
    name: str
    """The join in its source (`join.0 (heads.csv)`)."""
    table: pl.DataFrame
    key: pl.Series
    """Key of each row, in the form that meets other types."""
    notes: dict[str, int]
    """Messages on its keys, as of `Remarks`."""

    def only(self, rows: pl.Series, notes: dict[str, int]) -> "Joined":
        """Some of its rows, with messages."""
        return replace(self, table=self.table.filter(rows), key=self.key.filter(rows), notes=notes)


def join_columns(data: DataConfig, join: JoinConfig) -> list[str]:
    """Columns of a joined file, or of all files of a folder or glob.

    Raises:
        DataError: the file is missing, or has no header.
    """
    return list(dict.fromkeys(name for file in files.find(data.root, join.path) for name in _columns(file.path, join)))


def _columns(path: str, join: JoinConfig) -> list[str]:
    if join.format == "parquet":
        with files.open_parquet(path) as table:
            return parquet_rows.column_names(table.schema_arrow)
    content = _content(path, join)
    if join.format == "jsonl":
        return parse_json(_record_lines(content), join.encoding).frame.columns
    return distinct(column_names(_header(content, join), join))


def joined_tables(
    data: DataConfig, source: SourceConfig, columns: Sequence[str], used: Collection[str]
) -> list[Joined]:
    """The joined files of a source, one row per key (the first counts).

    Args:
        data: the configured sources.
        source: one of them.
        columns: of its rows before the joins.
        used: columns of its rows that are used, joined ones included.

    Raises:
        DataError: a row that cannot be read.
    """
    there, made = [*columns], []
    for number, join in enumerate(source.join):
        table = _whole_table(data, join)
        names = joined_names(table.columns, there)
        there += names.values()
        key = _join_key(table[join.on[1]])
        whole = Joined(join, f"join.{number} ({join.path})", table, key, {})
        made.append(_first_of_keys(whole, [name for name, joined in names.items() if joined in used]))
    return made


def _first_of_keys(joined: Joined, used: Sequence[str]) -> Joined:
    """The first row of every key, with a message where later ones say something else in the columns that are used."""
    key = joined.key
    first = key.is_first_distinct()
    if not used or bool(first.all()):
        return joined.only(first, {})
    texts = pl.DataFrame([_comparable(joined.table[name]).alias(f"{place}") for place, name in enumerate(used)])
    texts = texts.with_columns(key.alias(":key"))
    rows = texts.filter(~first & key.is_not_null()).join(texts.filter(first), on=":key", how="inner")
    names = [str(place) for place in range(len(used))]
    unlike = [pl.col(name).is_not_null() & pl.col(name).ne_missing(pl.col(f"{name}_right")) for name in names]
    differs = rows.select(":key", *[differ.alias(name) for name, differ in zip(names, unlike, strict=True)])
    keys = differs.filter(pl.any_horizontal(names))[":key"].unique()
    if not len(keys):
        return joined.only(first, {})
    columns = ", ".join([name for place, name in enumerate(used) if differs[str(place)].any()][:4])
    message = (
        f"{joined.name}: {len(keys):,} keys of {joined.join.on[1]!r} (e.g. {keys.min()!r}) have several rows that "
        f"differ in {columns}; the first row of a key counts: keep one row per key, or put the right one first"
    )
    return joined.only(first, {message: len(keys)})


def _comparable(column: pl.Series) -> pl.Series:
    """Values as texts, null for none."""
    text = values.list_of_texts(column).list.join("|") if isinstance(column.dtype, pl.List) else values.as_text(column)
    text = text.str.strip_chars()
    return text.set((text == "").fill_null(value=False), None)


def _whole_table(data: DataConfig, join: JoinConfig) -> pl.DataFrame:
    read = {"parquet": _parquet_table, "jsonl": _json_table}.get(join.format, _delimited_table)
    tables = [(file.path, read(file.path, join)) for file in files.find(data.root, join.path)]
    try:
        return pl.concat([table for _, table in tables], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        listed = ", ".join(path for path, _ in tables[:4])
        raise DataError(f"{listed}: cannot be joined as one table, their columns have unlike types: {error}") from error


def _content(path: str, join: JoinConfig) -> bytes:
    content = b"".join(block for _, block in files.lines(path, join.encoding))
    check_is_text(path, join, content)
    if not content.strip():
        raise DataError(f"{path}: the joined file is empty; expected {'a header' if join.header else 'rows'}")
    return content


def _parquet_table(path: str, _: JoinConfig) -> pl.DataFrame:
    with files.open_parquet(path) as file:
        columns = parquet_rows.column_names(file.schema_arrow)
        groups = range(file.num_row_groups)
    blocks = (block for group in groups for block in parquet_rows.blocks(path, group, columns))
    return pl.concat([parquet_rows.selected(block, columns) for block in blocks])


def _record_lines(content: bytes) -> Lines:
    if is_stream(content):
        content = b"".join(block for _, block in records(iter([("", content)])))
    return Lines.of(content)


def _json_table(path: str, join: JoinConfig) -> pl.DataFrame:
    lines = _record_lines(_content(path, join))
    parsed = parse_json(lines, join.encoding)
    _check_all_read(path, lines, parsed)
    return parsed.frame


def _delimited_table(path: str, join: JoinConfig) -> pl.DataFrame:
    content = _content(path, join)
    columns = distinct(column_names(_header(content, join), join))
    lines = split_at_returns(Lines.of(content), len(columns), join)
    if join.header:
        lines = lines.part(1)
    if join.multiline:
        lines = join_lines(lines, len(columns), join, "")[0]
    parsed = parse_delimited(lines, columns, columns, join)
    _check_all_read(path, lines, parsed)
    return parsed.frame


def _header(content: bytes, join: JoinConfig) -> bytes:
    lines = Lines.of(content)
    return first_line(lines, 0, join, quoting=True, escape="") if len(lines) else b""


def _check_all_read(path: str, lines: Lines, parsed: Parsed) -> None:
    if parsed.bad:
        index, reason = min(parsed.bad.items())
        text = lines.texts([index])[0] if index < len(lines) else ""
        raise DataError(f"{path}: row {index + 1} cannot be joined ({reason.value}): {text!r}")


def joined_names(columns: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """Column of a joined file = its name in the source's rows: `title:joined` where these have a `title` themselves."""
    there = set(taken)
    return {name: f"{name}:joined" if name in there else name for name in columns}


def with_joined(block: Block, joins: Sequence[Joined], file_columns: Sequence[str] = ()) -> Block:
    """A block with the joined columns; rows without a required match are rejected with their reason.

    Args:
        block: rows of the source.
        joins: its joined files.
        file_columns: all columns of the source's file, read or not; joined columns of the same name are renamed.
    """
    for joined in joins:
        join = joined.join
        names = joined_names(joined.table.columns, (*file_columns, *block.frame.columns))
        frame = block.frame.with_columns(_join_key(_key_column(block.frame, join.on[0])).alias(":left")).join(
            joined.table.rename(names).with_columns(joined.key.alias(":right"), pl.lit(value=True).alias(":matched")),
            left_on=":left",
            right_on=":right",
            how="left",
            maintain_order="left",
            coalesce=False,
        )
        unmatched = frame[":matched"].is_null()
        lost = np.flatnonzero(unmatched.to_numpy()) if join.required else np.empty(0, np.int64)
        kept = np.setdiff1d(np.arange(frame.height), lost, assume_unique=True)
        matches = {} if join.required else {f"{joined.name}": frame.height - int(unmatched.sum())}
        block = replace(
            block,
            frame=frame.drop(":matched", ":left", ":right")[kept],
            row=block.row[kept],
            raw=SelectedRaw(block.raw, kept),
            bad_row=[*block.bad_row, *block.row[lost].tolist()],
            bad_raw=[*block.bad_raw, *block.raw(lost.tolist())],
            bad_reason=[*block.bad_reason, *[Reason.NO_MATCH_IN_JOIN.value] * len(lost)],
            matches={**block.matches, **matches},
            notes={**block.notes, **joined.notes},
        )
    return block


def _key_column(frame: pl.DataFrame, name: str) -> pl.Series:
    empty = pl.Series(name, [None], dtype=pl.String).new_from_index(0, frame.height)
    return frame[name] if name in frame.columns else empty


def _join_key(column: pl.Series) -> pl.Series:
    """A key as text, so that `1001` of a number column, `1001.0` and `"1001"` are equal."""
    return values.whole_ids(values.as_text(column).str.strip_chars())
