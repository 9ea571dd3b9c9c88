"""Ranker features where something is missing: times, categories, queries, sources; and the counts that they rest on."""

from dataclasses import replace
from math import log, log1p
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.txrec.recommender.ranking import hand_made
from tests.txrec.recommender.ranking.hand_made import COLD, LAMP, NOW, TENT, check, items
from txrec.index.source import Title
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.query_clicks import QueryClicks
from txrec.index.training_log import FAST_HALF_LIFE_FACTOR, EventLog
from txrec.model.history_features import History
from txrec.model.ranker import NUM_REQUEST_FEATURES
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.ranking.ranking_features import REQUEST_FEATURES, TERM_MATCH, RankingFeatures
from txrec.recommender.types import Candidates
from txrec.schema import DAY_US, EventKind
from txrec.text import trigrams


@pytest.fixture(scope="module")
def features() -> RankingFeatures:
    return hand_made.features()


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return hand_made.candidates()


def history_of(*events: tuple[int, int], kind: EventKind = EventKind.CLICK) -> History:
    """A history of (item, time) pairs."""
    items, times = zip(*events, strict=True) if events else ((), ())
    count = len(events)
    return History(
        np.array(items, np.int32), np.zeros(count, np.int32), np.full(count, kind, np.int8), np.array(times, np.int64)
    )


def named(features: RankingFeatures, *requests: Candidates) -> dict[str, list[float]]:
    table = features.compute(requests, [len(one) for one in requests])
    assert table.dtype == np.float32
    return dict(zip(features.names, table.T.tolist(), strict=True))


def test_a_request_of_which_nothing_is_known_has_only_zeros(features: RankingFeatures, candidates: Candidates) -> None:
    nothing = replace(candidates, query="", history=history_of(), now_us=0)
    found = features.request_features(nothing)
    assert found.dtype == np.float32
    assert found.tolist() == [0.0] * NUM_REQUEST_FEATURES


def test_days_since_the_last_event_need_both_times(features: RankingFeatures, candidates: Candidates) -> None:
    column = REQUEST_FEATURES.index("days_since_last_event")

    def days(now_us: int, *times: int) -> float:
        one = replace(candidates, history=history_of(*((LAMP, ts) for ts in times)), now_us=now_us)
        return float(features.request_features(one)[column])

    assert days(NOW, NOW - 9 * DAY_US, NOW - 5 * DAY_US, NOW - DAY_US) == pytest.approx(log(2))
    assert days(DAY_US, 1) == pytest.approx(log(2))
    assert days(NOW, 0) == 0.0
    assert days(NOW, DAY_US, 0) == 0.0
    assert days(0, NOW) == 0.0
    assert days(NOW, NOW + DAY_US) == 0.0
    assert days(NOW) == 0.0


def test_without_sources_and_texts_what_they_would_tell_is_zero(
    features: RankingFeatures, candidates: Candidates
) -> None:
    bare = replace(features, sources={}, item_text=None, use_term_match=True)
    one = replace(candidates, scores=np.zeros((3, 0), np.float32), ranks=np.zeros((3, 0), np.int32))
    found = named(bare, one, one)
    assert not any(name.endswith((".proposed", ".rank", ".score")) for name in found)
    zero = [name for name in found if name.startswith(("cold.", "term_match", "lexical"))]
    zero += ["clicks_query", "clicks_similar_queries", "text_cosine", "history.last_item_affinity"]
    check(found, dict.fromkeys(zero, [0.0] * 6))
    everybody = [log(5.05 / 6.15), log(1.05 / 6.15), log(0.05 / 6.15)]
    check(found, {"share_query.plain": everybody * 2, "share_similar_queries.plain": everybody * 2})
    check(found, {"clicks_and_name": [log(1e-3)] * 6, "query_terms_in_title": [1, 0, 1] * 2})
    request = dict(zip(REQUEST_FEATURES, bare.request_features(one).tolist(), strict=True))
    assert (request["query_clicks"], request["query_similarity"]) == (0, 0)


def test_term_matches_are_those_of_the_lexical_source_beside_its_unscaled_score(
    features: RankingFeatures, candidates: Candidates
) -> None:
    graded = replace(features, use_term_match=True)
    table = graded.compute([candidates], [3])
    columns = [graded.names.index(name) for name in TERM_MATCH]
    assert table[:, columns[0]].tolist() == [4.0, 0.0, 2.0]
    titles = [
        Title(features.catalogue.title_tokens(item), features.catalogue.trigrams(item)) for item in (LAMP, TENT, COLD)
    ]
    expected = features.sources["lexical"].term_match("lamp", titles)
    assert expected is not None
    assert expected.any()
    np.testing.assert_allclose(table[:, columns[1:]], expected)
    without_query = graded.compute([replace(candidates, query="")], [3])
    assert not without_query[:, columns].any()


def test_recency_counts_from_the_request_and_is_greatest_without_times(
    features: RankingFeatures, candidates: Candidates
) -> None:
    lamp = history_of((TENT, NOW - 5 * DAY_US), (LAMP, NOW - 3 * DAY_US), (LAMP, NOW - DAY_US))
    found = named(
        features,
        replace(candidates, history=lamp),
        replace(candidates, history=lamp, now_us=0),
        replace(candidates, history=history_of((LAMP, NOW + DAY_US))),
    )
    check(
        found,
        {
            "history.events": [log(3), log(2), 0, log(3), log(2), 0, log(2), 0, 0],
            "history.recency_rank": [1, 1 / 3, 0, 1, 1 / 3, 0, 1, 0, 0],
            "history.recency_days": [1 / 2, 1 / 6, 0, 1, 1, 0, 1, 0, 0],
            "history.purchased": [0] * 9,
            "history.same_category": [1, 0, 1] * 3,
        },
    )
    assert found["history.recency_days"][6] == 1.0


def test_products_without_a_category_are_not_of_the_same(features: RankingFeatures, candidates: Candidates) -> None:
    plain = items().set_column(
        items().schema.get_field_index("category_idx"), "category_idx", pa.array([0, 0, 1], pa.int32())
    )
    bare = replace(features, catalogue=Catalogue(plain, analyser=features.catalogue.analyser))
    nobody, somebody = history_of(), history_of((TENT, NOW))
    found = named(bare, replace(candidates, history=nobody), replace(candidates, history=somebody))
    check(found, {"history.same_category": [0] * 6, "history.recency_rank": [0, 0, 0, 0, 1, 0]})


def test_shares_of_a_query_of_two_words_and_its_trigrams(features: RankingFeatures, candidates: Candidates) -> None:
    found = named(features, replace(candidates, query="red tent"))
    spelled = set(trigrams("red tent"))
    check(
        found,
        {
            "query_terms_in_title": [1 / 2, 1 / 2, 0],
            "title_in_query": [1 / 2, 1, 0],
            "query_trigrams_in_title": [
                len(spelled & features.catalogue.trigrams(item)) / len(spelled) for item in (LAMP, TENT, COLD)
            ],
        },
    )
    assert 0 < found["query_trigrams_in_title"][0] < 1


def test_activity_counts_from_the_end_of_the_log_where_a_request_has_no_time(
    features: RankingFeatures, candidates: Candidates
) -> None:
    early = NOW - 30 * DAY_US  # before the first event
    found = named(features, replace(candidates, now_us=0), replace(candidates, now_us=NOW + DAY_US))
    check(
        found,
        {
            "days_since_last": [log(2), log(4), log(366), log(3), log(5), log(366)],
            "days_since_first": [log(8), log(4), 0, log(9), log(5), 0],
        },
    )
    past = named(features, replace(candidates, now_us=max(early, 1)))
    check(past, {"days_since_last": [0, 0, log1p(365)], "days_since_first": [0, 0, 0]})


def test_activity_is_counted_from_the_log_with_three_decays() -> None:
    log_ = EventLog(
        user_idx=np.zeros(4, np.int32),
        item_idx=np.array([LAMP, LAMP, LAMP, TENT], np.int32),
        query_idx=np.zeros(4, np.int32),
        kind=np.full(4, EventKind.CLICK, np.int8),
        ts=NOW - np.array([8, 4, 0, 2]) * DAY_US,
        end_us=NOW,
    )
    found = Activity.fit(log_, 3, half_life_days=8.0)
    fast = 8.0 * FAST_HALF_LIFE_FACTOR
    assert found.slow.tolist() == pytest.approx([0, 0.5 + 0.5**0.5 + 1, 0.5**0.25, 0])
    assert found.fast.tolist() == pytest.approx([0, 0.5 ** (8 / fast) + 0.5 ** (4 / fast) + 1, 0.5 ** (2 / fast), 0])
    assert found.plain.tolist() == [0, 3, 1, 0]
    assert found.last_ts.tolist() == [0, NOW, NOW - 2 * DAY_US, 0]
    assert found.first_ts.tolist() == [0, NOW - 8 * DAY_US, NOW - 2 * DAY_US, 0]
    assert found.end_us == NOW
    assert {found.slow.dtype, found.fast.dtype, found.plain.dtype} == {np.dtype(np.float32)}


def test_activity_is_written_read_and_grown(features: RankingFeatures, tmp_path: Path) -> None:
    features.activity.save(tmp_path)
    opened = Activity.open(tmp_path)
    for name in ("slow", "fast", "plain", "last_ts", "first_ts"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(features.activity, name))
    assert opened.end_us == NOW
    assert opened.with_items(3) is opened
    grown = opened.with_items(5)
    assert grown.plain.tolist() == [0, 5, 1, 0, 0, 0]
    assert grown.last_ts.tolist() == [*opened.last_ts.tolist(), 0, 0]
    assert grown.end_us == NOW


def test_warming_fills_the_caches(features: RankingFeatures) -> None:
    fresh = replace(features, activity=replace(features.activity))
    fresh.warm()
    assert "names" in vars(fresh)
    assert {"_popularity", "shares"} <= set(vars(fresh.activity))


def test_shares_without_smoothing_are_of_slowly_decayed_clicks(
    features: RankingFeatures, candidates: Candidates
) -> None:
    log_ = EventLog(
        user_idx=np.arange(3, dtype=np.int32),
        item_idx=np.array([LAMP, LAMP, COLD], np.int32),
        query_idx=np.ones(3, np.int32),
        kind=np.full(3, EventKind.CLICK, np.int8),
        ts=NOW - np.array([4, 1, 2]) * DAY_US,
        end_us=NOW,
    )
    queries = pa.table({"query": ["lamp"], "train_count": [3]})
    clicked = QueryClicks.fit(log_, queries, 3, half_life_days=1.0)
    found = named(replace(features, sources={**features.sources, "query_clicks": clicked}), candidates)
    lamp, cold = 0.5**4 + 0.5, 0.5**2  # less than one click in all
    share = lamp / (lamp + cold)
    check(found, {"clicks_query": [share, 0, 1 - share], "clicks_similar_queries": [share, 0, 1 - share]})


def test_a_name_match_is_relative_to_the_best_however_small(features: RankingFeatures, candidates: Candidates) -> None:
    column = list(features.sources).index("lexical")
    scores, ranks = candidates.scores.copy(), candidates.ranks.copy()
    scores[:, column], ranks[:, column] = (np.nan, 0.4, 0.1), (0, 1, 2)
    found = named(features, replace(candidates, scores=scores, ranks=ranks, query="blue lamp shade"))
    check(
        found,
        {
            "lexical.score": [0, 1, 1 / 4],
            "cold.lexical_score": [0, 0, 1 / 4],
            "cold.lexical_rank": [0, 0, 3 / 4],
            "cold.query_terms_in_title": [0, 0, 2 / 3],
        },
    )
    ranks[2, column], scores[2, column] = 0, np.nan
    unproposed = named(features, replace(candidates, scores=scores, ranks=ranks, query="blue lamp shade"))
    check(unproposed, {"cold.lexical_score": [0] * 3, "cold.lexical_rank": [0] * 3})


class QueryLength(Popularity):
    """A source whose one feature is made of query, history and product."""

    feature_names = ("query_history_item",)

    def features(self, query: str, history: NDArray[np.int32], item_idx: NDArray[np.int32]) -> NDArray[np.float32]:
        return (100 * len(query) + 10 * len(history) + item_idx)[:, None].astype(np.float32)


def test_a_sources_own_feature_is_computed_from_query_history_and_products(
    features: RankingFeatures, candidates: Candidates
) -> None:
    own = QueryLength(np.array([0, 5, 1, 0], np.float32))
    with_own = replace(features, sources={**features.sources, "popularity": own})
    other = replace(candidates, query="tents", history=history_of((LAMP, NOW)))
    found = named(with_own, candidates, other)
    check(found, {"popularity.query_history_item": [421, 422, 423, 511, 512, 513]})


def test_the_last_product_of_a_user_with_one_event_counts(features: RankingFeatures, candidates: Candidates) -> None:
    histories = (history_of(), history_of((TENT, NOW)), history_of((LAMP, NOW)), history_of())
    found = named(features, *(replace(candidates, history=one) for one in histories))
    check(
        found,
        {
            "history.last_item_cosine": [0, 0, 0, 0, 1, 0.8, 1, 0, 0.6, 0, 0, 0],
            "history.last_item_affinity": [0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0],
            "history.events": [0, 0, 0, 0, log(2), 0, log(2), 0, 0, 0, 0, 0],
        },
    )
