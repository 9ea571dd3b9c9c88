"""Bisection of blocks of lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from txrec.data.formats.bisection import bisect_failures


@given(count=st.integers(0, 60), bad=st.sets(st.integers(0, 59)), smallest=st.integers(1, 5))
def test_every_line_is_parsed_or_refused_once_and_in_order(count: int, bad: set[int], smallest: int) -> None:
    handled: list[int] = []
    refused: list[int] = []

    def parse(lines: NDArray[np.int64]) -> bool:
        if bad & set(lines.tolist()):
            return False
        handled.extend(lines.tolist())
        return True

    def fail(lines: NDArray[np.int64]) -> None:
        assert len(lines) <= smallest
        assert bad & set(lines.tolist())
        handled.extend(lines.tolist())
        refused.extend(lines.tolist())

    bisect_failures(np.arange(count), parse, fail, smallest)
    assert handled == list(range(count))
    assert bad & set(range(count)) <= set(refused)
    if smallest == 1:
        assert set(refused) == bad & set(range(count))


@pytest.mark.parametrize("count", [64, 1_000])
def test_one_bad_line_costs_few_calls(count: int) -> None:
    calls = []

    def parse(lines: NDArray[np.int64]) -> bool:
        calls.append(len(lines))
        return 7 not in lines

    bisect_failures(np.arange(count), parse, lambda lines: None)
    assert len(calls) <= 2 * np.ceil(np.log2(count)) + 1
