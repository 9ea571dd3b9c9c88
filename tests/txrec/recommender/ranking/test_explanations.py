"""Every reason that a slate can give, and none where it would be wrong."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from txrec.index.source import Source
from txrec.index.sources.covisitation import Covisitation
from txrec.model.history_features import History
from txrec.recommender.ranking.explanations import MIN_SIMILARITY, Explainer
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Candidates, Request
from txrec.schema import EventKind

NO_SCORE = np.nan


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def history_of(*items: int) -> History:
    count = len(items)
    kinds = np.full(count, EventKind.CLICK, np.int8)
    return History(np.array(items, np.int32), np.zeros(count, np.int32), kinds, np.zeros(count, np.int64))


def reasons(
    recommender: Recommender,
    item: int,
    history: tuple[int, ...] = (),
    query: str = "",
    proposed_by: tuple[str, ...] = ("dense",),
    **sources: Source,
) -> tuple[str, ...]:
    (found,) = recommender.retrieve([Request(query=query or None)])
    names = recommender.retriever.names
    ranks = np.array([[int(name in proposed_by) for name in names]], np.int32)
    one: Candidates = replace(
        found,
        history=history_of(*history),
        query=query,
        item_idx=np.array([item], np.int32),
        fused=np.ones(1, np.float32),
        scores=np.where(ranks > 0, 1.0, NO_SCORE).astype(np.float32),
        ranks=ranks,
    )
    retriever = recommender.retriever
    if sources:
        retriever = Recommender.open(recommender.bundle.path).retriever
        retriever.sources = {**retriever.sources, **sources}
    return Explainer(recommender.catalogue, retriever, one)(0)


def pairs(first: int, second: int, num_items: int) -> Covisitation:
    """A co-visitation source that knows one pair."""
    return Covisitation(sp.csr_array(([0.5], ([first], [second])), shape=(num_items + 1, num_items + 1)))


def test_a_word_of_the_query_in_the_title_is_named_and_no_other_word(recommender: Recommender) -> None:
    title = str(recommender.catalogue.titles[11])
    word = title.split()[1]
    assert f"matches {word!r}" in reasons(recommender, 11, query=f"cheap {word}")
    assert not any(reason.startswith("matches") for reason in reasons(recommender, 11, query="cheap thing"))


def test_clicks_after_the_query_are_named_with_that_query(recommender: Recommender) -> None:
    source = recommender.retriever.sources["query_clicks"]
    (candidates,) = recommender.retrieve([Request(query="lamp")])
    column = recommender.retriever.names.index("query_clicks")
    clicked = int(candidates.item_idx[np.argmax(candidates.ranks[:, column] == 1)])
    assert "chosen by people who searched for 'lamp'" in reasons(recommender, clicked, query="lamp")
    assert "chosen by people who searched for 'lamp'" in reasons(recommender, clicked, query="lamps")
    assert not any("searched for" in reason for reason in reasons(recommender, clicked))
    other = next(i for i in range(1, 60) if not source.named("lamp") and "lamp" not in recommender.catalogue.titles[i])
    assert not any("searched for" in reason for reason in reasons(recommender, other, query="lamp"))


def test_an_item_that_goes_with_one_of_the_history_names_that_one(recommender: Recommender) -> None:
    known = pairs(5, 9, len(recommender.catalogue))
    named = f"goes with {recommender.catalogue.titles[5]}"
    assert reasons(recommender, 9, (3, 5, 7), covisitation=known) == (named,)
    assert named not in reasons(recommender, 5, (3, 9, 7), covisitation=known)


def test_without_such_a_pair_the_most_similar_item_of_the_history_is_named(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    vectors = recommender.retriever.dense.vectors
    past, item = (2, 12, 22), 13
    nearest = past[int(np.argmax(vectors[list(past)] @ vectors[item]))]
    similarity = float(vectors[nearest] @ vectors[item])
    expected = (f"like {recommender.catalogue.titles[nearest]}",) if similarity >= 0.3 else ()
    assert reasons(recommender, item, past, covisitation=nothing) == expected
    assert similarity >= 0.3


def test_an_item_of_the_history_itself_was_seen_before(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    assert reasons(recommender, 8, (8,), covisitation=nothing) == ("seen before",)
    assert reasons(recommender, 9, (), covisitation=nothing) == ()


def test_all_words_that_match_are_named_in_the_order_of_the_query(recommender: Recommender) -> None:
    brand, kind = str(recommender.catalogue.titles[11]).split()[:2]
    assert f"matches '{kind} {brand}'" in reasons(recommender, 11, query=f"{kind} cheap {brand}")


def test_of_two_past_items_that_go_with_it_the_newer_one_is_named(recommender: Recommender) -> None:
    size = len(recommender.catalogue) + 1
    both = Covisitation(sp.csr_array(([0.5, 0.5], ([5, 7], [9, 9])), shape=(size, size)))
    titles = recommender.catalogue.titles
    assert reasons(recommender, 9, (5, 7), covisitation=both) == (f"goes with {titles[7]}",)
    assert reasons(recommender, 9, (7, 5), covisitation=both) == (f"goes with {titles[5]}",)


def test_a_past_item_is_like_another_from_the_least_similarity_on_and_not_below(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    named = (f"like {recommender.catalogue.titles[2]}",)
    for similarity, expected in ((0.25, ()), (MIN_SIMILARITY, named), (0.5, named)):
        vectors = np.zeros((len(recommender.catalogue) + 1, 2), np.float32)
        vectors[2], vectors[13] = (1.0, 0.0), (similarity, 0.0)
        dense = copy.copy(recommender.retriever.dense)
        dense.vectors = vectors
        assert reasons(recommender, 13, (2,), covisitation=nothing, dense=dense) == expected


class NeverSearched(Covisitation):
    """A source that gives no reason for an empty query."""

    def query_reason(self, query: str, item: int) -> str | None:
        assert query
        return f"found by {query}"


def test_without_a_query_no_source_is_called_for_a_reason_of_one(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    strict = NeverSearched(nothing.affinity)
    found = reasons(recommender, 8, (8,), covisitation=nothing, query_clicks=strict)
    assert found == ("seen before",)
    assert "found by lamp" in reasons(recommender, 8, (), "lamp", covisitation=nothing, query_clicks=strict)


def test_popularity_is_a_reason_only_where_there_is_no_better_one(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    assert reasons(recommender, 9, proposed_by=("popularity",), covisitation=nothing) == ("popular now",)
    found = reasons(recommender, 8, (8,), proposed_by=("popularity",), covisitation=nothing)
    assert found == ("seen before",)


def test_new_items_say_so_beside_another_reason(recommender: Recommender) -> None:
    nothing = pairs(1, 1, len(recommender.catalogue))
    found = reasons(recommender, 8, (8,), proposed_by=("new_items",), covisitation=nothing)
    assert found == ("seen before", "new")
