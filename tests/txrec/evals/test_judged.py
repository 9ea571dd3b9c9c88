"""Judged pairs: graded NDCG by hand, and the recommender's order beside BM25's."""

from pathlib import Path

import numpy as np
import pytest

from tests.judged import judged_data
from txrec.data.judgments import Judgments
from txrec.evals.judged import by_words, graded_ndcg
from txrec.schema import Split

QUERIES = np.array([1, 1, 1, 4, 9, 9], np.int32)


def pairs(*grades: float) -> Judgments:
    grade = np.array(grades, np.float32)
    return Judgments(QUERIES[: len(grade)], np.arange(1, len(grade) + 1, dtype=np.int32), grade, (grade - 1) / 2.0)


def test_graded_ndcg_is_the_gain_of_the_order_over_the_best_gain() -> None:
    given = pairs(3, 1, 2, 1, 1, 2)
    scores = np.array([0.1, 0.9, 0.5, 0.0, 0.3, 0.2])
    discount = 1 / np.log2([2, 3, 4])
    first = (1 * discount[0] + 3 * discount[1] + 7 * discount[2]) / (
        7 * discount[0] + 3 * discount[1] + 1 * discount[2]
    )
    last = (1 * discount[0] + 3 * discount[1]) / (3 * discount[0] + 1 * discount[1])
    assert graded_ndcg(scores, given).tolist() == pytest.approx([first, 1.0, last])


def test_equal_scores_count_as_the_mean_of_their_orders() -> None:
    discount = 1 / np.log2([2, 3])
    best = 7 * discount[0] + 1 * discount[1]
    one, other = best, 1 * discount[0] + 7 * discount[1]
    given = Judgments(np.ones(2, np.int32), np.array([1, 2], np.int32), np.array([3, 1], np.float32), np.array([1, 0]))
    assert graded_ndcg(np.zeros(2), given)[0] == pytest.approx((one + other) / 2 / best)


def test_judgments_of_a_split_are_read_in_dense_ids(tmp_path: Path) -> None:
    given = Judgments.of(judged_data(tmp_path), Split.TEST)
    assert given.query.tolist() == [2, 2, 2]
    assert given.item.tolist() == [1, 2, 3]
    assert given.grade.tolist() == [3.0, 2.0, 1.0]
    assert given.share.tolist() == [1.0, 0.5, 0.0]


def test_bm25_scores_the_judged_products_of_a_query_that_training_never_saw(tmp_path: Path) -> None:
    data = judged_data(tmp_path)
    found = by_words(data, Judgments.of(data, Split.TEST))
    assert found[0] > 0
    assert found[2] == 0
