"""Rules: which ones act on a request, what they do to its slate, and which are refused."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from txrec.errors import ConflictError, RequestError
from txrec.index.filters import Filters
from txrec.recommender.rules.application import RuleBook
from txrec.recommender.rules.checks import check
from txrec.recommender.rules.matching import RuleContext, RuleIndex
from txrec.recommender.rules.types import Rule
from txrec.recommender.types import Request, Slate, SlateItem

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1e6)


class SmallCatalogue:
    """Products p1 to p9; the brand of the even ones is acme."""

    def __init__(self) -> None:
        self.idx_of = {f"p{n}": n for n in range(1, 10)}
        self.titles = np.array([None, *(f"product {n}" for n in range(1, 10))], object)

    def price_of(self, item_idx: int) -> float | None:
        return None

    def mask(self, filters: Filters | None, excluded: Sequence[int] | NDArray[np.int32]) -> NDArray[np.bool_] | None:
        mask = np.ones(10, np.bool_)
        mask[0] = False
        if filters is not None and filters.where is not None:
            raise RequestError("filters.where", "no product has a field 'nothing'")
        if filters is not None and filters.brand == ("acme",):
            mask[1::2] = False
        return mask


CATALOGUE = SmallCatalogue()


def rule(rule_id: str, effect: dict[str, Any], when: dict[str, Any] | None = None, **more: Any) -> Rule:
    return Rule.model_validate({"rule_id": rule_id, "when": when or {}, "effect": effect, **more})


def pin(*items: str, position: int = 1) -> dict[str, Any]:
    return {"type": "pin", "items": items, "position": position}


def slate(*item_ids: str) -> Slate:
    return Slate(tuple(SlateItem(item_id, 1.0 - place / 10) for place, item_id in enumerate(item_ids)))


def applied(
    *rules: Rule, sent: Request | None = None, ranked: Sequence[str] = ("p1", "p2", "p3", "p4", "p5")
) -> tuple[list[str], Slate]:
    request = sent or Request(top_k=3, explain=True)
    active = RuleBook(RuleIndex(rules)).match(RuleContext(query=request.query or "", now_us=NOW_US), CATALOGUE)
    assert active is not None
    prepared = active.prepare(request, num_ranked=5)
    blocked = prepared.blocked if prepared.blocked is not None else np.zeros(10, np.bool_)
    allowed = [item_id for item_id in ranked if not blocked[CATALOGUE.idx_of[item_id]]]
    result = active.apply(slate(*allowed[: prepared.top_k]), request)
    return [item.item_id for item in result.items], result


def matching(*rules: Rule, **context: Any) -> set[str]:
    groups = RuleIndex(rules).match(RuleContext(**{"now_us": NOW_US, **context}))
    return {one.rule_id for group in groups for one in group.rules}


CONDITIONS: dict[str, dict[str, Any]] = {
    "exact": {"query": {"exact": "Blue  JEANS"}},
    "contains": {"query": {"contains": "jeans"}},
    "pattern": {"query": {"pattern": r"^blue|red$"}},
    "category": {"category": ["Home"]},
    "placement": {"placement": ["home", "cart"]},
    "segment": {"segment": ["vip"]},
    "period": {"period": {"start": "2026-05-01", "end": "2026-07-01"}},
    "over": {"period": {"end": "2026-05-01"}},
    "several": {"query": {"contains": "jeans"}, "placement": ["search"], "segment": ["vip", "staff"]},
    "always": {},
}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, set()),
        ({"query": "blue jeans"}, {"exact", "contains", "pattern"}),
        ({"query": "blue jeans slim"}, {"contains", "pattern"}),
        ({"query": "jeanswear"}, set()),
        ({"query": "dark red"}, {"pattern"}),
        ({"categories": frozenset({"home"})}, {"category"}),
        ({"placement": "cart"}, {"placement"}),
        ({"segments": frozenset({"vip", "new"})}, {"segment"}),
        ({"query": "jeans", "placement": "search", "segments": frozenset({"staff"})}, {"contains", "several"}),
        ({"query": "jeans", "placement": "search"}, {"contains"}),
    ],
)
def test_a_rule_acts_where_all_of_its_conditions_hold(context: dict[str, Any], expected: set[str]) -> None:
    rules = [rule(name, pin("p1"), when) for name, when in CONDITIONS.items()]
    assert matching(*rules, **context) == expected | {"always", "period"}


def test_a_disabled_rule_never_acts() -> None:
    assert matching(rule("off", pin("p1"), enabled=False)) == set()


def test_the_index_finds_what_trying_each_rule_finds() -> None:
    words = ["red", "blue", "jeans", "lamp", "tent", "vip", "home"]
    rng = np.random.default_rng(3)
    rules = [
        rule(str(n), pin("p1"), {**dict([_random_condition(rng, words)]), **dict([_random_condition(rng, words)])})
        for n in range(300)
    ]
    for _ in range(50):
        query = " ".join(rng.choice(words, rng.integers(0, 4)))
        context = RuleContext(
            query, frozenset(rng.choice(words, 1)), str(rng.choice(words)), frozenset({"vip"}), NOW_US
        )
        expected = {one.rule_id for one in rules if _holds(one, context)}
        groups = RuleIndex(tuple(rules)).match(context)
        assert {one.rule_id for group in groups for one in group.rules} == expected


def _random_condition(rng: np.random.Generator, words: list[str]) -> tuple[str, Any]:
    kind = rng.choice(["exact", "contains", "pattern", "category", "placement", "segment"])
    text = " ".join(rng.choice(words, rng.integers(1, 3)))
    return (
        ("query", {kind: text}) if kind in {"exact", "contains", "pattern"} else (str(kind), [str(rng.choice(words))])
    )


def _holds(one: Rule, context: RuleContext) -> bool:
    when, query = one.when, context.query
    if when.query is not None:
        exact, contains, pattern = when.query.exact, when.query.contains, when.query.pattern
        if (exact and query != exact) or (contains and f" {contains} " not in f" {query} "):
            return False
        if pattern and pattern not in query:
            return False
    return (
        (not when.category or bool(context.categories & set(when.category)))
        and (not when.placement or context.placement in when.placement)
        and (not when.segment or bool(context.segments & set(when.segment)))
    )


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


def test_a_floor_above_the_ceiling_of_the_same_products_is_refused_with_both_names() -> None:
    products = {"filters": {"brand": ["acme"]}}
    floor = rule("floor", {"type": "promote", "products": products, "share": 0.5})
    ceiling = rule("ceiling", {"type": "limit", "products": products, "share": 0.25})
    with pytest.raises(ConflictError, match=r"'ceiling' contradicts 'floor': one promotes to 0\.5"):
        check([ceiling], [floor], NOW)


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"when": {"query": {"pattern": "(blue"}}, "effect": pin("p1")}, "not a regular expression: missing"),
        ({"when": {"query": {"exact": "a", "contains": "b"}}, "effect": pin("p1")}, "exactly one of"),
        ({"when": {"query": {"exact": "  "}}, "effect": pin("p1")}, "is blank"),
        ({"when": {"colour": "red"}, "effect": pin("p1")}, "Extra inputs"),
        ({"effect": {"type": "boost", "products": {}, "factor": 2}}, "selects no product"),
        ({"effect": {"type": "boost", "products": {"items": ["p1"]}, "factor": 0.5}}, "greater than 1"),
        ({"effect": {"type": "dance"}}, "does not match any of the expected tags"),
        ({"effect": {"type": "redirect", "url": "javascript:alert(1)"}, "when": {"query": {"exact": "a"}}}, "pattern"),
        ({"effect": {"type": "replace_query", "query": "tv"}}, "needs a condition"),
        ({"effect": {"type": "replace_query", "query": "TV"}, "when": {"query": {"exact": "tv"}}}, "never act"),
        ({"effect": {"type": "synonyms", "words": ["tv", "TV"]}}, "single word"),
        ({"when": {"period": {"start": "2026-02-01", "end": "2026-01-01"}}, "effect": pin("p1")}, "before its start"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_the_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate({"rule_id": "r", **fields})


JEANS = {"query": {"exact": "jeans"}}


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (rule("a", pin("p1")), rule("b", pin("p2")), "both pin position 1"),
        (rule("a", pin("p1", "p2")), rule("b", pin("p3", position=2), JEANS), "both pin position 2"),
        (rule("a", pin("p1")), rule("b", pin("p1", position=4)), "two positions"),
        (rule("a", pin("p1")), rule("b", {"type": "block", "products": {"items": ["p1"]}}, priority=9), "blocks it"),
        (
            rule("a", {"type": "redirect", "url": "/a"}, JEANS),
            rule("b", {"type": "redirect", "url": "/b"}, {"query": {"contains": "jeans"}}),
            "both have the effect redirect",
        ),
        (
            rule("a", {"type": "boost", "products": {"items": ["p1"]}, "factor": 2}),
            rule("b", {"type": "bury", "products": {"items": ["p1"]}, "factor": 0.5}),
            "buries it",
        ),
    ],
)
def test_rules_that_contradict_each_other_are_refused_with_both_names(one: Rule, other: Rule, reason: str) -> None:
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ConflictError, match=reason) as caught:
            check([first], [second], NOW)
        assert "'a'" in str(caught.value)
        assert "'b'" in str(caught.value)


def test_rules_that_cannot_meet_or_whose_priorities_decide_do_not_contradict() -> None:
    one = rule("a", pin("p1"), JEANS)
    others = [
        rule("b", pin("p2"), {"query": {"exact": "lamp"}}),
        rule("c", pin("p2"), JEANS, priority=1),
        rule("d", pin("p2"), {**JEANS, "placement": ["home"]}, enabled=False),
        rule("e", pin("p2", position=2), JEANS),
    ]
    check([replace_rule(one, placement=("search",))], [rule("f", pin("p2"), {**JEANS, "placement": ["home"]})], NOW)
    check([one], others, NOW)


def replace_rule(one: Rule, **conditions: Any) -> Rule:
    return one.model_copy(update={"when": one.when.model_copy(update=conditions)})


def test_a_rule_that_is_over_is_refused() -> None:
    with pytest.raises(RequestError, match="can never act") as caught:
        check([rule("old", pin("p1"), {"period": {"end": "2026-05-31"}})], [], NOW)
    assert caught.value.field == "0.when.period.end"


def test_replacing_a_rule_does_not_contradict_its_former_self() -> None:
    check([rule("a", pin("p2"))], [rule("a", pin("p1"))], NOW)
