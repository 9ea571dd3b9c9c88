"""What the ranker is told about candidates."""

from dataclasses import replace

import numpy as np
import pytest

from txrec.evidence import BY_VECTORS
from txrec.recommend import Recommender
from txrec.slate import Request


@pytest.mark.parametrize("wording", [False, True])
def test_learnt_columns_are_those_that_other_vectors_would_change(tiny_bundle, wording: bool) -> None:
    recommender = Recommender.open(tiny_bundle)
    found = recommender.retrieve([Request(user_id="u1", query="lamp", top_k=20)])[0]
    evidence = replace(recommender.evidence, wording=wording)
    told = evidence.features(found, 20)
    assert told.shape == (20, evidence.num_features)
    ranks, scores = found.ranks.copy(), found.scores.copy()
    for column in [column for column, name in enumerate(evidence.sources) if name in BY_VECTORS]:
        ranks[:, column], scores[:, column] = 0, np.nan
    text = None if evidence.item_text is None else -evidence.item_text
    other = replace(evidence, item_vectors=-evidence.item_vectors, item_text=text)
    changed = np.flatnonzero((other.features(replace(found, ranks=ranks, scores=scores), 20) != told).any(axis=0))
    expected = [column for column in evidence.learnt_columns if told[:, column].any()]
    assert changed.tolist() == sorted(expected)
    assert len(expected) >= 5
