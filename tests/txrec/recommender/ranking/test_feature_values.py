"""The value of every ranker feature on a small case that can be worked out by hand."""

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest

from tests.txrec.recommender.ranking import hand_made
from tests.txrec.recommender.ranking.hand_made import TENT, check
from txrec.model.ranker import NUM_REQUEST_FEATURES, ORDER
from txrec.recommender.ranking.ranking_features import REQUEST_FEATURES, RankingFeatures
from txrec.recommender.types import Candidates


@pytest.fixture(scope="module")
def features() -> RankingFeatures:
    return hand_made.features()


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return hand_made.candidates()


@pytest.fixture
def values(features: RankingFeatures, candidates: Candidates) -> dict[str, list[float]]:
    return dict(zip(features.names, features.compute([candidates], [3]).T.tolist(), strict=True))


def test_retrieval_order_comes_first_for_the_ranker_that_starts_from_it(features: RankingFeatures) -> None:
    assert features.names[ORDER] == "retrieval_order"
    assert len(set(features.names)) == len(features.names) == features.num_features


def test_proposals_of_each_source(values: dict[str, list[float]]) -> None:
    check(
        values,
        {
            "retrieval_order": [0.0, -log(2), -log(3)],
            "lexical.proposed": [1, 0, 1],
            "lexical.rank": [1.0, 0, 3 / 4],
            "lexical.score": [1.0, 0, 0.5],
            "query_clicks.proposed": [1, 0, 0],
            "query_clicks.rank": [1.0, 0, 0],
            "query_clicks.score": [1.0, 0, 0],
            "dense.proposed": [1, 1, 0],
            "dense.rank": [1.0, 3 / 4, 0],
            "dense.score": [1.0, 0.5, 0],
            "covisitation.proposed": [0, 0, 0],
            "covisitation.rank": [0, 0, 0],
            "covisitation.score": [0, 0, 0],
            "popularity.proposed": [1, 1, 0],
            "popularity.rank": [1.0, 3 / 4, 0],
            "popularity.score": [1.0, 0.2, 0],
            "state_cosine": [0.6, 0.8, 1.0],
            "fused_score": [0.3, 0.2, 0.1],
        },
    )


def test_shares_of_clicks_are_smoothed_by_the_next_wider_ones(values: dict[str, list[float]]) -> None:
    everybody = [5.05 / 6.15, 1.05 / 6.15, 0.05 / 6.15]  # 0.05 events more per item
    similar = [(votes + 0.3 * share) / 3.3 for votes, share in zip((3, 0, 0), everybody, strict=True)]
    same = [(own + 2 * share) / 5 for own, share in zip((3, 0, 0), similar, strict=True)]
    half = [(count / 2 + 0.05) / 3.15 for count in (5, 1, 0)]
    check(
        values,
        {
            "share_all.slow": [log(share) for share in everybody],
            "share_all.plain": [log(share) for share in everybody],
            "share_all.fast": [log(share) for share in half],
            "share_similar_queries.slow": [log(share) for share in similar],
            "share_similar_queries.plain": [log(share) for share in similar],
            "share_similar_queries.fast": [
                log((votes + 0.3 * share) / 3.3) for votes, share in zip((3, 0, 0), half, strict=True)
            ],
            "share_query.slow": [log(share) for share in same],
            "share_query.plain": [log(share) for share in same],
            "share_query.fast": [
                log((own + 2 * (votes + 0.3 * share) / 3.3) / 5)
                for own, votes, share in zip((3, 0, 0), (3, 0, 0), half, strict=True)
            ],
            "clicks_query": [1, 0, 0],
            "clicks_similar_queries": [1, 0, 0],
            "clicks_and_name": [log(1 + 0.1 + 1e-3), log(1e-3), log(0.05 + 1e-3)],
        },
    )


def test_activity_price_and_text(values: dict[str, list[float]]) -> None:
    check(
        values,
        {
            "popularity.slow": [log(6), log(2), 0],
            "popularity.fast": [log(3.5), log(1.5), 0],
            "popularity.plain": [log(6), log(2), 0],
            "trend": [log(3 / 7), log(1 / 3), log(0.5 / 2)],
            "days_since_last": [log(2), log(4), log(366)],
            "days_since_first": [log(8), log(4), 0],
            "price": [log(10), 0, log(20)],
            "has_price": [1, 0, 1],
            "text_cosine": [0.8, 0, 1],
            "query_terms_in_title": [1, 0, 1],
            "title_in_query": [0.5, 0, 0.5],
            "query_trigrams_in_title": [3 / 4, 0, 3 / 4],  # no title begins with `la`,
        },
    )


def test_names_of_cold_products(values: dict[str, list[float]]) -> None:
    check(
        values,
        {
            "cold.lexical_score": [0, 0, 0.5],
            "cold.lexical_rank": [0, 0, 3 / 4],
            "cold.query_terms_in_title": [0, 0, 1],
        },
    )


def test_products_with_events_and_no_id(features: RankingFeatures, candidates: Candidates) -> None:
    """The tent came out after the training of the history model; the cold product has no events to count."""
    marked = replace(features, untrained=np.array([False, False, True, True]))
    bought_before = replace(candidates.history, item_idx=np.array([TENT, TENT], np.int32))
    scores = candidates.scores.copy()
    scores[1, list(features.sources).index("covisitation")] = 2.5
    one = replace(candidates, history=bought_before, scores=scores)
    values = dict(zip(marked.names, marked.compute([one], [3]).T.tolist(), strict=True))
    check(
        values,
        {
            "untrained": [0, 1, 0],
            "untrained.state_cosine": [0, 0.8, 0],
            "untrained.fused_score": [0, 0.2, 0],
            "untrained.covisits": [0, 2.5, 0],
            "untrained.last_item_affinity": [0, 0, 0],
            "untrained.popularity": [0, log(2), 0],
            "untrained.fast_popularity": [0, log(1.5), 0],
        },
    )


def test_products_added_to_a_catalogue_have_no_id(features: RankingFeatures, candidates: Candidates) -> None:
    shorter = replace(features, untrained=np.array([False, False]))  # of a catalogue of one product
    values = dict(zip(features.names, shorter.compute([candidates], [3]).T.tolist(), strict=True))
    assert values["untrained"] == [0, 1, 0]


def test_history_of_the_user(values: dict[str, list[float]]) -> None:
    check(
        values,
        {
            "history.events": [log(2), log(2), 0],
            "history.recency_rank": [1 / 2, 1, 0],
            "history.recency_days": [1 / 5, 1 / 3, 0],
            "history.purchased": [1, 0, 0],
            "history.last_item_affinity": [0.5, 0, 0],
            "history.last_item_cosine": [0, 1, 0.8],
            "history.same_category": [0, 1, 0],
        },
    )


def test_every_feature_is_stated_in_this_file(features: RankingFeatures) -> None:
    stated = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in features.names if f'"{name}"' not in stated] == []


def test_features_of_the_request(features: RankingFeatures, candidates: Candidates) -> None:
    found = dict(zip(REQUEST_FEATURES, features.request_features(candidates).tolist(), strict=True))
    assert len(found) == NUM_REQUEST_FEATURES
    assert found == pytest.approx(
        {
            "has_query": 1,
            "query_length": 4 / 32,
            "history_length": log(3),
            "days_since_last_event": log(3),
            "query_clicks": log(4),
            "query_similarity": 0,
        },
        abs=1e-6,
    )
