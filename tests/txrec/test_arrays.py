"""Ragged gather and NDCG, by hand."""

import math

import numpy as np
import pytest

from txrec.arrays import dcg_discounts, ndcg, ragged_gather


def test_runs_follow_one_another_and_may_be_empty() -> None:
    assert ragged_gather(np.array([5, 9, 0]), np.array([2, 0, 3])).tolist() == [5, 6, 0, 1, 2]
    assert ragged_gather(np.array([], np.int64), np.array([], np.int64)).tolist() == []


def test_discounts_are_one_over_the_logarithm_of_the_rank() -> None:
    assert dcg_discounts(3).tolist() == [1.0, 1 / math.log2(3), 0.5]


def test_ndcg_counts_relevant_items_that_were_not_retrieved() -> None:
    hit = np.array([[True, False, True], [False, True, False], [False, False, False], [False, False, False]])
    found = ndcg(hit, np.array([2, 1, 5, 0]), 3)
    best = 1 + 1 / math.log2(3)
    assert found.tolist() == pytest.approx([1.5 / best, 1 / math.log2(3), 0.0, 0.0])
    assert ndcg(hit, np.array([2, 1, 5, 0]), 1).tolist() == [1.0, 0.0, 0.0, 0.0]
