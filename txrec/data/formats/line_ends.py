r"""Line ends of carriage returns alone in files whose other lines end otherwise (`\n`, `\r\n`).

Files are put together from parts of several systems: a header line from one, rows from another. A carriage return
ends a line where all pieces of the line between them are records of as many fields as the file has columns; any other,
in quotes say, is a part of its field.
"""

import numpy as np

from txrec.data.formats.text_tables import Layout, Lines, is_record


def has_lone_returns(block: bytes) -> bool:
    """True where a carriage return is not the beginning of a line end."""
    return b"\r" in block and block.count(b"\r") > block.count(b"\r\n")


def first_line(lines: Lines, place: int, layout: Layout, quoting: bool, escape: str) -> bytes:
    """A line up to the carriage return that ends it; all of it where those in it are a part of a field.

    Args:
        lines: of the file's first block.
        place: of the line.
        layout: delimiter and encoding.
        quoting: whether `"` quotes fields.
        escape: character that escapes a quote.
    """
    line = lines.at(place)
    pieces = [piece for piece in line.split(b"\r") if piece.strip()]
    if len(pieces) < 2:
        return line
    following = lines.at(place + 1).split(b"\r")[:1] if place + 1 < len(lines) else []
    counts = {_num_fields(piece, layout, quoting=quoting) for piece in [*pieces[:2], *following]}
    whole = not quoting or is_record(pieces[0], min(counts), layout, escape)
    return pieces[0] if len(counts) == 1 and whole else line


def _num_fields(piece: bytes, layout: Layout, *, quoting: bool) -> int:
    """Number of fields of a piece, delimiters in quotes aside."""
    delimiter = layout.delimiter.encode()
    outside = b"".join(piece.split(b'"')[::2]) if quoting else piece
    return outside.count(delimiter) + 1


def split_at_returns(lines: Lines, num_columns: int, layout: Layout, quoting: bool = True, escape: str = "") -> Lines:
    r"""The lines with those cut that hold several records between carriage returns.

    Args:
        lines: of a block, each ended by `\n`.
        num_columns: fields of a record.
        layout: delimiter and encoding.
        quoting: whether `"` quotes fields.
        escape: character that escapes a quote.
    """
    if num_columns < 2 or not has_lone_returns(lines.block):
        return lines
    block, starts, ends = bytearray(lines.block), [], []
    for start, end in zip(lines.starts.tolist(), lines.ends.tolist(), strict=True):
        cuts = _cuts(lines.block[start:end], num_columns, layout, quoting=quoting, escape=escape)
        for cut in cuts:
            block[start + cut : start + cut + 1] = b"\n"
        starts += [start, *(start + cut + 1 for cut in cuts)]
        ends += [*(start + cut for cut in cuts), end]
    cut_lines = Lines(bytes(block), np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))
    filled = np.array([bool(cut_lines.at(index).strip()) for index in range(len(cut_lines))], dtype=bool)
    return Lines(cut_lines.block, cut_lines.starts[filled], cut_lines.ends[filled])


def _cuts(line: bytes, num_columns: int, layout: Layout, *, quoting: bool, escape: str) -> list[int]:
    """Places of the carriage returns that end lines; none where a piece between them is no record."""
    if b"\r" not in line[:-1]:
        return []
    places = [place for place, byte in enumerate(line[:-1]) if byte == ord("\r")]
    bounds = zip([-1, *places], [*places, len(line)], strict=True)
    pieces = [line[before + 1 : after].removesuffix(b"\r") for before, after in bounds]
    for piece in filter(bytes.strip, pieces):
        count = num_columns if is_record(piece, num_columns, layout, escape) else -1
        count = count if quoting else _num_fields(piece, layout, quoting=False)
        if count != num_columns:
            return []
    return places
