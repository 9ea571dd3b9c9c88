"""Judged pairs: graded NDCG by hand, and the recommender's order beside BM25's."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.judged import judged_bundle, judged_data
from txrec.config import EvaluateConfig
from txrec.data.judgments import Judgments
from txrec.evals.judged import by_recommender, by_words, graded_ndcg, judged
from txrec.recommender.recommender import Recommender, Request
from txrec.schema import Split

QUERIES = np.array([1, 1, 1, 4, 9, 9], np.int32)


def pairs(*grades: float) -> Judgments:
    grade = np.array(grades, np.float32)
    return Judgments(
        QUERIES[: len(grade)],
        np.arange(1, len(grade) + 1, dtype=np.int32),
        grade,
        ((grade - 1) / 2.0).astype(np.float64),
    )


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


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("judged")
    return Recommender.open(judged_bundle(folder / "bundle", judged_data(folder)))


def test_judged_products_are_ordered_as_a_list_of_the_caller_is(recommender: Recommender, tmp_path: Path) -> None:
    data = judged_data(tmp_path)
    scores = by_recommender(recommender, data, Judgments.of(data, Split.TEST))
    keys = data.items["item_id"].to_pylist()
    slate = recommender.rank_items(keys, Request(query="lamps"))
    assert [keys[row] for row in np.argsort(-scores, kind="stable")] == [item.item_id for item in slate.items]


def test_a_bundle_of_other_data_is_asked_by_raw_ids_and_what_it_does_not_know_is_last(
    recommender: Recommender, tmp_path: Path
) -> None:
    data = judged_data(tmp_path)
    own = by_recommender(recommender, data, Judgments.of(data, Split.TEST))
    items = data.items.take([2, 0, 1]).to_pylist()
    items[2]["item_id"] = "sku-9"  # was sku-2
    other = data.altered(items=pa.Table.from_pylist(items, schema=data.items.schema))
    given = Judgments(np.full(3, 2, np.int32), np.array([1, 2, 3], np.int32), np.ones(3, np.float32), np.ones(3))
    found = by_recommender(recommender, other, given)
    assert (found[1] > found[0]) == (own[0] > own[2])  # sku-1 and sku-3
    assert np.isfinite(found[:2]).all()
    assert found[2] == -np.inf
    nothing = Judgments(given.query[2:], given.item[2:], given.grade[2:], given.share[2:])
    assert by_recommender(recommender, other, nothing).tolist() == [-np.inf]


def test_judged_figures_stand_beside_bm25_and_the_bundle_in_production(
    recommender: Recommender, tmp_path: Path
) -> None:
    data, cfg = judged_data(tmp_path), EvaluateConfig(bootstrap=50, relevant_grade=3.0)
    found = judged({"test": recommender, "production": recommender}, data, Split.TEST, cfg)
    assert (found["num_pairs"], found["num_queries"]) == (3, 1)
    assert found["production"] == found["test"]
    assert found["comparisons"]["production"]["mean"] == 0
    interval = found["intervals"]["test"]["ndcg@10"]
    assert interval["low"] <= found["test"]["ndcg@10"] <= interval["high"]
    over = found["test"]["ndcg@10"] - found["baselines"]["bm25"]["ndcg@10"]
    assert found["comparisons"]["bm25"]["mean"] == pytest.approx(over)
    assert judged({"test": recommender}, data, Split.VALIDATION, cfg) == {}
