import numpy as np
import pytest

from txrec.index.rank_fusion import RANK_OFFSET, Fusion, ReservedSlots, combine, fuse, reciprocal_ranks
from txrec.index.source import Hits


def hits(*ids: int) -> Hits:
    return Hits(np.array([ids], np.int32), np.linspace(1, 0.5, len(ids), dtype=np.float32)[None])


def test_an_item_that_two_sources_propose_beats_one_of_the_same_rank_from_one() -> None:
    found = fuse([hits(1, 2), hits(3, 2)], 0, np.ones(2, np.float32), 10)
    assert found.item_idx.tolist() == [2, 1, 3]
    assert np.isclose(found.fused[0], 2 / (RANK_OFFSET + 2))


def test_every_candidate_keeps_the_score_and_rank_of_each_source() -> None:
    found = fuse([hits(1, 2), hits(3, 2)], 0, np.ones(2, np.float32), 10)
    assert found.ranks.tolist() == [[2, 2], [1, 0], [0, 1]]
    assert np.isnan(found.scores[1, 1])
    assert found.scores[2, 1] == 1.0


def test_a_source_of_weight_zero_keeps_its_items_behind_all_others() -> None:
    found = fuse([hits(1, 2), hits(3, 4)], 0, np.array([1.0, 0.0], np.float32), 10)
    assert found.item_idx.tolist() == [1, 2, 3, 4]


def test_padding_is_no_candidate() -> None:
    assert fuse([hits(1, 0, 0)], 0, np.ones(1, np.float32), 10).item_idx.tolist() == [1]


def test_weights_depend_on_whether_there_is_a_query() -> None:
    fusion = Fusion(with_query={"lexical": 2.0})
    assert fusion.weights(("dense", "lexical"), True).tolist() == [1.0, 2.0]
    assert fusion.weights(("dense", "lexical"), False).tolist() == [1.0, 1.0]


def test_combining_is_the_weighted_sum_of_reciprocal_ranks() -> None:
    expected = [0.5 / (RANK_OFFSET + 1), 0.5 / (RANK_OFFSET + 4) + 2 / (RANK_OFFSET + 3)]
    reciprocal = reciprocal_ranks(np.array([[1, 4], [0, 3]], np.int32))
    assert np.allclose(combine(reciprocal, np.array([0.5, 2.0], np.float32)), expected, atol=1e-5)


def test_of_many_proposals_the_best_are_kept_and_ties_go_to_the_lower_id() -> None:
    rng = np.random.default_rng(0)
    given = [hits(*rng.permutation(3_000)[:500] + 1) for _ in range(6)]
    weights = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 0.3], np.float32)
    everything, some = fuse(given, 0, weights, 3_000), fuse(given, 0, weights, 100)
    assert np.allclose(everything.fused, combine(reciprocal_ranks(everything.ranks.T), weights))
    assert (
        everything.item_idx.tolist()
        == everything.item_idx[np.lexsort((everything.item_idx, -everything.fused))].tolist()
    )
    assert some.item_idx.tolist() == everything.item_idx[:100].tolist()
    assert some.ranks.tolist() == everything.ranks[:100].tolist()
    assert np.array_equal(some.scores, everything.scores[:100], equal_nan=True)


def test_a_reserved_place_is_for_the_last_of_many_as_well() -> None:
    given = [hits(*range(1, 401)), hits(*range(1_000, 1_400))]
    found = fuse(given, 0, np.array([1.0, 0.0], np.float32), 100, ReservedSlots(1, 2, 50))
    assert found.item_idx.tolist() == [*range(1, 49), 1_000, 1_001, *range(49, 99)]


def test_reserved_places_are_the_last_ones_and_the_rest_keeps_its_order() -> None:
    found = fuse([hits(1, 2, 3, 4, 5), hits(8, 9)], 0, np.array([1.0, 0.0], np.float32), 10, ReservedSlots(1, 1, 3))
    assert found.item_idx.tolist() == [1, 2, 8, 3, 4, 5, 9]
    assert (np.diff(found.fused) <= 0).all()


def test_a_place_that_was_earned_is_not_given_again() -> None:
    given = [hits(1, 2, 3, 4), hits(2, 9)]
    weights = np.array([1.0, 0.0], np.float32)
    assert fuse(given, 0, weights, 10, ReservedSlots(1, 1, 3)).item_idx.tolist() == [1, 2, 3, 4, 9]
    assert fuse(given, 0, weights, 10, ReservedSlots(1, 2, 3)).item_idx.tolist() == [1, 2, 9, 3, 4]


def test_more_reserved_places_than_candidates_are_all_there_are() -> None:
    given = [hits(1, 2), hits(8, 9, 7)]
    assert fuse(given, 0, np.array([1.0, 0.0], np.float32), 2, ReservedSlots(1, 5, 100)).item_idx.tolist() == [8, 9]
    assert fuse([hits(1, 2), hits(0)], 0, np.ones(2, np.float32), 2, ReservedSlots(1, 5, 100)).item_idx.tolist() == [
        1,
        2,
    ]


def test_requests_without_any_proposal_have_no_candidates() -> None:
    found = fuse([hits(), hits()], 0, np.ones(2, np.float32), 10)
    assert found.item_idx.tolist() == []
    assert found.scores.shape == (0, 2)


def test_as_many_weights_as_sources_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        fuse([hits(1), hits(2)], 0, np.ones(1, np.float32), 10)


def test_arrays_have_the_types_that_a_bundle_stores_and_a_ranker_reads() -> None:
    found = fuse([hits(1, 2), hits(3)], 0, np.ones(2, np.float32), 10)
    assert (found.ranks.dtype, found.scores.dtype, found.fused.dtype) == (np.int32, np.float32, np.float32)
    assert Fusion().weights(("dense",), True).dtype == np.float32
    assert combine(reciprocal_ranks(found.ranks.T), np.ones(2, np.float32)).dtype == np.float32


def test_combining_works_for_several_requests_at_once() -> None:
    ranks = np.array([[[1, 2], [0, 5], [1, 0]], [[0, 3], [4, 6], [1, 0]]], np.int32)
    reciprocal, weights = reciprocal_ranks(ranks), np.array([1.0, 2.0], np.float32)
    together = combine(reciprocal, weights)
    assert together.shape == (3, 2)
    assert np.allclose(together, [combine(reciprocal[:, row], weights) for row in range(3)])


def test_scores_never_rise_along_a_list_with_reserved_slots() -> None:
    given = [hits(*range(1, 9)), hits(20, 21)]
    found = fuse(given, 0, np.array([1.0, 0.0], np.float32), 10, ReservedSlots(column=1, count=2, within=4))
    assert found.item_idx[:4].tolist() == [1, 2, 20, 21]
    assert found.fused.tolist() == sorted(found.fused.tolist(), reverse=True)
    assert np.isclose(found.fused[0], 1 / (RANK_OFFSET + 1))
    assert np.allclose(found.fused[2:5], 1 / (RANK_OFFSET + 3))


def test_slots_of_two_sources_are_kept_together() -> None:
    given, weights = [hits(1, 2, 3, 4, 5), hits(8, 9), hits(6, 7)], np.array([1.0, 0.0, 0.0], np.float32)
    found = fuse(given, 0, weights, 10, ReservedSlots(1, 1, 4), ReservedSlots(2, 2, 4))
    assert set(found.item_idx[:4].tolist()) == {1, 6, 7, 8}
    crowded = fuse(given, 0, weights, 10, ReservedSlots(1, 2, 3), ReservedSlots(2, 2, 3))
    assert set(crowded.item_idx[:3].tolist()) == {8, 9, 6}
