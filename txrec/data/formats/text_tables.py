r"""Parsers of text blocks: tables of raw columns, and the lines that could not be read.

A row is one line, or where a source says so as many as its quotes embrace. Arrow and polars parse whole blocks; a line
that they would misread (a quote that does not end would swallow the next rows, say) is found by comparing the number of
rows with the number of lines, halving the block until the culprit stands alone. So one broken line costs one line, and
what it said is kept.
"""

import codecs
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from txrec.data.formats.bisection import bisect_failures
from txrec.schema import Reason

_UNIT_SEPARATOR = b"\x1f"
_MOST_LINES = 1_000  # of one record
_TRAILING = "\0"  # column after a delimiter at the end of the rows
_NO_LINES = np.empty(0, np.int64)


class Layout(Protocol):
    """Layout of a text file; `SourceConfig` and `JoinConfig` are layouts."""

    @property
    def delimiter(self) -> str:
        """Separator of columns."""

    @property
    def header(self) -> bool:
        """True where the first line names the columns."""

    @property
    def names(self) -> tuple[str, ...]:
        """Column names where there is no header."""

    @property
    def encoding(self) -> str:
        """Text encoding."""

    @property
    def ragged(self) -> bool:
        """True where rows may lack fields at their end."""


@dataclass(frozen=True, eq=False)
class Lines:
    r"""A block of lines, each ended by `\n`."""

    block: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, block: bytes) -> "Lines":
        """Finds the lines; blank ones are left out and are no rows."""
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else ends
        lengths = ends - starts
        if (lengths < 2).any():
            blank = np.array([not block[starts[i] : ends[i]].strip() for i in np.flatnonzero(lengths < 2)], dtype=bool)
            keep = np.ones(len(ends), dtype=bool)
            keep[np.flatnonzero(lengths < 2)[blank]] = False
            starts, ends = starts[keep], ends[keep]
        return cls(block, starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, first: int, last: int | None = None) -> "Lines":
        """Some of the lines, of the same block."""
        return Lines(self.block, self.starts[first:last], self.ends[first:last])

    def at(self, index: int) -> bytes:
        """One line without its end."""
        return self.block[self.starts[index] : self.ends[index]].removesuffix(b"\r")

    def texts(self, indices: Iterable[int], encoding: str = "utf-8") -> list[str]:
        r"""Lines as text; what cannot be decoded shows as `\xff`."""
        return [self.at(i).decode(single(encoding), errors="backslashreplace") for i in indices]

    def without(self, prefix: bytes) -> "Lines":
        """The lines that do not begin with a prefix (comments)."""
        kept = np.array([not self.block.startswith(prefix, start) for start in self.starts.tolist()], dtype=bool)
        return self if kept.all() else Lines(self.block, self.starts[kept], self.ends[kept])

    def take(self, indices: NDArray[np.int64]) -> bytes:
        """The bytes of some lines, in order."""
        if not len(indices):
            return b""
        starts, ends = self.starts[indices], self.ends[indices] + 1
        cuts = np.flatnonzero(starts[1:] != ends[:-1])  # neighbours are copied in one piece
        firsts, lasts = starts[np.concatenate([[0], cuts + 1])], ends[np.concatenate([cuts, [-1]])]
        return b"".join(self.block[first:last] for first, last in zip(firsts, lasts, strict=True))


@dataclass(frozen=True, eq=False)
class Parsed:
    """Rows of a parsed block, and its bad lines."""

    frame: pl.DataFrame
    """(N rows) raw columns by their source names."""
    line: NDArray[np.int64]
    """(N,) index into the block's lines."""
    bad: dict[int, Reason]
    """Lines that could not be read."""


def column_names(first_line: bytes, layout: Layout, quoting: bool = True, escape: str = "") -> list[str]:
    """The columns of a delimited file: its header, or the configured names."""
    if not layout.header:
        return list(layout.names)
    text = first_line.decode(single(layout.encoding), errors="replace").strip("\ufeff\r\n")
    if len(layout.delimiter) > 1 or not quoting:
        return [name.strip() for name in text.split(layout.delimiter)]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text.encode() + b"\n"),
            pacsv.ReadOptions(autogenerate_column_names=True),
            _parse_options(layout.delimiter, quoting, escape, None),
            pacsv.ConvertOptions(strings_can_be_null=False, null_values=[]),
        )
    except pa.ArrowInvalid:  # a quote that does not end, or a line break of another kind
        return [name.strip(' "') for name in text.split(layout.delimiter)]
    return [str(column[0].as_py()).strip() for column in table.columns]


def join_lines(lines: Lines, num_columns: int, layout: Layout, escape: str) -> tuple[Lines, int]:
    """Makes one line of those that are one record, because the breaks between them stand in quotes.

    A line whose quote does not end stays alone if no later line completes it to a record of all columns: a broken quote
    costs its own line and none of the next.

    Returns:
        The lines, and how many of them cannot go on beyond the end of the block.
    """
    odd = _odd_quotes(lines, escape)
    ends, single = lines.ends.copy(), np.ones(len(lines), dtype=bool)
    at = 0
    while at + 1 < len(odd):
        first, last = odd[at], odd[at + 1]
        text = lines.block[lines.starts[first] : lines.ends[last]]
        if last - first < _MOST_LINES and is_record(text, num_columns, layout, escape):
            ends[first], single[first + 1 : last + 1] = lines.ends[last], False
            at += 2
        else:
            at += 1
    is_open = at < len(odd) and len(lines) - odd[at] < _MOST_LINES
    num_whole = int(single[: odd[at]].sum()) if is_open else int(single.sum())
    return Lines(lines.block, lines.starts[single], ends[single]), num_whole


def _unbalanced(lines: Lines, num_columns: int, layout: Layout, escape: str) -> list[int]:
    """Lines with an odd number of quotes, except those whose quote stands within a bare field (`24" monitor`)."""
    odd = _odd_quotes(lines, escape)
    return [index for index in odd if not is_record(lines.at(index), num_columns, layout, escape)]


def is_record(content: bytes, num_columns: int, layout: Layout, escape: str) -> bool:
    """True where a text is one record of so many fields, quotes that do not end are none."""
    text, delimiter = content.decode(single(layout.encoding), errors="replace"), layout.delimiter
    if len(delimiter) > 1:
        text, delimiter = text.replace(delimiter, _UNIT_SEPARATOR.decode()), _UNIT_SEPARATOR.decode()
    rows = csv.reader([text], delimiter=delimiter, doublequote=not escape, escapechar=escape or None, strict=True)
    try:
        return len(next(rows)) == num_columns
    except csv.Error:
        return False


def parse_delimited(
    lines: Lines,
    columns: Sequence[str],
    selected: Sequence[str],
    layout: Layout,
    quoting: bool = True,
    escape: str = "",
) -> Parsed:
    """CSV, TSV and relatives. Empty fields become null, everything else stays a string.

    Args:
        lines: the block, header not among them.
        columns: all columns of the file, in order.
        selected: the columns to read.
        layout: delimiter and encoding.
        quoting: whether `"` quotes fields.
        escape: character that escapes a quote; empty = a doubled quote.
    """
    selected = selected or columns[:1]  # rows of no column have no number
    bad = screen(lines, layout.encoding, quoting, escape)
    if bad and quoting:
        balanced = {index for index, why in bad.items() if why is Reason.BROKEN_QUOTING}
        balanced -= set(_unbalanced(lines, len(columns), layout, escape))
        bad = {index: why for index, why in bad.items() if index not in balanced}
    good = np.setdiff1d(np.arange(len(lines)), np.fromiter(bad, np.int64, len(bad)), assume_unique=True)
    if _has_trailing_delimiter(lines, good, len(columns), layout, quoting=quoting, escape=escape):
        columns = [*columns, _TRAILING]
    reader = _Delimited(columns, selected, layout, quoting, escape)
    blocks = _Blocks(lines, reader, bad)
    bisect_failures(good, blocks.read, blocks.refuse)
    tables, rows = blocks.tables, blocks.rows
    uneven = [index for index, why in bad.items() if why is Reason.WRONG_FIELD_COUNT]
    mended = _mended(lines, sorted(uneven), reader)
    if mended:
        tables.append(pa.table([pa.array(column, pa.string()) for column in zip(*mended.values(), strict=True)],
                               names=list(selected)))  # fmt: skip
        rows.append(np.fromiter(mended, np.int64, len(mended)))
        bad = {index: why for index, why in bad.items() if index not in mended}
    table = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in selected})
    frame, line = pl.DataFrame(pl.from_arrow(table.select(list(selected)))), np.concatenate([_NO_LINES, *rows])
    if mended:
        order = np.argsort(line, kind="stable")
        frame, line = frame[order], line[order]
    return Parsed(frame, line, bad)


def _fields(content: bytes, layout: Layout, *, quoting: bool, escape: str) -> list[str]:
    """The fields of one line; none where its quotes are broken."""
    text, delimiter = content.decode(single(layout.encoding), errors="replace"), layout.delimiter
    if len(delimiter) > 1:
        text, delimiter = text.replace(delimiter, _UNIT_SEPARATOR.decode()), _UNIT_SEPARATOR.decode()
    if not quoting:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, doublequote=not escape, escapechar=escape or None,
                               strict=True), [])  # fmt: skip
    except csv.Error:
        return []


def _has_trailing_delimiter(
    lines: Lines, good: NDArray[np.int64], num_columns: int, layout: Layout, *, quoting: bool, escape: str
) -> bool:
    """True where the first lines all end in a delimiter that the header lacks."""
    first = [_fields(lines.at(index), layout, quoting=quoting, escape=escape) for index in good[:8].tolist()]
    return bool(first) and all(len(fields) == num_columns + 1 and fields[-1] == "" for fields in first)


def _mended(lines: Lines, uneven: Sequence[int], reader: "_Delimited") -> dict[int, list[str | None]]:
    """The selected fields of lines with empty fields too many, or, in ragged files, too few fields."""
    mended: dict[int, list[str | None]] = {}
    num_columns = len(reader.columns)
    trailing = reader.columns[-1] == _TRAILING
    for index in uneven:
        fields = _fields(lines.at(index), reader.layout, quoting=reader.quoting, escape=reader.escape)
        short = len(fields) < num_columns and (reader.layout.ragged or (trailing and len(fields) == num_columns - 1))
        if (not any(fields[num_columns:]) and len(fields) > num_columns) or (short and any(fields)):
            named = dict(zip(reader.columns, fields, strict=False))
            mended[index] = [named.get(name) or None for name in reader.selected]
    return mended


@dataclass(frozen=True)
class _Delimited:
    columns: Sequence[str]
    selected: Sequence[str]
    layout: Layout
    quoting: bool
    escape: str

    def read(self, content: bytes) -> tuple[pa.Table, list[int]]:
        """Rows that parse, and the 0-based numbers of those with a wrong field count."""
        if codecs.lookup(single(self.layout.encoding)).name not in ("utf-8", "ascii"):
            content = content.decode(self.layout.encoding).encode()
        delimiter = self.layout.delimiter
        if len(delimiter) > 1:
            content = content.replace(delimiter.encode(), _UNIT_SEPARATOR)
            delimiter = _UNIT_SEPARATOR.decode()
        skipped: list[int] = []
        handler = _Collector(skipped)
        table = pacsv.read_csv(
            pa.BufferReader(content),
            pacsv.ReadOptions(use_threads=False, column_names=list(self.columns), block_size=len(content) + 1),
            _parse_options(delimiter, self.quoting, self.escape, handler),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(self.columns, pa.string()),
                include_columns=list(dict.fromkeys(self.selected)),
                strings_can_be_null=True,
                null_values=[""],
                check_utf8=False,
            ),
        )
        return table, skipped


class _Blocks:
    """Tables of the blocks that parse, and reasons for the lines that do not."""

    def __init__(self, lines: Lines, reader: _Delimited, bad: dict[int, Reason]) -> None:
        self._lines, self._reader, self._bad = lines, reader, bad
        self.tables: list[pa.Table] = []
        self.rows: list[NDArray[np.int64]] = []

    def read(self, indices: NDArray[np.int64]) -> bool:
        """Parses some lines; False where the rows do not answer to the lines one to one."""
        try:
            table, skipped = self._reader.read(self._lines.take(indices))
        except pa.ArrowInvalid:
            return False
        if table.num_rows + len(skipped) != len(indices) or any(row >= len(indices) for row in skipped):
            return False
        self._bad.update({int(indices[row]): Reason.WRONG_FIELD_COUNT for row in skipped})
        self.tables.append(table)
        self.rows.append(np.delete(indices, skipped))
        return True

    def refuse(self, indices: NDArray[np.int64]) -> None:
        """Notes why a line cannot be parsed."""
        for index in indices.tolist():
            quoted = self._reader.quoting and b'"' in self._lines.at(index)
            self._bad[index] = Reason.BROKEN_QUOTING if quoted else Reason.WRONG_FIELD_COUNT


class _Collector:
    """Arrow calls it for every row with a wrong number of fields."""

    def __init__(self, skipped: list[int]) -> None:
        self._skipped = skipped

    def __call__(self, row: Any) -> str:
        self._skipped.append(row.number - 1)
        return "skip"


def _parse_options(delimiter: str, quoting: bool, escape: str, handler: Any) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoting else False,
        double_quote=quoting and not escape,
        escape_char=escape or False,
        invalid_row_handler=handler,
    )


def screen(lines: Lines, encoding: str, quoting: bool, escape: str) -> dict[int, Reason]:
    """Lines that must not reach the parser: NUL bytes, undecodable text, a quote that does not end on its line."""
    bad: dict[int, Reason] = {}
    if quoting and b'"' in lines.block:
        bad.update(dict.fromkeys(_odd_quotes(lines, escape), Reason.BROKEN_QUOTING))
    try:
        lines.block.decode(single(encoding))
    except UnicodeDecodeError:
        bad.update(dict.fromkeys(_undecodable(lines, encoding), Reason.UNDECODABLE_TEXT))
    if b"\0" in lines.block:
        holes = np.flatnonzero(np.frombuffer(lines.block, np.uint8) == 0)
        of_line = np.searchsorted(lines.ends, holes)
        bad.update(dict.fromkeys(np.unique(of_line).tolist(), Reason.NUL_BYTE))
    return bad


def single(encoding: str) -> str:
    """UTF-16 and UTF-32 files arrive here as UTF-8."""
    return "utf-8" if encoding.lower().replace("_", "").replace("-", "").startswith(("utf16", "utf32")) else encoding


def _undecodable(lines: Lines, encoding: str) -> list[int]:
    indices = []
    for index in range(len(lines)):  # only in a block that holds such a line
        try:
            lines.at(index).decode(single(encoding))
        except UnicodeDecodeError:
            indices.append(index)
    return indices


def _odd_quotes(lines: Lines, escape: str) -> list[int]:
    content = np.frombuffer(lines.block, np.uint8)
    is_quote = content == ord('"')
    if escape:
        is_quote[1:] &= content[:-1] != ord(escape)
    quotes = np.flatnonzero(is_quote)
    counts = np.searchsorted(quotes, lines.ends) - np.searchsorted(quotes, lines.starts)
    odd: list[int] = np.flatnonzero(counts % 2).tolist()
    return odd


def parse_sequence_text(lines: Lines) -> Parsed:
    """A line is a user and then their items in order, by blanks; it becomes one row per item (`user_id`, `item_id`)."""
    bad = screen(lines, "utf-8", quoting=False, escape="")
    good = np.setdiff1d(np.arange(len(lines)), np.fromiter(bad, np.int64, len(bad)), assume_unique=True)
    text = pl.Series("line", lines.take(good).decode().split("\n"))[: len(good)]
    frame = pl.DataFrame({"line": good, "parts": text.str.strip_chars().str.extract_all(r"\S+")})
    short = frame.filter(pl.col("parts").list.len() < 2)
    bad.update(dict.fromkeys(short["line"].to_list(), Reason.WRONG_FIELD_COUNT))
    rows = frame.filter(pl.col("parts").list.len() >= 2).select(
        "line", user_id=pl.col("parts").list.first(), item_id=pl.col("parts").list.slice(1)
    )
    rows = rows.explode("item_id")
    return Parsed(rows.drop("line"), rows["line"].to_numpy().astype(np.int64), bad)
