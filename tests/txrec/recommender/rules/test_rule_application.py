"""What the rules that act do to a request and to its slate."""

import pytest

from tests.txrec.recommender.rules.rule_cases import CATALOGUE, NOW_US, applied, pin, rule, slate
from txrec.index.filters.filters import Filters
from txrec.recommender.rules.rule_application import RuleBook
from txrec.recommender.rules.rule_index import RuleContext, RuleIndex
from txrec.recommender.types import Request


def test_a_pin_puts_products_at_their_positions_also_those_that_retrieval_did_not_find() -> None:
    ids, result = applied(rule("r", pin("p9", "p4", position=2)))
    assert ids == ["p1", "p9", "p4"]
    assert result.rules == {"r": "pin"}
    assert result.items[1].reasons == ("rule 'r': pinned to position 2",)


def test_a_pinned_product_that_the_request_excludes_or_filters_out_is_not_shown() -> None:
    pinned = rule("r", pin("p9"))
    assert applied(pinned, sent=Request(top_k=2, exclude=frozenset({"p9"})))[0] == ["p1", "p2"]
    assert applied(pinned, sent=Request(top_k=2, cart=("p9",)))[0] == ["p1", "p2"]
    assert applied(pinned, sent=Request(top_k=2, filters=Filters(brand=("acme",))))[0] == ["p1", "p2"]


def test_boost_and_bury_multiply_scores_and_reach_behind_the_slate() -> None:
    boost = {"type": "boost", "products": {"items": ["p5"]}, "factor": 3}
    bury = {"type": "bury", "products": {"filters": {"brand": ["acme"]}}, "factor": 0.1}
    ids, result = applied(rule("up", boost), rule("down", bury))
    assert ids == ["p5", "p1", "p3"]
    assert result.items[0].score == pytest.approx(0.6 * 3)
    assert result.rules == {"up": "boost", "down": "bury"}
    assert result.items[0].reasons == ("rule 'up': boost by 3",)


def test_factors_of_one_product_multiply() -> None:
    boost = {"type": "boost", "products": {"items": ["p2"]}, "factor": 2}
    _, result = applied(rule("a", boost), rule("b", boost, {"period": {"start": "2026-01-01"}}))
    assert result.items[0].score == pytest.approx(0.9 * 4)


def test_a_blocked_product_is_not_shown_and_the_slate_stays_full() -> None:
    block = {"type": "block", "products": {"items": ["p1"], "filters": {"brand": ["acme"]}}}
    ids, result = applied(rule("r", block), ranked=("p1", "p2", "p3", "p5", "p7"))
    assert ids == ["p3", "p5", "p7"]
    assert result.rules == {"r": "block"}
    pinned = rule("pin", pin("p2"))
    assert applied(rule("r", block), pinned, ranked=("p3", "p5", "p7"))[0] == ["p3", "p5", "p7"], "block before pin"


def test_promoted_products_get_their_share_of_the_slots_spread_evenly() -> None:
    promote = {"type": "promote", "products": {"items": ["p5", "p8", "p9"]}, "share": 0.5}
    ids, _ = applied(rule("r", promote), sent=Request(top_k=4))
    assert ids == ["p5", "p1", "p8", "p2"]


def test_limited_products_take_at_most_their_share_of_the_slots_and_others_move_up() -> None:
    limit = {"type": "limit", "products": {"filters": {"brand": ["acme"]}}, "share": 0.25}
    ids, found = applied(rule("r", limit), sent=Request(top_k=4), ranked=("p2", "p4", "p1", "p3", "p5"))
    assert ids == ["p2", "p1", "p3", "p5"]
    assert found.rules == {"r": "limit"}
    ids, found = applied(rule("r", limit), sent=Request(top_k=4), ranked=("p1", "p2", "p3", "p5"))
    assert (ids, found.rules) == (["p1", "p2", "p3", "p5"], {})


def test_query_effects_change_the_query_and_conditions_see_the_one_that_was_sent() -> None:
    when = {"query": {"contains": "tv"}}
    rules = (
        rule("replace", {"type": "replace_query", "query": "television"}, when),
        rule("both", {"type": "synonyms", "words": ["television", "telly"]}, {"query": {"exact": "tv"}}),
        rule("loop", {"type": "replace_query", "query": "tv"}, {"query": {"exact": "television"}}),
        rule("page", {"type": "redirect", "url": "/tv"}, when),
    )
    active = RuleBook(RuleIndex(rules)).match(RuleContext("tv", now_us=NOW_US), CATALOGUE)
    assert active is not None
    prepared = active.prepare(Request(query="tv", top_k=2), num_ranked=5)
    assert prepared.query == "television telly"
    assert prepared.top_k == 2, "no effect moves products"
    result = active.apply(slate("p1"), Request(query="tv"))
    assert result.redirect == "/tv"
    assert set(result.rules) >= {"both", "page"}


def test_synonyms_work_both_ways_or_one_way() -> None:
    both = rule("both", {"type": "synonyms", "words": ["sofa", "couch"]})
    one = rule("one", {"type": "synonyms", "from": "notebook", "words": ["laptop"]})

    def searched(query: str) -> str | None:
        active = RuleBook(RuleIndex((both, one))).match(RuleContext(query, now_us=NOW_US), CATALOGUE)
        return active.prepare(Request(query=query), 5).query if active else query

    assert searched("red couch") == "red couch sofa"
    assert searched("sofa") == "sofa couch"
    assert searched("notebook bag") == "notebook bag laptop"
    assert searched("laptop") == "laptop"


def test_higher_priority_wins_the_position() -> None:
    low, high = rule("a", pin("p4")), rule("b", pin("p5"), priority=1)
    assert applied(low, high)[0][0] == "p5"


def test_a_rule_whose_filters_the_model_does_not_know_selects_nothing() -> None:
    boost = {"type": "boost", "products": {"items": ["p3"], "filters": {"where": "nothing = 1"}}, "factor": 9}
    assert applied(rule("r", boost))[0] == ["p3", "p1", "p2"]


def test_without_acting_rules_there_is_nothing_to_apply() -> None:
    book = RuleBook(RuleIndex((rule("r", pin("p1"), {"placement": ["home"]}),)))
    assert book.match(RuleContext(now_us=NOW_US), CATALOGUE) is None


def test_a_synonym_stands_in_place_of_the_words_of_the_same_meaning() -> None:
    both = rule("s", {"type": "synonyms", "words": ["night light", "lamp"]})
    active = RuleBook(RuleIndex((both,))).match(RuleContext(query="red night light", now_us=NOW_US), CATALOGUE)
    assert active is not None
    prepared = active.prepare(Request(query="Red night light"), num_ranked=5)
    assert prepared.query == "Red night light lamp"
    assert prepared.sent_query == "Red night light"
    assert prepared.variants == ("red night light", "red lamp")
