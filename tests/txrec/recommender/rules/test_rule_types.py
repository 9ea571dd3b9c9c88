"""Rules and effects that cannot be meant are refused, each with its reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.txrec.recommender.rules.rule_cases import JEANS, pin, rule
from txrec.recommender.rules.rule_types import Rule


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
        ({"effect": {"type": "replace_query", "query": "tv"}}, "needs a condition on the query"),
        ({"effect": {"type": "replace_query", "query": "TV"}, "when": {"query": {"exact": "tv"}}}, "never act"),
        ({"effect": {"type": "synonyms", "words": ["tv", "TV"]}}, "single word"),
        ({"when": {"period": {"start": "2026-02-01", "end": "2026-01-01"}}, "effect": pin("p1")}, "before its start"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_the_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate({"rule_id": "r", **fields})


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (pin("p1", "p2", "p1"), "'p1' is there twice"),
        ({"type": "synonyms", "from": "TV", "words": ["tv"]}, "can never act"),
        ({"type": "redirect", "url": "//other.example"}, "should match pattern"),
        ({"type": "redirect", "url": "/\\other.example"}, "should match pattern"),
    ],
)
def test_an_effect_that_cannot_be_meant_is_refused(effect: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule("odd", effect, JEANS)


@pytest.mark.parametrize("url", ["/", "/sale?x=1", "https://shop.example/sale"])
def test_a_redirect_leads_to_a_page_of_the_shop_or_a_whole_address(url: str) -> None:
    assert rule("sale", {"type": "redirect", "url": url}, JEANS).rule_id == "sale"


def test_a_pattern_that_needs_too_much_is_refused_at_once() -> None:
    for pattern in ("[a-z]{1,300}x(y+y+)+z[a-z]{1,300}\\pL{200}", "(?:\\pL+ ){9}"):
        with pytest.raises(ValidationError, match=r"instructions|too large"):
            rule("slow", pin("p1"), {"query": {"pattern": pattern}})
