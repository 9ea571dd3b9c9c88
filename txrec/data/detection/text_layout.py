"""Text layout detection: encoding, delimiter, quoting, header and lines before it, from the first bytes of a file.

charset-normalizer detects encodings without a mark. Delimiters are chosen by how evenly they divide the lines,
because the sniffers of csv, DuckDB and CleverCSV know no delimiter of several characters such as `::`.
"""

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import py3langid
from charset_normalizer import from_bytes

from txrec.data.detection.names import is_known_name
from txrec.errors import DataError

HEAD_BYTES = 1 << 18
_DELIMITERS = (",", "\t", ";", "|", "::", "\x01", " ")
_ENCODINGS = [
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "shift_jis", "euc_jp", "gb18030",
    "big5", "euc_kr",
]  # fmt: skip
_WESTERN = frozenset({"de", "fr", "es", "pt", "it", "nl", "sv", "da", "nb", "no", "nn", "fi", "en", "ca", "gl"})
_SYLLABLES = (
    ("shift_jis", "[\u3041-\u30fc]", 0.2),
    ("euc_jp", "[\u3041-\u30fc]", 0.2),
    ("euc_kr", "[\uac00-\ud7a3]", 0.9),
)
"""Encodings of two bytes, their letters, and the share of these that no text in another encoding has by chance."""
_CYRILLIC = frozenset({"ru", "uk", "bg", "sr", "mk", "be"})
_CENTRAL = frozenset({"pl", "cs", "sk", "hu", "hr", "sl", "bs", "ro", "sq"})
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_IMAGE = "is an image; expected a table: leave it out, or name a glob such as folder/*.csv"
_REFUSED = {
    b"PK\x03\x04": "is a spreadsheet (Excel, LibreOffice) or an archive with another ending; save its sheet as CSV",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook of the old form; save its sheet as CSV",
    b"SQLite format 3": 'is an SQLite database; declare a source with sql = "SELECT ..." and connection_env',
    b"<?xml": "is XML; export the table as CSV or JSON Lines",
    b"<!DOCTYPE": "is an HTML page; export the table as CSV or JSON Lines",
    b"<html": "is an HTML page; export the table as CSV or JSON Lines",
    b"%PDF": "is a PDF document; export the table as CSV",
    b"<": "is XML or HTML; export the table as CSV or JSON Lines",
    b"\x89PNG": _IMAGE,
    b"\xff\xd8\xff": _IMAGE,
    b"GIF8": _IMAGE,
    b"RIFF": _IMAGE,
    b"ARROW1": "is an Arrow (Feather) file; save it as Parquet",
    b"Obj\x01": "is an Avro file; save it as Parquet or JSON Lines",
    b"7z\xbc\xaf": "is packed by 7-Zip; unpack it",
    b"Rar!": "is packed by RAR; unpack it",
    b"\x80\x04\x95": "is a Python pickle, which is never opened; save its table as Parquet or CSV",
    b"\x80\x05\x95": "is a Python pickle, which is never opened; save its table as Parquet or CSV",
    b"\x1f\x8b": "is packed by gzip; give it the ending .gz",
    b"(\xb5/\xfd": "is packed by Zstandard; give it the ending .zst",
}
_SQL_DUMP = re.compile(rb"^\s*(INSERT INTO|CREATE TABLE|COPY [^\n]+ FROM stdin)", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?")


@dataclass(frozen=True)
class TextLayout:
    """Layout of a text file as settings of `SourceConfig`, with remarks on them."""

    settings: dict[str, Any]
    """Settings that differ from the defaults, `format` always among them."""
    remarks: dict[str, str] = field(default_factory=dict)
    """Setting = how sure it is, and why."""
    num_columns: int = 0
    """csv: fields of a row."""


def text_layout(path: str, head: bytes, *, is_whole: bool) -> TextLayout:
    """Detects the layout of a text file.

    Args:
        path: for messages.
        head: the first bytes of its text, unpacked.
        is_whole: whether these are all of its bytes.

    Raises:
        DataError: no text, or no table.
    """
    for mark, what in _REFUSED.items():
        if head.lstrip()[:20].lower().startswith(mark.lower()):
            raise DataError(f"{path}: {what}")
    if head.startswith(b"ORC") and any(byte < 9 or 13 < byte < 32 for byte in head[3:64]):
        raise DataError(f"{path}: is an ORC file; save it as Parquet")
    if (head.lstrip()[:2] in (b"--", b"/*") and _SQL_DUMP.search(head)) or _SQL_DUMP.match(head):
        raise DataError(f"{path}: is an SQL dump; load it into a database and use sql, or export the tables as CSV")
    encoding, remark = detect_encoding(head)
    remarks = {"encoding": remark} if encoding != "utf-8" else {}
    settings: dict[str, Any] = {"encoding": encoding} if encoding != "utf-8" else {}
    text = _decoded(head, encoding)
    lines = _lines(text, is_whole=is_whole)
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a table")
    if "\0" in text[:4096]:
        raise DataError(f"{path}: is no text: it holds NUL bytes; expected CSV, JSON Lines or Parquet")
    if lines[0].lstrip()[:1] in ("{", "["):
        return TextLayout({"format": "jsonl", **settings}, remarks)
    if _is_sequence_text(lines):
        return TextLayout({"format": "sequence_text", **settings}, remarks)
    return _delimited(path, lines, settings, remarks)


def detect_encoding(head: bytes) -> tuple[str, str]:
    """The encoding of a text, and a remark on how sure it is."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, "sure: the file begins with its byte-order mark"
    odd, even = head[1:2000:2].count(0), head[0:2000:2].count(0)
    if max(odd, even) > len(head[:2000]) // 5:
        return ("utf-16-le" if odd > even else "utf-16-be"), "likely: every other byte is zero"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8", "sure: all of it can be decoded"
    return _code_page(head)


def _code_page(head: bytes) -> tuple[str, str]:
    """The encoding of a text that is no UTF-8, and a remark."""
    for page, letters, least in _SYLLABLES:
        if _share_of(head, page, letters) >= least:
            return page, "likely: its syllables can be read in no other way"
    matches = list(from_bytes(head[: 1 << 16], cp_isolation=_ENCODINGS))
    if not matches:
        name, language = _latin_page(head[: 1 << 16])
        name = name if "\ufffd" not in head.decode(name, errors="replace") else "latin-1"
        return name, f"guess: it is no UTF-8, text looks like {language}; look at letters with accents"
    best = min(matches, key=lambda match: _misread_words(head, match.encoding))
    western = [match for match in matches if match.encoding == "cp1252"]
    alike = western and (str(western[0]) == str(best) or western[0].chaos <= best.chaos + 0.02)
    if alike and best.encoding.startswith("cp125"):
        best = western[0]
    is_latin = _misread_words(head, "cp1252") < _misread_words(head, best.encoding)
    if is_latin or best.encoding in ("cp1252", "cp1250", "cp1254", "cp1257"):
        name, language = _latin_page(head[: 1 << 16])
        return name, f"guess: it is no UTF-8, text looks like {language}; look at letters with accents"
    if best.encoding == "cp1251" and _language(head, "cp1251") not in _CYRILLIC and _language(head, "cp1255") == "he":
        return "cp1255", "guess: it is no UTF-8, text looks like Hebrew; look at its letters"
    language = f", text looks like {best.language}" if best.language != "Unknown" else ""
    return best.encoding, f"guess: it is no UTF-8{language}; look at letters with accents"


_SINGLE_BYTES = re.compile(r"cp125\d|koi8_r|latin_1|iso8859")
_MISREAD = re.compile(
    r"[^\W\d_][\u00a1-\u00bf\u00d7\u00f7\u0080-\u009f\u2018-\u203a](?=[^\W\d_])"
    r"|(?<![^\W_])[\u00a1-\u00a9\u00ac-\u00b1\u00b4-\u00b8\u00bc-\u00be](?=[^\W\d_]{2})"
    r"|[A-Za-z][\u0370-\u05ff]|[\u0370-\u05ff][A-Za-z]|\d[ \u00a0]?[\u0370-\u05ff](?![^\W\d_])"
)
"""Signs inside words or before them, scripts mixed within a word, and one foreign letter behind a number."""


def _misread_words(head: bytes, page: str) -> int:
    """Number of places that no language has or the page cannot decode; 0 for code pages of several bytes."""
    if not _SINGLE_BYTES.match(page):
        return 0
    text = head[: 1 << 16].decode(page, errors="replace")
    return len(_MISREAD.findall(text)) + text.count("\ufffd")


def _language(head: bytes, page: str) -> str:
    words = dict.fromkeys(re.findall(r"[^\W\d_]{3,}", head.decode(page, errors="replace").lower()))
    return str(py3langid.classify(" ".join(list(words)[:2_000]))[0])


def _share_of(head: bytes, page: str, letters: str) -> float:
    """Share of some letters in the text that is not ASCII; 0 where the text cannot be decoded."""
    try:
        text = head[: head.rfind(b"\n") + 1].decode(page)
    except UnicodeDecodeError:
        return 0.0
    marked = re.sub(r"[\x00-\x7f]", "", text)
    return len(re.findall(letters, marked)) / max(1, len(marked))


def _latin_page(head: bytes) -> tuple[str, str]:
    """The Windows code page of a text in Latin letters, and its language: western, central European or Turkish."""
    languages = {page: _language(head, page) for page in ("cp1252", "cp1250", "cp1254")}
    errors = {page: _misread_words(head, page) for page in ("cp1252", "cp1250")}
    if errors["cp1250"] < 0.5 * errors["cp1252"]:
        return "cp1250", languages["cp1250"]
    western = languages["cp1252"]
    has_turkish = bool(re.search(rb"[\xf0\xfe\xde\xd0]", head)) and western != "is"  # icelandic letters in cp1252
    if (
        western == "tr"
        or (western not in _WESTERN and languages["cp1254"] == "tr")
        or (has_turkish and languages["cp1250"] not in _CENTRAL)
    ):
        return "cp1254", "tr"
    if western in _CENTRAL or (western not in _WESTERN and languages["cp1250"] in _CENTRAL):
        return "cp1250", languages["cp1250"]
    return "cp1252", western


def _decoded(head: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding)(errors="replace").decode(head).removeprefix("\ufeff")


def _lines(text: str, *, is_whole: bool) -> list[str]:
    lines = re.split(r"\r*\n|\r", text)
    if not is_whole and len(lines) > 1:
        lines.pop()
    return [line for line in lines if line.strip()][:2000]


def _is_sequence_text(lines: Sequence[str]) -> bool:
    """True where every line is a user and then a number of items that differs from line to line, by blanks."""
    parts = [line.split() for line in lines[:200]]
    plain = all(re.fullmatch(r"[\w-]+", part) and any(map(str.isdigit, part)) for row in parts for part in row[:20])
    return plain and len({len(row) for row in parts}) > 3 and min(map(len, parts)) >= 2


@dataclass(frozen=True)
class _Cut:
    """Lines divided by one delimiter."""

    delimiter: str
    rows: list[list[str]]
    num_columns: int
    first: int
    """First line with that many fields."""
    share: float
    """Share of the lines from there on that have that many fields."""

    @property
    def score(self) -> float:
        evenness = self.share**2 * math.log2(1 + self.num_columns)
        return evenness * (0.6 if self.first else 1.0) * (0.5 if self.delimiter == " " else 1.0)


def split_fields(lines: Sequence[str], delimiter: str, *, quoting: bool = True, escape: str = "") -> list[list[str]]:
    """The fields of every line on its own."""
    if len(delimiter) > 1:
        lines, delimiter = [line.replace(delimiter, "\x1f") for line in lines], "\x1f"
    if not quoting:
        return [line.split(delimiter) for line in lines]
    rows: list[list[str]] = []
    for line in lines:
        reader = csv.reader([line], delimiter=delimiter, escapechar=escape or None, doublequote=not escape)
        rows.append(next(reader, []))
    return rows


def _cut(lines: Sequence[str], delimiter: str, **quotes: Any) -> _Cut | None:
    rows = split_fields(lines, delimiter, **quotes)
    counts = Counter(len(row) for row in rows if len(row) > 1)
    if not counts:
        return None
    num_columns = counts.most_common(1)[0][0]
    wide = max(counts)
    if counts[wide] == 1 and len(rows[0]) == wide:  # rows lack fields that the header has
        num_columns = wide
    fits = [len(row) == num_columns or (len(row) == num_columns - 1 and rows[-1][-1:] == [""]) for row in rows]
    first = next(place for place, fit in enumerate(fits) if fit)
    fitting = [len(row) == num_columns for row in rows[first:]]
    return _Cut(delimiter, rows, num_columns, first, sum(fitting) / len(fitting))


def _cut_across_lines(lines: Sequence[str], delimiter: str) -> _Cut | None:
    """Records whose quoted fields may hold line breaks; none where no quote stays open at the end of a line."""
    if len(delimiter) > 1 or not any(line.count('"') % 2 for line in lines):
        return None
    escape = "\\" if any('\\"' in line for line in lines) else ""
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, escapechar=escape or None,
                        doublequote=not escape)  # fmt: skip
    rows = list(reader)[:-1] or []
    counts = Counter(len(row) for row in rows if len(row) > 1)
    if not counts or not any("\n" in cell for row in rows for cell in row):
        return None
    num_columns = counts.most_common(1)[0][0]
    first = next(place for place, row in enumerate(rows) if len(row) == num_columns)
    fitting = [len(row) == num_columns for row in rows[first:]]
    return _Cut(delimiter, rows, num_columns, first, sum(fitting) / len(fitting))


def _delimited(path: str, lines: list[str], settings: dict[str, Any], remarks: dict[str, str]) -> TextLayout:
    separator = ""
    if re.fullmatch(r"(?i)sep=.", lines[0].strip("\r\n")):
        separator, lines = lines[0].strip("\r\n")[4:], lines[1:]
    if any(line.startswith("#") for line in lines) and not _is_marked_header(lines):
        plain = [line for line in lines if not line.startswith("#")]
        if len(plain) < len(lines) <= 2 * len(plain) + 20 and plain:
            lines = plain
            settings["comment"] = "#"
            remarks["comment"] = "likely: some lines begin with it"
    candidates = (separator,) if separator else _DELIMITERS
    cuts = [cut for delimiter in candidates if (cut := _cut(lines, delimiter))]
    if not cuts:
        raise DataError(
            f"{path}: no delimiter divides its lines into columns; the first line is {''.join(lines[:1])[:80]!r}; "
            "expected CSV, TSV, JSON Lines or Parquet"
        )
    best = max(cuts, key=lambda cut: cut.score)
    whole = [cut for delimiter in candidates if (cut := _cut_across_lines(lines, delimiter))]
    across = max(whole, key=lambda cut: cut.score, default=None)
    if across is not None and across.score > best.score + 0.05:
        best = across
        settings["multiline"] = True
        remarks["multiline"] = "sure: quoted fields hold line breaks"
    best = best if across is best else _quoting(lines, best, settings, remarks)
    if best.delimiter != "," and not separator:
        settings["delimiter"] = best.delimiter
        remarks["delimiter"] = f"{'sure' if best.share > 0.98 else 'likely'}: {best.share:.0%} of the rows have " + (
            f"{best.num_columns} fields by it"
        )
    if best.first:
        settings["skip_lines"] = best.first
        remarks["skip_lines"] = f"likely: the table begins at {lines[best.first][:40]!r}"
    rows = best.rows[best.first :]
    rows = _without_blank_rows(rows, best.first, settings, remarks)
    if not _has_header(rows):
        settings["header"] = False
        remarks["header"] = "likely: the first line looks like the others"
    width = len(rows[0])
    short = sum(1 < len(row) < width for row in rows[1:]) / max(1, len(rows))
    if short > 0.005 and "multiline" not in settings and not any('"' in line for line in lines[:500]):
        settings["ragged"] = True
        remarks["ragged"] = f"likely: {short:.0%} of the rows lack fields at their end"
    return TextLayout({"format": "csv", **settings}, remarks, width)


def _without_blank_rows(
    rows: list[list[str]], first: int, settings: dict[str, Any], remarks: dict[str, str]
) -> list[list[str]]:
    """Rows without those at their beginning whose fields are all empty."""
    num_blank = next((place for place, row in enumerate(rows) if any(cell.strip() for cell in row)), 0)
    if num_blank:
        settings["skip_lines"] = first + num_blank
        remarks["skip_lines"] = "sure: the lines before the header are empty"
    return rows[num_blank:]


def _is_marked_header(lines: Sequence[str]) -> bool:
    """True where the first line names the columns and begins with `#`, as no other line does."""
    if lines[0].startswith("#,"):
        return True
    if not lines[0].startswith("#") or any(line.startswith("#") for line in lines[1:]) or len(lines) < 2:
        return False
    alike = [d for d in _DELIMITERS if 1 < len(lines[0].split(d)) == len(lines[1].split(d))]
    return any(is_known_name(word.strip("# ")) for d in alike if d != " " for word in lines[0].split(d)[:1])


def _quoting(lines: Sequence[str], best: _Cut, settings: dict[str, Any], remarks: dict[str, str]) -> _Cut:
    """The rows by the way of quoting that divides them most evenly."""
    if not any('"' in line for line in lines):
        return best
    if any('\\"' in line for line in lines):
        escaped = _cut(lines, best.delimiter, escape="\\")
        if escaped and escaped.share >= best.share:
            settings["escape"] = "\\"
            remarks["escape"] = 'sure: quotes are written as \\"'
            best = escaped
    bare = _cut(lines, best.delimiter, quoting=False)
    if bare and bare.share > best.share + 0.01:
        settings["quoting"] = False
        remarks["quoting"] = f"likely: {bare.share:.0%} of the rows have {bare.num_columns} fields without quoting"
        return bare
    return best


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """True where the first row names the columns: no numbers, no empty or repeated words, unlike the rows below."""
    first, rest = rows[0], rows[1:200]
    words = [cell.strip() for cell in first]
    if sum(map(is_known_name, words)) >= min(2, len(words)):
        return True
    if any(_NUMBER.fullmatch(word) for word in words) or any(re.match(r"\d{4}-\d\d-\d\d", word) for word in words):
        return False
    named = all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", word) for word in words)
    snake = named and any("_" in word for word in words) and not any(set(words) & set(row) for row in rest)
    if snake or not rest:
        return True
    for place, word in enumerate(words):
        below = [row[place].strip() for row in rest if place < len(row) and row[place].strip()]
        if below and word and sum(bool(_NUMBER.fullmatch(cell)) for cell in below) > 0.8 * len(below):
            return True
        if word and word in below:
            return False
    return any(map(is_known_name, words))
