"""Rule index: which rules act on a request."""

from typing import Any

import numpy as np
import pytest

from tests.txrec.recommender.rules.rule_cases import NOW_US, pin, rule
from txrec.recommender.rules import rule_index
from txrec.recommender.rules.rule_index import RuleContext, RuleIndex
from txrec.recommender.rules.rule_types import Rule


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


def test_more_patterns_act_than_one_automaton_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_index, "MAX_SET_SIZE", 50)
    rules = [rule(f"r{n}", pin("p1"), {"query": {"pattern": f"^item (number )?{n}$"}}) for n in range(20)]
    index = RuleIndex(tuple(rules))
    assert len(index._pattern_sets) > 5
    for n in (0, 7, 19):
        (group,) = index.match(RuleContext(query=f"item number {n}", now_us=NOW_US))
        assert group.rules[0].rule_id == f"r{n}"


@pytest.mark.parametrize("query", ["jeans!", '"jeans"', "blue (jeans), long", "jeans."])
def test_punctuation_does_not_hide_the_words_of_a_condition(query: str) -> None:
    assert matching(rule("a", pin("p1"), {"query": {"contains": "Jeans"}}), query=query) == {"a"}


def test_a_condition_in_a_script_without_blanks_holds_inside_a_longer_word() -> None:
    beer = rule("a", pin("p1"), {"query": {"contains": "啤酒"}})
    assert matching(beer, query="德国啤酒杯") == {"a"}
    assert matching(beer, query="酒杯") == set()
