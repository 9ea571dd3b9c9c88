"""Relevance judgments: sampling by disagreement and uncertainty, blind pooling, agreement, and export."""

import pytest

from txrec.loop.judging import Judgment, Rankings, agreement, export, num_shared, pool, select

HEAD = Rankings("lamp", 900.0, (("a", "b"), ("a", "b")), (0.9, 0.01))
DISPUTED = Rankings("tent", 5.0, (("a", "b"), ("c", "d")), (0.9, 0.01))
UNCERTAIN = Rankings("kettle", 4.0, (("a", "b"), ("a", "b")), (0.2, 0.2))
UNANSWERED = Rankings("nothing", 9_999.0, ((), ()), ())


def test_each_strategy_selects_the_query_that_it_is_for() -> None:
    sampled = [UNANSWERED, HEAD, DISPUTED, UNCERTAIN]
    assert select(sampled, "head") == HEAD
    assert select(sampled, "disagreement") == DISPUTED
    assert select(sampled, "uncertainty") == UNCERTAIN
    assert select([UNANSWERED], "head") is None


def test_disagreement_and_uncertainty_lie_between_none_and_all() -> None:
    assert HEAD.disagreement == 0.0
    assert DISPUTED.disagreement == 1.0
    assert Rankings("x", 1.0, (("a", "b"), ("b", "c")), ()).disagreement == pytest.approx(2 / 3)
    assert UNCERTAIN.uncertainty == pytest.approx(1.0)
    assert 0.0 < HEAD.uncertainty < 0.2
    assert UNANSWERED.uncertainty == 0.0


def test_the_pool_holds_every_ranking_once_in_an_order_of_each_judge() -> None:
    rankings = Rankings("x", 1.0, (tuple("abcdef"), tuple("defghi")), ())
    assert sorted(pool(rankings, "anna")) == list("abcdefghi")
    assert pool(rankings, "anna") == pool(rankings, "anna")
    assert pool(rankings, "anna") != pool(rankings, "ben")
    assert pool(rankings, "anna") != list("abcdefghi")


def test_agreement_counts_pairs_that_several_judges_graded() -> None:
    anna = Judgment("anna", "x", {"a": 3, "b": 0, "c": 2, "d": None}, 0.0)
    same = Judgment("ben", "x", {"a": 3, "b": 0, "d": 1}, 0.0)
    opposite = Judgment("ben", "x", {"a": 0, "b": 3}, 0.0)
    assert agreement([anna]) is None
    assert agreement([anna, same]) == pytest.approx(1.0)
    assert agreement([Judgment("anna", "x", {"a": 1}, 0.0), Judgment("ben", "x", {"a": 1}, 0.0)]) == 1.0
    disagreed = agreement([anna, opposite])
    assert disagreed is not None
    assert disagreed < 0.0
    assert num_shared([anna, same]) == 2


def test_the_export_has_the_mean_grade_of_each_pair_without_those_nobody_could_tell() -> None:
    anna = Judgment("anna", "x", {"a": 3, "d": None}, 0.0)
    ben = Judgment("ben", "x", {"a": 2, "b": 0}, 0.0)
    assert export([anna, ben]).to_pylist() == [
        {"query": "x", "item_id": "a", "grade": 2.5, "num_judges": 2},
        {"query": "x", "item_id": "b", "grade": 0.0, "num_judges": 1},
    ]
