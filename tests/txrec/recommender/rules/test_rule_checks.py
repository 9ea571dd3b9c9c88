"""Rules that contradict each other, are over or can never act."""

from typing import Any

import pytest

from tests.txrec.recommender.rules.rule_cases import JEANS, NOW, applied, pin, rule
from txrec.errors import ConflictError, RequestError
from txrec.recommender.rules.rule_checks import check, covers, never_acting
from txrec.recommender.rules.rule_types import Conditions, Rule
from txrec.recommender.types import Request


def test_a_floor_above_the_ceiling_of_the_same_products_is_refused_with_both_names() -> None:
    products = {"filters": {"brand": ["acme"]}}
    floor = rule("floor", {"type": "promote", "products": products, "share": 0.5})
    ceiling = rule("ceiling", {"type": "limit", "products": products, "share": 0.25})
    with pytest.raises(ConflictError, match=r"'ceiling' contradicts 'floor': one promotes to 0\.5"):
        check([ceiling], [floor], NOW)


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
    assert caught.value.field == "when.period.end"


def test_replacing_a_rule_does_not_contradict_its_former_self() -> None:
    check([rule("a", pin("p2"))], [rule("a", pin("p1"))], NOW)


ACME = {"filters": {"brand": ["acme"]}}


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (
            rule("a", {"type": "boost", "products": {"items": ["p1"]}, "factor": 2}, JEANS),
            rule("b", {"type": "block", "products": {"items": ["p1", "p2"]}}),
            "blocks all products of the other",
        ),
        (
            rule("a", {"type": "promote", "products": ACME, "share": 0.5}, JEANS),
            rule("b", {"type": "block", "products": ACME}),
            "never act with its effect promote",
        ),
        (
            rule("a", {"type": "boost", "products": ACME, "factor": 2}),
            rule("b", {"type": "bury", "products": ACME, "factor": 0.5}),
            "the products of a filter",
        ),
        (
            rule("a", {"type": "promote", "products": {"items": ["p1"]}, "share": 0.5}),
            rule("b", {"type": "promote", "products": {"items": ["p2"]}, "share": 0.2}),
            "both have the effect promote",
        ),
    ],
)
def test_rules_of_which_one_never_acts_are_refused_with_both_names(one: Rule, other: Rule, reason: str) -> None:
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ConflictError, match=reason) as caught:
            check([first], [second], NOW)
        assert "'a'" in str(caught.value)
        assert "'b'" in str(caught.value)


def test_a_rule_that_is_blocked_on_some_requests_only_goes_with_the_block() -> None:
    boost = rule("a", {"type": "boost", "products": {"items": ["p1"]}, "factor": 2})
    block = {"type": "block", "products": {"items": ["p1"]}}
    for when in (JEANS, {"placement": ["mail"]}, {"period": {"start": "2026-07-01"}}):
        check([boost], [rule("b", block, when)], NOW)
    check([boost], [rule("b", {"type": "block", "products": {"items": ["p2"]}})], NOW)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ({}, JEANS, True),
        (JEANS, {}, False),
        ({"query": {"contains": "jeans"}}, JEANS, True),
        ({"query": {"contains": "jeans"}}, {"query": {"contains": "blue jeans"}}, True),
        ({"query": {"contains": "blue jeans"}}, {"query": {"contains": "jeans"}}, False),
        ({"query": {"pattern": "^j"}}, JEANS, True),
        ({"segment": ["a", "b"]}, {"segment": ["a"]}, True),
        ({"segment": ["a"]}, {"segment": ["a", "b"]}, False),
        ({"period": {"start": "2026-01-01"}}, {"period": {"start": "2026-02-01", "end": "2026-03-01"}}, True),
        ({"period": {"end": "2026-02-01"}}, {"period": {"start": "2026-01-01"}}, False),
    ],
)
def test_conditions_cover_others_that_hold_on_fewer_requests(
    wide: dict[str, Any], narrow: dict[str, Any], expected: bool
) -> None:
    assert covers(Conditions.model_validate(wide), Conditions.model_validate(narrow)) is expected


def test_a_rule_below_another_of_the_same_conditions_and_effect_is_reported() -> None:
    first = rule("first", {"type": "redirect", "url": "/a"}, JEANS, priority=2)
    second = rule("second", {"type": "redirect", "url": "/b"}, JEANS)
    (warning,) = never_acting([second], [first])
    assert "'second' never acts: 'first'" in warning
    assert never_acting([rule("third", pin("p1"))], [first, second]) == []


def test_a_pin_whose_position_one_of_higher_priority_always_takes_is_reported_with_both_names() -> None:
    wide = rule("wide", pin("p1", "p2"), {"query": {"contains": "jeans"}}, priority=2)
    narrow = rule("narrow", pin("p5", position=2), JEANS)
    for new, existing in (([narrow], [wide]), ([wide], [narrow]), ([wide, narrow], [])):
        (warning,) = never_acting(new, existing)
        assert warning.startswith("rule 'narrow' never acts: 'wide' has a higher priority")
        assert warning.endswith("pins position 2 too")
    assert applied(wide, narrow, sent=Request(query="jeans", top_k=3))[0] == ["p1", "p2", "p3"], "p5 is not pinned"
    assert never_acting([rule("other", pin("p5"))], [wide, narrow]) == [], "neither of the two has changed"


def test_a_pin_that_loses_some_of_its_positions_is_reported_as_one_that_acts_at_others() -> None:
    narrow = rule("narrow", pin("p3", "p4", position=2), JEANS)
    (warning,) = never_acting([narrow], [rule("wide", pin("p1", "p2"), priority=2)])
    assert "'narrow' acts at other positions only: 'wide'" in warning


@pytest.mark.parametrize(
    "other",
    [
        rule("other", pin("p1"), {"query": {"exact": "skirt"}}, priority=2),
        rule("other", pin("p1"), {**JEANS, "segment": ["club"]}, priority=2),
        rule("other", pin("p1", position=4), priority=2),
        rule("other", pin("p1"), JEANS),
        rule("other", pin("p1"), priority=2, enabled=False),
    ],
    ids=["query", "segment", "position", "equal priority", "disabled"],
)
def test_a_pin_that_can_act_somewhere_is_not_reported(other: Rule) -> None:
    assert never_acting([rule("narrow", pin("p3"), JEANS)], [other]) == []
