"""What the ranker is features about candidates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from txrec.model.history_features import History
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Request
from txrec.schema import EventKind


@pytest.mark.parametrize("use_term_match", [False, True])
def test_learnt_columns_are_those_that_other_vectors_would_change(tiny_bundle: Path, use_term_match: bool) -> None:
    recommender = Recommender.open(tiny_bundle)
    found = recommender.retrieve([Request(user_id="u1", query="lamp", top_k=20)])[0]
    ranking_features = replace(recommender.ranking_features, use_term_match=use_term_match)
    features = ranking_features.compute([found], [20])
    assert features.shape == (20, ranking_features.num_features)
    ranks, scores = found.ranks.copy(), found.scores.copy()
    for column in [column for column, source in enumerate(ranking_features.sources.values()) if source.model_derived]:
        ranks[:, column], scores[:, column] = 0, np.nan
    text = None if ranking_features.item_text is None else -ranking_features.item_text
    other = replace(ranking_features, item_vectors=-ranking_features.item_vectors, item_text=text)
    changed = np.flatnonzero(
        (other.compute([replace(found, ranks=ranks, scores=scores)], [20]) != features).any(axis=0)
    )
    expected = [column for column in ranking_features.model_derived_columns if features[:, column].any()]
    assert changed.tolist() == sorted(expected)
    assert len(expected) >= 5


@pytest.mark.parametrize("use_term_match", [False, True])
def test_a_batch_is_told_what_each_of_its_requests_is_told_alone(tiny_bundle: Path, use_term_match: bool) -> None:
    recommender = Recommender.open(tiny_bundle)
    ranking_features = replace(recommender.ranking_features, use_term_match=use_term_match)
    users = recommender.known_users()
    asked = [Request(user_id=users[0]), Request(query="lamp"), Request(user_id=users[1], query="chair"), Request()]
    found, counts = recommender.retrieve(asked), [5, 7, 3, 6]
    alone = [ranking_features.compute([one], [count]) for one, count in zip(found, counts, strict=True)]
    np.testing.assert_array_equal(ranking_features.compute(found, counts), np.concatenate(alone))


def test_what_a_user_did_with_a_candidate_is_told(tiny_bundle: Path) -> None:
    recommender = Recommender.open(tiny_bundle)
    found = recommender.retrieve([Request(query="lamp"), Request(query="lamp")])
    first, second, third = found[0].item_idx[:3]
    day = 86_400_000_000
    kinds = [EventKind.PURCHASE, EventKind.CLICK, EventKind.CLICK, EventKind.SEARCH, EventKind.IMPRESSION]
    history = History(
        np.array([first, second, first, 0, third], np.int32),
        np.zeros(5, np.int32),
        np.array(kinds, np.int8),
        day * np.arange(1, 6),
    )
    known = replace(found[1], history=history, now_us=5 * day)  # after somebody of whom nothing is known
    features = recommender.ranking_features.compute([found[0], known], [3, 3])
    num, place, age, bought = features[:, -7:-3].T
    np.testing.assert_allclose(num, [0, 0, 0, np.log(3), np.log(2), 0], rtol=1e-6)
    np.testing.assert_allclose(place, [0, 0, 0, 1, 1 / 2, 0])
    np.testing.assert_allclose(age, [0, 0, 0, 1 / 3, 1 / 4, 0], rtol=1e-6)
    assert bought.tolist() == [0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(features[3, -2], 1.0, rtol=1e-5)  # the last one's vector is its own


def test_the_name_of_a_product_without_events_is_a_feature_of_its_own(tiny_bundle: Path) -> None:
    recommender = Recommender.open(tiny_bundle)
    one = recommender.retrieve([Request(query="lamp", top_k=20)])[0]
    item_idx, features = int(one.item_idx[0]), recommender.ranking_features
    columns = slice(features.num_features - 10, features.num_features - 7)  # before those of the history
    before = features.compute([one], [20])[:, columns]
    assert not before[features.activity.plain[one.item_idx[:20]] > 0].any()
    activity = replace(features.activity, plain=features.activity.plain.copy())
    activity.plain[item_idx] = 0
    found = replace(features, activity=activity).compute([one], [20])[:, columns]
    assert found[0, 2] == 1.0
    assert (found[0] > 0).all()
    np.testing.assert_array_equal(found[1:], before[1:])
