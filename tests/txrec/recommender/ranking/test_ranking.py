"""Candidates to an order: what the ranker is given, where candidates beyond it go, and diversification's edges."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from txrec.config import RankerConfig
from txrec.model.ranker import CandidateBatch, Ranker
from txrec.recommender.ranking.ranking import Ranked, batch, by_name, candidates_needed, diversify, rank
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Candidates, Request


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def candidates(recommender: Recommender) -> list[Candidates]:
    return recommender.retrieve([Request(user_id="user-001", top_k=2), Request(query="lamp", top_k=9)])


class Scores:
    """A ranker of stated scores, the same for every request."""

    def __init__(self, num_candidates: int, scores: Sequence[float]) -> None:
        self.cfg = RankerConfig(num_candidates=num_candidates)
        self._scores = torch.tensor(scores)

    def has_learned(self, has_query: bool) -> bool:
        return True

    def parameters(self) -> Iterator[Tensor]:
        yield self._scores

    def __call__(self, batch: CandidateBatch) -> Tensor:
        return self._scores[: batch.mask.shape[1]].expand(len(batch), -1)

    def probabilities(self, scores: Tensor) -> Tensor:
        return torch.sigmoid(scores)


def by_scores(recommender: Recommender, one: Candidates, num_candidates: int, scores: Sequence[float]) -> Ranked:
    ranker = cast(Ranker, Scores(num_candidates, scores))
    return rank([one], ranker, recommender.ranking_features)[0]


def test_every_candidate_set_is_padded_to_the_largest_with_its_own_rows(
    recommender: Recommender, candidates: list[Candidates]
) -> None:
    features = recommender.ranking_features
    inputs = batch(candidates, features, num_candidates=5)
    assert inputs.mask.tolist() == [[True] * 5 + [False] * 4, [True] * 9]  # at least the slate takes part
    for row, (one, count) in enumerate(zip(candidates, (5, 9), strict=True)):
        vectors = features.item_vectors[one.item_idx[:count]]
        np.testing.assert_array_equal(inputs.items[row, :count].numpy(), vectors)
        assert np.abs(vectors).sum() > 1
        assert not inputs.items[row, count:].any()
        np.testing.assert_array_equal(inputs.features[row, :count].numpy(), features.compute([one], [count]))
        assert not inputs.features[row, count:].any()
        np.testing.assert_array_equal(inputs.request[row].numpy(), features.request_features(one))
        np.testing.assert_array_equal(inputs.state[row].numpy(), one.state)
        np.testing.assert_array_equal(inputs.query[row].numpy(), one.query_vector)


def test_candidates_that_the_ranker_did_not_see_follow_below_its_least(
    recommender: Recommender, candidates: list[Candidates]
) -> None:
    one = candidates[0]
    assert len(one) > 8
    found = by_scores(recommender, one, 5, [0.0, 2.0, -1.0, 1.0, -2.0])
    assert found.order.tolist() == [1, 3, 0, 2, 4, *range(5, len(one))]
    assert found.by_ranker is True
    chances = torch.sigmoid(torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])).numpy()
    np.testing.assert_allclose(found.scores[:5], chances, rtol=1e-6)
    below = one.fused[5:] / one.fused[0] * chances[-1]
    np.testing.assert_allclose(found.scores[5:], below, rtol=1e-5)
    assert found.scores.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()


def test_equal_scores_keep_retrieval_order(recommender: Recommender, candidates: list[Candidates]) -> None:
    scores = [0.5] * 20 + [1.0] + [0.5] * 20
    found = by_scores(recommender, candidates[0], 30, scores)
    count = min(30, len(candidates[0]))
    assert found.order[:count].tolist() == [20, *range(20), *range(21, count)]


def test_without_a_ranker_the_order_is_that_of_retrieval(
    recommender: Recommender, candidates: list[Candidates]
) -> None:
    (found,) = rank(candidates[:1], None, recommender.ranking_features)
    assert found.order.tolist() == list(range(len(candidates[0])))
    assert found.scores.tolist() == candidates[0].fused.tolist()
    assert found.by_ranker is False


def test_an_order_changed_by_names_is_still_that_of_the_ranker(recommender: Recommender) -> None:
    item_id = str(recommender.catalogue.item_ids[7])
    (one,) = recommender.retrieve([Request(query=item_id, top_k=5)])
    for by_ranker in (True, False):
        before = Ranked(np.arange(len(one))[::-1].copy(), one.fused, by_ranker)
        after = by_name(before, one, recommender.ranking_features)
        assert after.order.tolist() != before.order.tolist()
        assert one.item_idx[after.order[0]] == 7
        assert after.by_ranker is by_ranker


def ranked(count: int, by_ranker: bool = True) -> Ranked:
    return Ranked(np.arange(count), np.linspace(1, 0, count).astype(np.float32), by_ranker)


def test_two_candidates_keep_their_order_however_diverse_the_slate_shall_be() -> None:
    for count in (1, 2):
        found = diversify(ranked(count), np.eye(2, dtype=np.float32)[:count], 1.0, count)
        assert found.order.tolist() == list(range(count))


def test_of_three_candidates_the_copy_of_the_first_comes_last() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    for by_ranker in (True, False):
        found = diversify(ranked(3, by_ranker), vectors, 0.9, count=3)
        assert found.order.tolist() == [0, 2, 1]
        assert found.order.dtype == np.int64
        assert found.by_ranker is by_ranker


def test_no_diversity_returns_the_order_itself() -> None:
    order = ranked(3)
    assert diversify(order, np.eye(3, dtype=np.float32), 0.0, 3) is order


def test_a_short_slate_chooses_among_fifty_candidates_and_a_long_one_among_four_per_place() -> None:
    for count, pool in ((3, 50), (20, 80)):
        vectors = np.zeros((90, 2), np.float32)
        vectors[:, 0] = 1.0
        vectors[pool - 1] = vectors[pool] = (0.0, 1.0)  # the last candidate of the pool, and the first beyond
        found = diversify(ranked(90), vectors, 1.0, count)
        assert found.order[:2].tolist() == [0, pool - 1]
        assert pool not in found.order[:count]


def test_a_diverse_slate_needs_more_candidates_than_it_has_places() -> None:
    assert candidates_needed(Request(top_k=20)) == 20
    assert candidates_needed(Request(top_k=20, diversity=0.1)) == 80
    assert candidates_needed(Request(top_k=5, diversity=1.0)) == 50


def test_nothing_found_is_an_empty_order(recommender: Recommender, candidates: list[Candidates]) -> None:
    empty = candidates[0].first(0)
    (found,) = rank([empty], recommender.ranker, recommender.ranking_features)
    assert found.order.tolist() == found.scores.tolist() == []
    assert found.by_ranker is False
    both = rank([empty, candidates[1]], recommender.ranker, recommender.ranking_features)
    assert [one.by_ranker for one in both] == [False, True]
