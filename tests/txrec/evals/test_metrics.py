"""Every measure against fractions worked out by hand, and against ir-measures and scikit-learn on random lists."""

from fractions import Fraction
from math import log, log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from txrec.evals import metrics
from txrec.evals.protocol import GroundTruth

K = 4


def truth_of(rows: list[set[int]]) -> GroundTruth:
    case = np.array([c for c, row in enumerate(rows) for _ in row], np.int64)
    return GroundTruth.group(case, np.array([item for row in rows for item in row], np.int32), len(rows))


def lists(rows: list[list[int]]) -> NDArray[np.int32]:
    return np.array([row + [0] * (K - len(row)) for row in rows], np.int32)


# three cases: hits at places 2 and 4 of 3 right ones; a miss; a hit at place 1 of a short list
IDS = lists([[9, 1, 8, 2], [5, 6, 7, 8], [4]])
TRUTH = truth_of([{1, 2, 3}, {1}, {4}])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hit_rate@2", Fraction(1 + 0 + 1, 3)),
        ("precision@4", (Fraction(2, 4) + 0 + Fraction(1, 4)) / 3),
        ("recall@2", (Fraction(1, 3) + 0 + 1) / 3),
        ("recall@4", (Fraction(2, 3) + 0 + 1) / 3),
        ("mrr@1", Fraction(0 + 0 + 1, 3)),
        ("mrr", (Fraction(1, 2) + 0 + 1) / 3),
        ("map@2", (Fraction(1, 2) / 3 + 0 + 1) / 3),
        ("map", ((Fraction(1, 2) + Fraction(2, 4)) / 3 + 0 + 1) / 3),
    ],
)
def test_a_list_measure_is_the_fraction_worked_out_by_hand(name: str, expected: Fraction) -> None:
    found = metrics.means(metrics.per_case(IDS, TRUTH, (1, 2, 4)))
    assert found[name] == pytest.approx(float(expected), abs=1e-12)


def test_ndcg_is_the_discounted_gain_over_the_best_possible() -> None:
    best = 1 + 1 / log2(3) + 1 / log2(4)
    expected = [(1 / log2(3) + 1 / log2(5)) / best, 0, 1]
    assert metrics.per_case(IDS, TRUTH, (4,))["ndcg@4"] == pytest.approx(expected)


def test_a_cut_off_beyond_the_list_counts_what_is_there() -> None:
    found = metrics.per_case(IDS, TRUTH, (100,))
    assert found["precision@100"].tolist() == [0.02, 0, 0.01]
    assert found["recall@100"] == pytest.approx([2 / 3, 0, 1])


def test_padding_is_never_a_hit_and_no_truth_gives_zero() -> None:
    found = metrics.per_case(lists([[], [1]]), truth_of([{2}, set()]), (2,))
    assert all((values == 0).all() for values in found.values())


def test_auc_counts_pairs_in_order_and_half_of_the_ties() -> None:
    scores, right = np.array([3, 2, 2, 1]), np.array([True, False, True, False])
    assert metrics.auc(scores, right) == pytest.approx(float((1 + 1 + Fraction(1, 2) + 1) / 4))


def test_the_auc_of_a_list_takes_unlisted_items_for_equals_at_the_end() -> None:
    # ten items; case 0: 2, 4 and the unlisted ones hold right items, before 6, 5 and 5 / 2 of 7 wrong ones
    expected = [(6 + 5 + Fraction(5, 2)) / 21, Fraction(5, 2) / 9, Fraction(1)]
    assert metrics.catalogue_auc(IDS, TRUTH, 10) == pytest.approx([float(share) for share in expected])


def test_global_auc_compares_across_cases() -> None:
    ids, truth = lists([[1, 2], [3, 4]]), truth_of([{1}, {4}])
    scores = np.array([[0.9, 0.5, 0, 0], [0.8, 0.7, 0, 0]])
    # six items a case: right at .9 beats all ten wrong pairs, right at .7 all but the one at .8
    assert metrics.global_auc(scores, ids, truth, 6) == pytest.approx(float(Fraction(10 + 9, 20)))


def test_every_user_counts_once_however_often_he_asks() -> None:
    values, user = np.array([1.0, 0.0, 0.5, 0.0]), np.array([7, 7, 2, 7])
    assert metrics.by_user(values, user).tolist() == pytest.approx([0.5, 1 / 3])


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[list[int]], list[set[int]]]:
    cases = draw(st.integers(1, 8))
    ranked = [draw(st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True)) for _ in range(cases)]
    right = [draw(st.sets(st.integers(1, 30), min_size=1, max_size=6)) for _ in range(cases)]
    return ranked, right


SAME_AS = {
    measure @ k: f"{name}@{k}"
    for k in (3, 10)
    for measure, name in (
        (ir_measures.Success, "hit_rate"),
        (ir_measures.P, "precision"),
        (ir_measures.R, "recall"),
        (ir_measures.nDCG, "ndcg"),
        (ir_measures.RR, "mrr"),
        (ir_measures.AP, "map"),
    )
}


@given(runs())
@settings(max_examples=25)
def test_list_measures_agree_with_ir_measures(run: tuple[list[list[int]], list[set[int]]]) -> None:
    ranked, right = run
    width = max(len(row) for row in ranked)
    ids = np.array([row + [0] * (width - len(row)) for row in ranked], np.int32)
    ours = metrics.means(metrics.per_case(ids, truth_of(right), (3, 10)))
    qrels = [ir_measures.Qrel(str(c), str(item), 1) for c, row in enumerate(right) for item in row]
    scored = [
        ir_measures.ScoredDoc(str(c), str(i), 100.0 - p) for c, row in enumerate(ranked) for p, i in enumerate(row)
    ]
    theirs = ir_measures.calc_aggregate(list(SAME_AS), qrels, scored)
    assert {name: ours[name] for name in SAME_AS.values()} == pytest.approx(
        {SAME_AS[measure]: value for measure, value in theirs.items()}, abs=1e-9
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 4)), min_size=2, max_size=40))
def test_auc_agrees_with_scikit_learn_ties_and_weights_included(rows: list[tuple[int, bool, int]]) -> None:
    scores, right, weight = (np.array(column) for column in zip(*rows, strict=True))
    if right.all() or not right.any():
        assert metrics.auc(scores, right) == 0.5
    else:
        expected = sklearn_metrics.roc_auc_score(right, scores, sample_weight=weight)
        assert metrics.auc(scores, right, weight) == pytest.approx(expected)


@given(runs())
@settings(max_examples=25)
def test_catalogue_auc_agrees_with_scikit_learn_over_the_whole_catalogue(
    run: tuple[list[list[int]], list[set[int]]],
) -> None:
    ranked, right = run
    width = max(len(row) for row in ranked)
    ids = np.array([row + [0] * (width - len(row)) for row in ranked], np.int32)
    place = np.arange(width, 0, -1)
    scores = np.broadcast_to(place, ids.shape)
    dense, label = np.full((len(ids), 30), -1.0), np.zeros((len(ids), 30), bool)
    for case, (row, answers) in enumerate(zip(ranked, right, strict=True)):
        dense[case, np.array(row) - 1] = place[: len(row)]
        label[case, np.array(sorted(answers)) - 1] = True
    per_case = [sklearn_metrics.roc_auc_score(label[c], dense[c]) for c in range(len(ids))]
    assert metrics.catalogue_auc(ids, truth_of(right), 30) == pytest.approx(per_case)
    together = sklearn_metrics.roc_auc_score(label.ravel(), dense.ravel())
    assert metrics.global_auc(scores, ids, truth_of(right), 30) == pytest.approx(together)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=40))
def test_log_loss_agrees_with_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    probability, right = (np.array(column) for column in zip(*rows, strict=True))
    expected = sklearn_metrics.log_loss(right, probability, labels=[False, True])
    assert metrics.log_loss(probability, right) == pytest.approx(expected)


def test_log_loss_of_a_coin_is_log_two() -> None:
    assert metrics.log_loss(np.full(4, 0.5), np.array([True, False, True, False])) == pytest.approx(log(2))


def test_calibration_error_is_the_gap_between_promise_and_outcome() -> None:
    probability = np.repeat([0.2, 0.8], 10)
    right = np.array([True] * 2 + [False] * 8 + [True] * 5 + [False] * 5)  # .2 kept, .8 was .5
    assert metrics.calibration_error(probability, right, bins=2) == pytest.approx(0.15)


@given(st.integers(1, 12), st.integers(0, 1_000))
@settings(max_examples=25)
def test_calibration_groups_agree_with_scikit_learn(per_group: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.permutation(15 * per_group) / (15 * per_group) + rng.random() / 1e3
    right = rng.random(len(probability)) < probability
    observed, promised = calibration_curve(right, probability, n_bins=15, strategy="quantile")
    table = metrics.calibration(probability, right)
    assert table[:, 0] == pytest.approx(promised)
    assert table[:, 1] == pytest.approx(observed)
    assert metrics.calibration_error(probability, right) == pytest.approx(np.abs(observed - promised).mean())


@given(runs(), st.integers(1, 12), st.integers(0, 1_000))
@settings(max_examples=50)
def test_measures_of_all_lists_together_agree_with_scikit_learn(
    run: tuple[list[list[int]], list[set[int]]], k: int, seed: int
) -> None:
    ranked, right = run
    rng = np.random.default_rng(seed)
    ids = np.array([row + [0] * (12 - len(row)) for row in ranked], np.int32)
    listed = [item for row in ranked for item in row[:k]]
    train_count = np.append(0, rng.integers(0, 50, 30))
    vectors = np.vstack([np.zeros(4), rng.normal(size=(30, 4))]).astype(np.float32)
    vectors[1:] /= np.linalg.norm(vectors[1:], axis=1, keepdims=True)

    assert metrics.coverage(ids, 30, k) == len(set(listed)) / 30
    shown = np.sort(np.bincount(listed, minlength=31)[1:])
    lorenz = sklearn_metrics.auc(np.linspace(0, 1, 31), np.append(0, np.cumsum(shown)) / shown.sum())
    assert metrics.gini(ids, 30, k) == pytest.approx(1 - 2 * lorenz)
    popularity = (train_count[1:] + 1) / (train_count[1:] + 1).sum()
    surprise = sklearn_metrics.log_loss(listed, np.tile(popularity, (len(listed), 1)), labels=range(1, 31)) / log(2)
    assert metrics.novelty(ids, train_count, k) == pytest.approx(surprise)
    wanted = [int(train_count[item]) for row in right for item in row]
    pushed = sum(int(train_count[item]) for item in listed) / len(listed)
    expected = pushed / (sum(wanted) / len(wanted)) if sum(wanted) else 0.0
    assert metrics.popularity_bias(ids, train_count, truth_of(right), k) == pytest.approx(expected)
    apart = [
        sklearn_metrics.pairwise.cosine_distances(vectors[row[:k]])[np.triu_indices(len(row[:k]), 1)].mean()
        for row in ranked
        if len(row[:k]) > 1
    ]
    assert metrics.intra_list_diversity(ids, vectors, k) == pytest.approx(np.mean(apart) if apart else 0.0, abs=1e-5)


def test_coverage_and_gini_of_equal_and_of_lonely_lists() -> None:
    equal, lonely = lists([[1, 2], [3, 4]]), lists([[1], [1]])
    assert metrics.coverage(equal, 8, 4) == 0.5
    assert metrics.gini(equal, 4, 4) == pytest.approx(0)
    assert metrics.gini(lonely, 4, 4) == pytest.approx(3 / 4)  # (N - 1) / N is the most that N items can reach


def test_novelty_is_the_information_in_bits_of_what_is_listed() -> None:
    train_count = np.array([0, 3, 3, 7])  # with one added: 4, 4, 8 of 16
    assert metrics.novelty(lists([[1, 3]]), train_count, 4) == pytest.approx((2 + 1) / 2)


def test_popularity_bias_is_above_one_where_the_popular_is_pushed() -> None:
    train_count = np.array([0, 10, 30, 5])
    assert metrics.popularity_bias(lists([[1, 2]]), train_count, truth_of([{1}]), 4) == pytest.approx(2.0)


def test_intra_list_diversity_is_one_for_orthogonal_and_zero_for_equal_items() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    assert metrics.intra_list_diversity(lists([[1, 2]]), vectors, 4) == pytest.approx(1)
    assert metrics.intra_list_diversity(lists([[1, 3], [2]]), vectors, 4) == pytest.approx(0)
    assert metrics.intra_list_diversity(lists([[1, 2, 3]]), vectors, 4) == pytest.approx(2 / 3)
