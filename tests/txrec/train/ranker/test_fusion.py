"""Fusion weights: sources that help together get weights, sources that mislead lose theirs."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tests.txrec.recommender.ranking import hand_made
from txrec.index.rank_fusion import combine, reciprocal_ranks
from txrec.index.source_registry import SOURCES
from txrec.recommender.types import Candidates
from txrec.train.ranker.fusion import MIN_REQUESTS, fit_fusion

NAMES = ("silent", "left", "right", "misleading")
RIGHT = 7


def _request(ranks: list[list[int]]) -> Candidates:
    """A request without a query for candidates 1..K with the ranks of four sources."""
    table = np.array(ranks, np.int32)
    one = hand_made.candidates()
    ids = np.arange(1, len(table) + 1, dtype=np.int32)
    scores = np.where(table > 0, 1.0, np.nan).astype(np.float32)
    return Candidates(
        **{**vars(one), "query": "", "item_idx": ids, "fused": scores[:, 0], "scores": scores, "ranks": table}
    )


def _fitted() -> dict[str, float]:
    """Fifth of two sources that agree on nothing else; a third confirms what each has first, a fourth is silent."""
    ranks = [[0, 0, 0, 10 + place] for place in range(1, RIGHT)] + [[0, 5, 5, 0], [0, 1, 0, 3], [0, 0, 1, 3]]
    ranks += [[0, place, 0, 0] for place in (2, 3, 4)] + [[0, 0, place, 0] for place in (2, 3, 4)]
    truths: list[NDArray[np.int32]] = [np.array([RIGHT], np.int32)] * MIN_REQUESTS
    return dict(fit_fusion([_request(ranks)] * MIN_REQUESTS, truths, NAMES).without_query)


def test_sources_that_agree_on_what_none_has_first_are_weighted_together() -> None:
    weights = _fitted()
    assert weights["left"] > 0
    assert weights["right"] > 0
    assert weights["misleading"] < min(weights["left"], weights["right"])


def test_searches_go_by_their_words_where_the_log_holds_too_few_to_fit_by() -> None:
    ranks = [[0, 1, 1, 1], [1, 0, 0, 0], [2, 2, 0, 0], [3, 0, 0, 0]]
    searches = [replace(_request(ranks), query="blue lamp")] * (MIN_REQUESTS - 1)
    truths: list[NDArray[np.int32]] = [np.array([1], np.int32)] * len(searches)
    names = ("lexical", "covisitation", "popularity", "dense")
    fusion = fit_fusion(searches, truths, names, {name: SOURCES[name].search_weight for name in names})
    assert fusion.without_query == {}
    weights = fusion.weights(names, has_query=True)
    order = np.argsort(-combine(reciprocal_ranks(np.array(ranks, np.int32).T), weights))
    assert order.tolist() == [1, 2, 3, 0]


def test_requests_of_a_kind_that_has_too_few_keep_the_default_weights() -> None:
    assert fit_fusion([], [], NAMES).without_query == {}
