"""The best of many scores, against sorting them all."""

import numpy as np
import pytest

from txrec.index.source import best, descending


@pytest.mark.parametrize("count", [1, 99, 100, 599, 600, 607, 50_000])
@pytest.mark.parametrize("decimals", [7, 1, 0])
def test_the_best_are_those_that_sorting_finds_with_and_without_ties(count: int, decimals: int) -> None:
    rng = np.random.default_rng(count)
    scores = np.round(rng.standard_normal(count), decimals).astype(np.float32)
    ids = np.arange(1, count + 1, dtype=np.int32)
    found, values = best(ids, scores, 100, None)
    assert found.tolist() == ids[np.lexsort((ids, -scores))][:100].tolist()
    assert values.tolist() == scores[found - 1].tolist()


def test_all_scores_alike_or_all_in_one_place_are_no_trouble() -> None:
    ids = np.arange(1, 10_001, dtype=np.int32)
    same, _ = best(ids, np.zeros(10_000, np.float32), 100, None)
    assert same.tolist() == list(range(1, 101))
    head, _ = best(ids, np.arange(10_000, 0, -1, dtype=np.float32), 100, None)
    assert head.tolist() == list(range(1, 101))


def test_a_mask_holds_before_the_best_are_taken() -> None:
    ids = np.arange(1, 5_001, dtype=np.int32)
    mask = np.zeros(5_001, np.bool_)
    mask[[7, 4_000]] = True
    found, _ = best(ids, np.arange(5_000, dtype=np.float32), 100, mask)
    assert found.tolist() == [4_000, 7]


def test_the_order_is_by_score_and_among_equals_by_id() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(2_000).astype(np.int32)
    scores = np.concatenate(
        [rng.standard_normal(1_000), rng.integers(-3, 4, 994), [0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38]]
    )
    scores = scores.astype(np.float32)
    np.testing.assert_array_equal(descending(ids, scores), np.lexsort((ids, -scores)))
