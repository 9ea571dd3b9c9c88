"""Layouts of source files, from their first block: columns, delimiter, lines before the rows."""

from collections.abc import Iterable
from dataclasses import dataclass

from txrec.config import JoinConfig, SourceConfig
from txrec.data.formats import files, parquet_rows
from txrec.data.formats.json_lines import is_stream, parse_json, records
from txrec.data.formats.json_unfolding import unfolded
from txrec.data.formats.line_ends import first_line, has_lone_returns
from txrec.data.formats.text_tables import Lines, column_names
from txrec.errors import DataError

PROBE_BYTES = 1 << 20
_LISTED_COLUMNS = 40


@dataclass(frozen=True)
class FileLayout:
    """One file's columns and the way to its rows."""

    columns: tuple[str, ...]
    """All columns, in order; fields of objects as `outer.inner`."""
    num_skipped: int = 0
    """Lines before the first row: preamble, `sep=;` and header."""
    delimiter: str = ""
    """csv: between columns."""
    is_stream: bool = False
    """True where the file can only be read from its beginning: line ends of carriage returns alone, JSON arrays."""
    num_folder_columns: int = 0
    """Number of columns at the end that come from the names of folders."""


def probe(file: files.File, source: SourceConfig) -> FileLayout:
    """Looks at the first block of a file.

    Raises:
        DataError: the file holds no line, or an archive holds tables with different columns.
    """
    if source.format == "parquet":
        with files.open_parquet(file.path) as table:
            return FileLayout(tuple(parquet_rows.column_names(table.schema_arrow, source.rows)))
    if source.format == "sequence_text":
        return FileLayout(("user_id", "item_id"))
    if source.format == "json_map":
        return FileLayout(("key", "values"))
    members: dict[str, bytes] = {}
    for name, block in files.lines(file.path, source.encoding, 0, None, PROBE_BYTES):
        members.setdefault(name, block)
        if not file.is_archive:
            break
    for name, block in members.items():
        check_is_text(f"{file.path}::{name}" if name else file.path, source, block)
    layouts = {name: _layout(file, source, block) for name, block in members.items() if block.strip()}
    if not layouts:
        raise DataError(f"{file.path}: holds no line; expected {'a header' if source.header else 'rows'}")
    if source.format == "csv" and len({one.columns for one in layouts.values()}) > 1:
        listed = "; ".join(f"{name} ({', '.join(one.columns[:6])})" for name, one in layouts.items())
        raise DataError(
            f"{file.path}: holds tables with different columns: {listed}; name one of them: "
            f'path = "{source.path}::{next(iter(layouts))}"'
        )
    return next(iter(layouts.values()))


_MARKS = {
    b"\xff\xfe": 'text in UTF-16: declare encoding = "utf-16"',
    b"\xfe\xff": 'text in UTF-16: declare encoding = "utf-16"',
    b"\x1f\x8b": "packed by gzip: let its name end in .gz",
    b"PK\x03\x04": "a zip archive or a spreadsheet: let the name of an archive end in .zip, save a spreadsheet as CSV",
    b"\x28\xb5\x2f\xfd": "packed by zstd: let its name end in .zst",
    b"BZh": "packed by bzip2: let its name end in .bz2",
    b"\xfd7zXZ": "packed by xz: let its name end in .xz",
    b"PAR1": 'Parquet: declare format = "parquet"',
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"SQLite format 3": "a database of SQLite: declare sql and connection_env instead of path",
}
"""First bytes of files that are no text in a single-byte or UTF-8 encoding = what they are."""


def check_is_text(path: str, source: SourceConfig | JoinConfig, block: bytes) -> None:
    """Refuses files that are plainly something else than declared.

    Raises:
        DataError: the file is one of those; says what to declare.
    """
    if source.encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32")):
        return
    for mark, kind in _MARKS.items():
        if block.startswith(mark):
            raise DataError(f"{path}: expected text of format = {source.format!r}; the file is {kind}")


def _layout(file: files.File, source: SourceConfig, block: bytes) -> FileLayout:
    if source.format == "jsonl":
        stream = is_stream(block)
        made = next(records(iter([("", block)])), ("", b""))[1] if stream else block
        lines = unfolded(Lines.of(made), source.embedded, source.pairs)
        frame = parse_json(lines, source.encoding, rows=source.rows).frame
        if not any(frame.columns):
            raise DataError(
                f"{file.path}: none of its first {len(lines):,} lines holds a JSON object; the first is "
                f"{lines.texts([0])[0][:80]!r}; expected JSON Lines, or an array of objects"
            )
        return FileLayout(tuple(name for name in frame.columns if name), is_stream=stream)
    lines = Lines.of(block)
    skipped, delimiter = source.skip_lines, source.delimiter
    while skipped < len(lines) and source.comment and lines.at(skipped).startswith(source.comment.encode()):
        skipped += 1
    if skipped < len(lines) and lines.at(skipped).lower().startswith(b"sep=") and len(lines.at(skipped).strip()) == 5:
        delimiter = lines.at(skipped).strip()[4:].decode()
        skipped += 1
    if skipped >= len(lines):
        raise DataError(f"{file.path}: has {len(lines)} lines, and skip_lines = {source.skip_lines} leaves no header")
    named = source.model_copy(update={"delimiter": delimiter})
    first = first_line(lines, skipped, named, source.quoting, source.escape)
    if has_lone_returns(first + b"\n"):
        raise DataError(
            f"{file.path}: its first line holds carriage returns that end no rows of equal length: {first[:80]!r}; "
            "expected one line end (LF, CR LF or CR) in the whole file: save it again as text with one of them"
        )
    columns = column_names(first, named, source.quoting, source.escape)
    return FileLayout(
        tuple(distinct(columns)),
        skipped + source.header,
        delimiter,
        files.ends_in_returns(files.first_bytes(file.path)),
    )


def distinct(names: Iterable[str]) -> list[str]:
    """Column names, each once: a repeated one gets its number (`price`, `price_2`), an empty one its place."""
    made: list[str] = []
    for place, name in enumerate(names, start=1):
        base = name or f"column_{place}"
        number, unique = 1, base
        while unique in made:
            number += 1
            unique = f"{base}_{number}"
        made.append(unique)
    return made


def late_keys(file: files.File, source: SourceConfig, names: Iterable[str]) -> list[str]:
    """JSON keys that stand anywhere in the file; it is read until all of them have been seen."""
    mark = "" if source.embedded else '"'  # quotes inside texts are escaped
    missing, present = {name: f"{mark}{name.rpartition('.')[2]}{mark}".encode() for name in names}, []
    for _, block in files.lines(file.path, source.encoding) if missing else ():
        seen = [name for name, key in missing.items() if key in block]
        present += seen
        for name in seen:
            del missing[name]
        if not missing:
            break
    return present
