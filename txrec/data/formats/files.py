"""Files and archives, local or in object storage: search, decompression, blocks of whole lines.

A plain text file is cut into byte ranges that are read independently of each other; a packed one (.gz .bz2 .xz .zst
.zip .tgz) is one stream. A range owns the lines that begin inside it. Blocks are tens of megabytes, so memory stays
bounded whatever the size of a file.
"""

import bz2
import codecs
import fnmatch
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from txrec import objects
from txrec.errors import DataError

BLOCK_BYTES = 32 << 20
"""Text parsed at once."""
RANGE_BYTES = 64 << 20
"""Plain files are cut into ranges of this size."""
_HIDDEN = (".", "_")
_STREAMS = (".gz", ".bz2", ".xz", ".zst")
_ARCHIVES = (".zip", ".tgz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
_DAMAGE = (
    EOFError, OSError, RuntimeError, NotImplementedError, UnicodeError, pa.ArrowException, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip
"""Raised where a file or its packing cannot be read; RuntimeError by encrypted archives."""


@dataclass(frozen=True)
class File:
    """One file found under a source's path."""

    path: str
    """Absolute path or full URI."""
    size: int
    """Bytes as it lies."""
    changed_ns: int
    """Last change, nanoseconds since 1970."""

    @property
    def packed(self) -> bool:
        """Compressed or archived: one stream, no byte ranges."""
        return _archive_of(self.path)[0].partition("?")[0].endswith((*_STREAMS, *_ARCHIVES))

    @property
    def is_archive(self) -> bool:
        """True where the file holds other files."""
        return _archive_of(self.path)[0].partition("?")[0].endswith(_ARCHIVES)

    @property
    def num_text_bytes(self) -> int:
        """Guess of the size as plain text; text packs about one to six, Parquet one to four."""
        return self.size * (6 if self.packed else 4 if ".parquet" in self.path else 1)


def _archive_of(path: str) -> tuple[str, str]:
    """A path and the member of its archive (`a.zip::events.csv`); no member = empty."""
    file, mark, member = path.rpartition("::")
    return (file, member) if mark else (path, "")


def first_bytes(path: str, num_bytes: int = 1 << 16) -> bytes:
    """The first bytes of a file's text, with its line ends as they are.

    Raises:
        DataError: the packing is damaged.
    """
    try:
        return next((chunk for _, chunks in _members(path, num_bytes) for chunk in chunks), b"")
    except _DAMAGE as error:
        raise _damaged(path, "file", error) from error


def _damaged(path: str, what: str, error: Exception) -> DataError:
    if "encrypted" in str(error) or "password" in str(error):
        return DataError(f"{path}: the archive is protected by a password; unpack it and name the files in it")
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
        return DataError(f"{path}: is no gzip file, whatever its name; remove .gz from its name, or export it again")
    return DataError(f"{path}: the {what} is damaged ({error}); fetch or export it again")


def members(path: str) -> list[str]:
    """Names of the files in an archive, without those that file systems leave behind.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        with open_random(path) as raw:
            handle: Any = raw
            if _is_empty_zip(raw):
                return []
            if path.partition("?")[0].endswith(".zip"):
                with zipfile.ZipFile(handle) as archive:
                    names = [one.filename for one in archive.infolist() if not one.is_dir()]
            else:
                with tarfile.open(fileobj=handle) as archive:
                    names = [entry.name for entry in archive if entry.isfile()]
    except _DAMAGE as error:
        raise _damaged(path, "archive", error) from error
    return [name for name in names if not _is_litter(name)]


def _is_empty_zip(handle: pa.NativeFile) -> bool:
    """True for an archive of nothing but its end."""
    if handle.size() >= _SMALLEST_ZIP:
        return False
    start = handle.read(4)
    handle.seek(0)
    return bool(start == b"PK\x05\x06")


_SMALLEST_ZIP = 98
"""Bytes of an archive with one empty file."""


def folder_columns(path: str) -> dict[str, str]:
    """Columns that the folders of a path name, as Hive writes them (`day=2024-05-01/`); empty for none."""
    parts = [part.partition("=") for part in path.split("/")[:-1]]
    named = {name: unquote(value) for name, mark, value in parts if mark and name.isidentifier()}
    return {name: "" if value == "__HIVE_DEFAULT_PARTITION__" else value for name, value in named.items()}


def resolve(root: str, path: str) -> str:
    """A source's path under `data.root`, unless it is absolute or a URI itself. A URI's `?options` stay at its end."""
    if "://" in path or path.startswith("/"):
        return path
    base, mark, options = root.partition("?")
    return f"{base.rstrip('/')}/{path}{mark}{options}"


def find(root: str, path: str) -> list[File]:
    """All files that a path, directory or glob names, in the order of their names.

    Raises:
        DataError: nothing is there; says where it looked and what lies next to it.
    """
    full, member = _archive_of(resolve(root, path))
    try:
        system, inner = _filesystem(full)
        infos = _matches(system, inner)
    except OSError as error:
        raise DataError(f"{full}: cannot be listed: {error}") from error
    if not infos:
        raise DataError(_nothing_there(system, full, inner))
    options = full[full.index("?") :] if "?" in full else ""
    scheme = full.partition("://")[0] + "://" if "://" in full else ""
    options += f"::{member}" if member else ""
    return [File(f"{scheme}{info.path}{options}", info.size, info.mtime_ns or 0) for info in infos]


def _filesystem(path: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in path:
        return pafs.LocalFileSystem(), str(Path(path).absolute())
    return objects.arrow_filesystem(path)


def _matches(system: pafs.FileSystem, inner: str) -> list[pafs.FileInfo]:
    if not any(mark in inner for mark in "*?["):
        info = system.get_file_info(inner)
        if info.type == pafs.FileType.File:
            return [info]
        if info.type != pafs.FileType.Directory:
            return []
        return _inside(system, inner, "*") or _inside(system, inner, "**/*")
    fixed = inner[: min(inner.index(mark) for mark in "*?[" if mark in inner)].rpartition("/")[0]
    return _inside(system, fixed, inner[len(fixed) + 1 :])


def _inside(system: pafs.FileSystem, folder: str, pattern: str) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(folder, recursive="/" in pattern or "**" in pattern, allow_not_found=True)
    depth = None if "**" in pattern else pattern.count("/")
    members = []
    for info in system.get_file_info(selector):
        name = info.path[len(folder) :].lstrip("/")
        fits = fnmatch.fnmatch(name, pattern.replace("**/", "*")) and (depth is None or name.count("/") == depth)
        if info.type == pafs.FileType.File and fits and not info.base_name.startswith(_HIDDEN):
            members.append(info)
    return sorted(members, key=lambda info: str(info.path))


def _nothing_there(system: pafs.FileSystem, full: str, inner: str) -> str:
    if system.get_file_info(inner.rstrip("/")).type == pafs.FileType.Directory:
        return f"{full}: the folder holds no file that can be read; expected CSV, JSON Lines or Parquet files in it"
    folder = inner.rstrip("/").rpartition("/")[0]
    siblings = system.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    names = sorted(info.base_name for info in siblings)[:12]
    hint = f"{folder} holds {', '.join(names)}" if names else f"{folder} is empty or not there"
    return f"{full}: no such file; {hint}; check data.root and the source's path"


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file.

    Raises:
        DataError: it is none, or is damaged.
    """
    try:
        with open_random(path) as handle:
            yield pq.ParquetFile(handle)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}; is format right?") from error


@contextmanager
def open_random(path: str) -> Iterator[pa.NativeFile]:
    """Opens a file for random access (Parquet, byte ranges)."""
    system, inner = _filesystem(_archive_of(path)[0])
    with system.open_input_file(inner) as handle:
        yield handle


def lines(
    path: str, encoding: str = "utf-8", start: int = 0, end: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[str, bytes]]:
    r"""Yields (member, block): blocks of whole lines ended by `\n`, without a byte-order mark.

    Args:
        path: a text file, packed or not.
        encoding: UTF-16 and UTF-32 are turned into UTF-8 here; every other encoding is left to the parser.
        start: plain files: first byte of the range; only lines that begin in [start, end) are read.
        end: plain files: end of the range; None = the file's.
        block_bytes: about how many bytes a block has.

    Raises:
        DataError: the packing is damaged, e.g. a truncated gzip.
    """
    members = [("", _range(path, start, end, block_bytes))] if end is not None else _members(path, block_bytes)
    done = 0
    try:
        for name, chunks in members:
            for block in _whole_lines(_decoded(chunks, encoding), first=start == 0):
                done += len(block)
                yield name, block
    except _DAMAGE as error:
        if isinstance(error, gzip.BadGzipFile) and not done:
            raise _damaged(path, "file", error) from error
        raise DataError(
            f"{path}: damaged after {done:,} readable bytes ({error}); the file is truncated or corrupt, "
            "so an unknown number of rows is missing: fetch or export it again"
        ) from error


def _members(path: str, block_bytes: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    file, only = _archive_of(path)
    name = file.partition("?")[0]
    with open_random(path) as raw:
        handle: Any = raw
        if _is_empty_zip(raw):
            return
        if name.endswith(".zip"):
            with zipfile.ZipFile(handle) as archive:
                members = [one for one in archive.infolist() if not (one.is_dir() or _is_litter(one.filename))]
                _check_member(path, only, [one.filename for one in members])
                for member in members:
                    if only in ("", member.filename):
                        yield member.filename, _reads(archive.open(member), block_bytes)
        elif name.endswith(_ARCHIVES):
            with tarfile.open(fileobj=handle) as archive:
                for entry in archive:
                    content = archive.extractfile(entry) if entry.isfile() and _is_read(entry.name, only) else None
                    if content is not None:
                        yield entry.name, _reads(content, block_bytes)
        else:
            yield "", _reads(_unpacked(name, handle), block_bytes)


def _check_member(path: str, only: str, names: list[str]) -> None:
    if only and only not in names:
        raise DataError(f"{path}: no such file in the archive; it holds {', '.join(sorted(names)[:20]) or 'nothing'}")


def _is_read(name: str, only: str) -> bool:
    return not _is_litter(name) and only in ("", name)


def _is_litter(member: str) -> bool:
    """True for a file system's note in an archive (`__MACOSX/._a.csv`, `.DS_Store`, `Thumbs.db`), which is no table."""
    *folders, name = member.split("/")
    return "__MACOSX" in folders or name.startswith(("._", ".DS_Store")) or name in ("Thumbs.db", "desktop.ini")


def _unpacked(name: str, handle: Any) -> Any:
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=handle)
    if name.endswith(".bz2"):
        return bz2.BZ2File(handle)
    if name.endswith(".xz"):
        return lzma.LZMAFile(handle)
    if name.endswith(".zst"):
        return _Zstandard(handle)
    return handle


class _Zstandard(io.RawIOBase):
    """A zstd stream that says so when it ends early (Arrow's own reader ends silently)."""

    def __init__(self, handle: Any) -> None:
        self._stream = pa.CompressedInputStream(handle, "zstd")

    def read(self, size: int = -1) -> bytes:
        try:
            content: bytes = self._stream.read(size)
        except OSError as error:
            raise EOFError(str(error)) from error
        return content


def _reads(handle: Any, block_bytes: int) -> Iterator[bytes]:
    while chunk := handle.read(block_bytes):
        yield chunk


def _range(path: str, start: int, end: int | None, block_bytes: int) -> Iterator[bytes]:
    """The bytes of all lines that begin in [start, end): one byte back tells whether a line begins at `start`."""
    with open_random(path) as handle:
        position = max(0, start - 1)
        handle.seek(position)
        skipping = start > 0
        while chunk := handle.read(block_bytes):
            at = position
            position += len(chunk)
            if skipping:
                first = chunk.find(b"\n") + 1
                if first == 0:
                    continue
                chunk, at, skipping = chunk[first:], at + first, False
                if end is not None and at >= end:
                    return
            stop = -1 if end is None or position < end else chunk.find(b"\n", max(0, end - 1 - at))
            if stop >= 0:
                yield chunk[: stop + 1]
                return
            yield chunk


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """UTF-16/32 become UTF-8, because their line ends cannot be found in bytes."""
    if not encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return chunks
    return (text.encode() for text in codecs.iterdecode(chunks, encoding, errors="replace"))


def ends_in_returns(beginning: bytes) -> bool:
    """True where carriage returns alone end (almost) all lines, as in old Mac files.

    Args:
        beginning: the first bytes of the text.
    """
    sample = beginning[: 1 << 16]
    pairs = sample.count(b"\r\n")
    alone, feeds = sample.count(b"\r") - pairs, sample.count(b"\n")
    return alone > 10 * feeds


def _whole_lines(chunks: Iterator[bytes], first: bool) -> Iterator[bytes]:
    rest, returns = b"", None
    for chunk in chunks:
        if returns is None:
            returns = ends_in_returns(chunk)
        if returns:
            chunk = chunk.replace(b"\r", b"\n")  # noqa: PLW2901
        if first and chunk.startswith(codecs.BOM_UTF8):
            chunk = chunk[len(codecs.BOM_UTF8) :]  # noqa: PLW2901
        first = False
        cut = chunk.rfind(b"\n") + 1
        if cut == 0:
            rest += chunk
            continue
        yield rest + chunk[:cut]
        rest = chunk[cut:]
    if rest:
        yield rest + b"\n"
