"""Products without events in the order of a search: by their names, behind what people chose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from txrec.recommender.ranking import name_order
from txrec.recommender.ranking.name_order import NameOrder
from txrec.recommender.ranking.ranking import by_name, rank
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Candidates, Request

QUERY = "lamp"


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def found(recommender: Recommender, query: str = QUERY) -> Candidates:
    return recommender.retrieve([Request(query=query, top_k=30)])[0]


def without_events(recommender: Recommender, *item_idx: int) -> RankingFeatures:
    """Features of a shop in which all products have many events but these."""
    features = recommender.ranking_features
    plain = np.full_like(features.activity.plain, name_order.FEW_EVENTS + 1)
    plain[list(item_idx)] = 0
    return replace(features, activity=replace(features.activity, plain=plain))


def by_rank(recommender: Recommender, one: Candidates, rank_: int) -> int:
    """Place in `Candidates` of the product with a lexical rank."""
    return int(np.flatnonzero(one.ranks[:, recommender.retriever.names.index("lexical")] == rank_)[0])


def last(one: Candidates, place: int) -> NDArray[np.int64]:
    """An order in which one candidate is last."""
    return np.append(np.delete(np.arange(len(one)), place), place)


def test_a_product_without_events_stands_no_later_than_its_lexical_rank(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_order, "PROVEN_CLICKS", np.inf)
    one = found(recommender)
    for lexical_rank in (1, 3):
        place = by_rank(recommender, one, lexical_rank)
        features = without_events(recommender, one.item_idx[place])
        before = last(one, place)
        order = NameOrder(features, one).rare_by_lexical_rank(before)
        assert order.tolist().index(place) == lexical_rank - 1
        assert np.delete(order, lexical_rank - 1).tolist() == before[:-1].tolist()


def test_it_does_not_overtake_what_people_chose_for_the_query(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = found(recommender)
    place = by_rank(recommender, one, 1)
    features, before = without_events(recommender, one.item_idx[place]), last(one, place)
    votes = np.full(len(one), name_order.PROVEN_CLICKS + 1, np.float32)
    votes[place] = 0
    monkeypatch.setattr(NameOrder, "_clicks", lambda _: (votes, votes))
    assert NameOrder(features, one).rare_by_lexical_rank(before).tolist() == before.tolist()


def test_a_title_that_lacks_a_term_and_a_product_with_events_stay_where_they_are(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_order, "PROVEN_CLICKS", np.inf)
    one = found(recommender, "lamp zebra")
    place = by_rank(recommender, one, 1)
    before = last(one, place)
    assert NameOrder(without_events(recommender, one.item_idx[place]), one).rare_by_lexical_rank(before) is before
    one = found(recommender)
    before = last(one, by_rank(recommender, one, 1))
    assert NameOrder(without_events(recommender), one).rare_by_lexical_rank(before) is before


def test_a_title_need_not_have_generic_words(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_order, "PROVEN_CLICKS", np.inf)
    one = found(recommender, "lamp zebra")
    place = by_rank(recommender, one, 1)
    generic = recommender.catalogue.analyser.terms("zebra")[0][0][0]
    features = replace(without_events(recommender, one.item_idx[place]), generic_words=frozenset({generic}))
    assert NameOrder(features, one).rare_by_lexical_rank(last(one, place)).tolist().index(place) == 0


def test_a_query_of_generic_words_alone_names_no_product(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_order, "PROVEN_CLICKS", np.inf)
    one = found(recommender)
    place = by_rank(recommender, one, 1)
    generic = recommender.catalogue.analyser.terms(QUERY)[0][0][0]
    features, before = without_events(recommender, one.item_idx[place]), last(one, place)
    assert NameOrder(replace(features, generic_words=frozenset({generic})), one).rare_by_lexical_rank(before) is before


def test_scores_go_with_their_candidates_and_requests_without_a_query_are_left_alone(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_order, "PROVEN_CLICKS", np.inf)
    one = found(recommender)
    place = by_rank(recommender, one, 2)
    features = without_events(recommender, one.item_idx[place])
    ranked = rank([one], None, features)[0]
    shuffled = replace(ranked, order=ranked.order[::-1].copy(), scores=ranked.scores[::-1].copy())
    moved = by_name(shuffled, one, features)
    assert dict(zip(moved.order.tolist(), moved.scores.tolist(), strict=True)) == dict(
        zip(ranked.order.tolist(), ranked.scores.tolist(), strict=True)
    )
    home = recommender.retrieve([Request(user_id="user-001")])[0]
    kept = rank([home], None, features)[0]
    assert by_name(kept, home, features) is kept
