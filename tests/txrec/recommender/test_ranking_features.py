"""What the ranker is told about candidates."""

from dataclasses import replace

import numpy as np
import pytest

from txrec.model.history_features import History
from txrec.recommender.ranking_features import BY_VECTORS
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Request
from txrec.schema import EventKind


@pytest.mark.parametrize("wording", [False, True])
def test_learnt_columns_are_those_that_other_vectors_would_change(tiny_bundle, wording: bool) -> None:
    recommender = Recommender.open(tiny_bundle)
    found = recommender.retrieve([Request(user_id="u1", query="lamp", top_k=20)])[0]
    evidence = replace(recommender.evidence, wording=wording)
    told = evidence.features([found], [20])
    assert told.shape == (20, evidence.num_features)
    ranks, scores = found.ranks.copy(), found.scores.copy()
    for column in [column for column, name in enumerate(evidence.sources) if name in BY_VECTORS]:
        ranks[:, column], scores[:, column] = 0, np.nan
    text = None if evidence.item_text is None else -evidence.item_text
    other = replace(evidence, item_vectors=-evidence.item_vectors, item_text=text)
    changed = np.flatnonzero((other.features([replace(found, ranks=ranks, scores=scores)], [20]) != told).any(axis=0))
    expected = [column for column in evidence.learnt_columns if told[:, column].any()]
    assert changed.tolist() == sorted(expected)
    assert len(expected) >= 5


@pytest.mark.parametrize("wording", [False, True])
def test_a_batch_is_told_what_each_of_its_requests_is_told_alone(tiny_bundle, wording: bool) -> None:
    recommender = Recommender.open(tiny_bundle)
    evidence = replace(recommender.evidence, wording=wording)
    users = recommender.known_users()
    asked = [Request(user_id=users[0]), Request(query="lamp"), Request(user_id=users[1], query="chair"), Request()]
    found, counts = recommender.retrieve(asked), [5, 7, 3, 6]
    alone = [evidence.features([one], [count]) for one, count in zip(found, counts, strict=True)]
    np.testing.assert_array_equal(evidence.features(found, counts), np.concatenate(alone))


def test_what_a_user_did_with_a_candidate_is_told(tiny_bundle) -> None:
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
    told = recommender.evidence.features([found[0], known], [3, 3])
    num, place, age, bought = told[:, -7:-3].T
    np.testing.assert_allclose(num, [0, 0, 0, np.log(3), np.log(2), 0], rtol=1e-6)
    np.testing.assert_allclose(place, [0, 0, 0, 1, 1 / 2, 0])
    np.testing.assert_allclose(age, [0, 0, 0, 1 / 3, 1 / 4, 0], rtol=1e-6)
    assert bought.tolist() == [0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(told[3, -2], 1.0, rtol=1e-5)  # the last one's vector is its own
