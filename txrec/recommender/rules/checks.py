"""Checks of rules against each other: pairs that cannot both act on a request that fulfils the conditions of both."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import re2

from txrec.errors import ConflictError, RequestError
from txrec.recommender.rules.types import (
    Block,
    Boost,
    Bury,
    Conditions,
    Limit,
    Period,
    Pin,
    Promote,
    QueryCondition,
    Redirect,
    ReplaceQuery,
    Rule,
)
from txrec.text import normalise

_ANY_QUERY = "*"


def check(new: Sequence[Rule], existing: Iterable[Rule], now: datetime) -> None:
    """Checks new rules against each other and against the existing ones that they do not replace.

    Raises:
        RequestError: a rule can never act; names its place.
        ConflictError: two rules of equal priority contradict each other; names both.
    """
    for place, rule in enumerate(new):
        if rule.enabled and rule.when.period and rule.when.period.end and rule.when.period.end <= now:
            end = rule.when.period.end.isoformat()
            raise RequestError(f"{place}.when.period.end", f"rule {rule.rule_id!r} ended at {end}: it can never act")
    replaced = {rule.rule_id for rule in new}
    by_key: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in (rule for rule in existing if rule.rule_id not in replaced and rule.enabled):
        for key in _keys(rule):
            by_key[key].append(rule)
    for rule in (rule for rule in new if rule.enabled):
        for key in _lookups(rule):
            for other in by_key[key]:
                reason = contradiction(rule, other)
                if reason:
                    raise ConflictError("rule_id", f"{rule.rule_id!r} contradicts {other.rule_id!r}: {reason}")
        for key in _keys(rule):
            by_key[key].append(rule)


def contradiction(one: Rule, other: Rule) -> str | None:
    """Contradiction of two rules; None where both can act, or where their priorities decide."""
    if one.rule_id == other.rule_id or not overlap(one.when, other.when):
        return None
    effects = one.effect, other.effect
    for first, second in (effects, effects[::-1]):
        if isinstance(first, Pin) and isinstance(second, Block) and set(first.items) & set(second.products.items):
            return f"one pins {_common(first.items, second.products.items)}, the other blocks it"
        if isinstance(first, Promote) and isinstance(second, Limit) and _is_above(first, second):
            return f"one promotes to {first.share:g} of the slots, the other limits to {second.share:g}"
    if one.priority != other.priority:
        return None
    return _same_kind(one, other)


def _is_above(promote: Promote, limit: Limit) -> bool:
    return promote.products == limit.products and promote.share > limit.share


def _same_kind(one: Rule, other: Rule) -> str | None:
    first, second = one.effect, other.effect
    if isinstance(first, Pin) and isinstance(second, Pin):
        places = dict(zip(range(first.position, first.position + len(first.items)), first.items, strict=True))
        for position, item_id in enumerate(second.items, start=second.position):
            if places.get(position, item_id) != item_id:
                return f"both pin position {position}, {places[position]!r} and {item_id!r}"
        common = set(first.items) & set(second.items)
        if common and first.position != second.position:
            return f"they pin {min(common)!r} to two positions"
    if isinstance(first, ReplaceQuery | Redirect) and type(first) is type(second) and first != second:
        return f"both have the effect {first.type}"
    if {type(first), type(second)} == {Boost, Bury} and one.when == other.when:
        common = set(one.item_ids) & set(other.item_ids)
        if common:
            return f"one boosts {min(common)!r}, the other buries it under the same conditions"
    return None


def overlap(one: Conditions, other: Conditions) -> bool:
    """True where a request may fulfil both; patterns overlap with everything except texts that they do not match."""
    for name in ("category", "placement", "segment"):
        first, second = ({normalise(value) for value in getattr(when, name)} for when in (one, other))
        if first and second and name != "segment" and not first & second:
            return False
    return _periods_overlap(one.period, other.period) and _queries_overlap(one.query, other.query)


def _queries_overlap(one: QueryCondition | None, other: QueryCondition | None) -> bool:
    if one is None or other is None:
        return True
    for first, second in ((one, other), (other, one)):
        if first.exact is not None:
            return _fulfils(normalise(first.exact), second)
    return True


def _fulfils(query: str, condition: QueryCondition) -> bool:
    if condition.exact is not None:
        return query == normalise(condition.exact)
    if condition.contains is not None:
        return f" {normalise(condition.contains)} " in f" {query} "
    return re2.search(condition.pattern, query) is not None


def _periods_overlap(one: Period | None, other: Period | None) -> bool:
    if one is None or other is None:
        return True
    starts = [period.start for period in (one, other) if period.start]
    ends = [period.end for period in (one, other) if period.end]
    return not starts or not ends or max(starts) < min(ends)


def _keys(rule: Rule) -> set[tuple[str, str]]:
    """Keys under which a rule is found by those that may contradict it: positions, products, queries."""
    effect = rule.effect
    keys = {("item", item_id) for item_id in rule.item_ids}
    if isinstance(effect, Pin):
        keys |= {("position", str(effect.position + place)) for place in range(len(effect.items))}
    if isinstance(effect, Promote | Limit):
        keys.add(("products", effect.products.model_dump_json()))
    if isinstance(effect, ReplaceQuery | Redirect):
        keys |= {(effect.type, _exact_query(rule)), (effect.type, _ANY_QUERY)}
    return keys


def _lookups(rule: Rule) -> set[tuple[str, str]]:
    """Keys of the rules that may contradict one; a query that is not exact may meet every other."""
    kind = rule.effect.type
    if not isinstance(rule.effect, ReplaceQuery | Redirect):
        return _keys(rule)
    exact = _exact_query(rule)
    return {(kind, exact), (kind, "")} if exact else {(kind, _ANY_QUERY)}


def _exact_query(rule: Rule) -> str:
    """The normalised exact query of a rule; empty where its condition is another one."""
    return normalise(rule.when.query.exact) if rule.when.query and rule.when.query.exact else ""


def _common(one: Iterable[str], other: Iterable[str]) -> str:
    return repr(min(set(one) & set(other)))
