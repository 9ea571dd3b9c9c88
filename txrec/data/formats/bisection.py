"""Bisection of blocks of lines: a block that a parser refuses is halved until the bad lines stand alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def bisect_failures(
    lines: NDArray[np.int64],
    parse: Callable[[NDArray[np.int64]], bool],
    fail: Callable[[NDArray[np.int64]], None],
    smallest: int = 1,
) -> None:
    """Parses lines in as few calls as their failures allow, in their order.

    Args:
        lines: (N,) indices of the lines.
        parse: takes some of them; False = they cannot be parsed together, and nothing was taken from them.
        fail: called with at most `smallest` lines that cannot be parsed together.
        smallest: parts of this size are not halved.
    """
    if not len(lines) or parse(lines):
        return
    if len(lines) <= smallest:
        fail(lines)
        return
    middle = len(lines) // 2
    bisect_failures(lines[:middle], parse, fail, smallest)
    bisect_failures(lines[middle:], parse, fail, smallest)
