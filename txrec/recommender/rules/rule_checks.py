"""Checks of rules against each other: pairs that cannot both act on a request that fulfils the conditions of both."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice, takewhile

import re2

from txrec.errors import ConflictError, RequestError
from txrec.recommender.rules.rule_index import holds, words_of
from txrec.recommender.rules.rule_types import (
    Block,
    Boost,
    Bury,
    Conditions,
    Limit,
    Period,
    Pin,
    Products,
    Promote,
    QueryCondition,
    Redirect,
    ReplaceQuery,
    Rule,
)
from txrec.text import normalise
from txrec.text.segmentation import is_unspaced

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
            prefix = f"{place}." if len(new) > 1 else ""
            raise RequestError(f"{prefix}when.period.end", f"rule {rule.rule_id!r} ended at {end}: it can never act")
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


def never_acting(new: Sequence[Rule], existing: Iterable[Rule]) -> list[str]:
    """Warnings of rules that never act, or never at a position, because one of higher priority does; name both."""
    replaced = {rule.rule_id for rule in new}
    rules = [rule for rule in (*new, *(one for one in existing if one.rule_id not in replaced)) if rule.enabled]
    by_conditions: dict[tuple[str, Conditions], list[Rule]] = defaultdict(list)
    for rule in rules:
        if isinstance(rule.effect, Promote | ReplaceQuery | Redirect):
            by_conditions[rule.effect.type, rule.when].append(rule)
    warnings = []
    for alike in by_conditions.values():
        first = max(alike, key=lambda rule: rule.priority)
        warnings += [
            f"rule {rule.rule_id!r} never acts: {first.rule_id!r} has the same conditions, the same effect "
            f"{rule.effect.type} and a higher priority"
            for rule in alike
            if rule.priority < first.priority and not replaced.isdisjoint({rule.rule_id, first.rule_id})
        ]
    return warnings + _covered_pins([rule for rule in rules if isinstance(rule.effect, Pin)], replaced)


def _covered_pins(pins: Sequence[Rule], changed: Collection[str]) -> list[str]:
    """Warnings of pins at positions that one of higher priority takes on every request on which they act.

    Args:
        pins: enabled rules with the effect pin.
        changed: names of those to be stored; one of each warning's two rules is among them.
    """
    everyone, changed_ones = _by_place(pins), _by_place([rule for rule in pins if rule.rule_id in changed])
    warnings = []
    for rule in pins:
        taken: dict[str, list[int]] = defaultdict(list)
        by_place = everyone if rule.rule_id in changed else changed_ones
        for position in _positions(rule):
            others = (
                one for query in _covering_queries(rule) for one in _above(by_place.get((position, query), ()), rule)
            )
            other = next((one for one in others if covers(one.when, rule.when)), None)
            if other is not None:
                taken[other.rule_id].append(position)
        num_taken = sum(map(len, taken.values()))
        extent = "never acts" if num_taken == len(_positions(rule)) else "acts at other positions only"
        warnings += [
            f"rule {rule.rule_id!r} {extent}: {name!r} has a higher priority, acts on every request on which it acts, "
            f"and pins position {', '.join(map(str, positions))} too"
            for name, positions in taken.items()
        ]
    return warnings


def _by_place(pins: Iterable[Rule]) -> Mapping[tuple[int, str], list[Rule]]:
    """Pins of each position and key of a query; highest priority first."""
    by_place: dict[tuple[int, str], list[Rule]] = defaultdict(list)
    for rule in sorted(pins, key=lambda rule: -rule.priority):
        for position in _positions(rule):
            by_place[position, _query_key(rule)].append(rule)
    return by_place


def _query_key(rule: Rule) -> str:
    """Key of a rule's query condition: its exact query, or the first word that it contains; empty for all others."""
    query = rule.when.query
    if query is None or query.pattern is not None:
        return ""
    text = normalise(query.exact or query.contains or "")
    if query.exact is not None:
        return text
    return "" if is_unspaced(text) else next(iter(words_of(text)), "")


def _covering_queries(rule: Rule) -> set[str]:
    """Keys of the rules whose query conditions may cover that of a rule."""
    query = rule.when.query
    text = normalise((query.exact or query.contains or "") if query else "")
    return {"", text, *words_of(text)}


def _above(pins: Iterable[Rule], rule: Rule) -> Iterator[Rule]:
    """The first of pins by priority, as long as theirs is higher than a rule's."""
    return takewhile(lambda one: one.priority > rule.priority, pins)


def _positions(rule: Rule) -> range:
    """Positions of the products of a pin; none for a rule with another effect."""
    effect = rule.effect
    return range(effect.position, effect.position + len(effect.items)) if isinstance(effect, Pin) else range(0)


def blocked_pairs(new: Sequence[Rule], existing: Iterable[Rule], most: int) -> list[tuple[Rule, Rule]]:
    """Pairs of a rule on products and a rule that blocks products by filters on every request on which the first acts.

    Args:
        new: rules to be stored; one of each pair is among them.
        existing: rules of the shop.
        most: pairs to return.
    """
    names = {rule.rule_id for rule in new}
    enabled = [rule for rule in (*new, *(one for one in existing if one.rule_id not in names)) if rule.enabled]
    blocks = [rule for rule in enabled if isinstance(rule.effect, Block) and rule.effect.products.filters is not None]
    pairs = (
        (rule, block)
        for block in blocks
        for rule in (enabled if block.rule_id in names else new)
        if rule.enabled and isinstance(rule.effect, Pin | Boost | Bury | Promote) and covers(block.when, rule.when)
    )
    return list(islice(pairs, most))


def contradiction(one: Rule, other: Rule) -> str | None:
    """Contradiction of two rules; None where both can act, or where their priorities decide."""
    if one.rule_id == other.rule_id or not overlap(one.when, other.when):
        return None
    effects = one.effect, other.effect
    for first, second in (effects, effects[::-1]):
        if isinstance(first, Pin) and isinstance(second, Block) and set(first.items) & set(second.products.items):
            return f"one pins {_common(first.items, second.products.items)}, the other blocks it"
        if isinstance(first, Boost | Bury | Promote) and isinstance(second, Block):
            blocked_when, when = (one.when, other.when) if first is other.effect else (other.when, one.when)
            if _selects_all(second.products, first.products) and covers(blocked_when, when):
                return f"one blocks all products of the other, which can never act with its effect {first.type}"
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
        return _same_places(first, second)
    if isinstance(first, ReplaceQuery | Redirect) and type(first) is type(second) and first != second:
        return f"both have the effect {first.type}"
    if one.when != other.when:
        return None
    if isinstance(first, Promote) and isinstance(second, Promote):
        return "both have the effect promote under the same conditions"
    if isinstance(first, Boost | Bury) and isinstance(second, Boost | Bury) and type(first) is not type(second):
        common = set(one.item_ids) & set(other.item_ids)
        if common or (first.products.filters is not None and first.products == second.products):
            named = repr(min(common)) if common else "the products of a filter"
            return f"one boosts {named}, the other buries it under the same conditions"
    return None


def _same_places(first: Pin, second: Pin) -> str | None:
    places = dict(zip(range(first.position, first.position + len(first.items)), first.items, strict=True))
    for position, item_id in enumerate(second.items, start=second.position):
        if places.get(position, item_id) != item_id:
            return f"both pin position {position}, {places[position]!r} and {item_id!r}"
    common = set(first.items) & set(second.items)
    if common and first.position != second.position:
        return f"they pin {min(common)!r} to two positions"
    return None


def _selects_all(wide: Products, narrow: Products) -> bool:
    """True where one selection holds every product of another, whatever the catalogue is."""
    return set(narrow.items) <= set(wide.items) and narrow.filters in (None, wide.filters)


def covers(wide: Conditions, narrow: Conditions) -> bool:
    """True where every request that fulfils the narrow conditions certainly fulfils the wide ones."""
    for name in ("category", "placement", "segment"):
        first, second = ({normalise(value) for value in getattr(when, name)} for when in (wide, narrow))
        if first and not (second and second <= first):
            return False
    return _period_covers(wide.period, narrow.period) and _query_covers(wide.query, narrow.query)


def _period_covers(wide: Period | None, narrow: Period | None) -> bool:
    if wide is None:
        return True
    own = narrow or Period()
    starts = wide.start is None or (own.start is not None and own.start >= wide.start)
    return starts and (wide.end is None or (own.end is not None and own.end <= wide.end))


def _query_covers(wide: QueryCondition | None, narrow: QueryCondition | None) -> bool:
    if wide is None or wide == narrow:
        return True
    if narrow is None:
        return False
    if narrow.exact is not None:
        return _fulfils(normalise(narrow.exact), wide)
    return narrow.contains is not None and wide.contains is not None and _fulfils(normalise(narrow.contains), wide)


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
        return holds(query, normalise(condition.contains))
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
    if isinstance(effect, Boost | Bury | Block | Promote) and effect.products.filters is not None:
        keys.add(("filters", effect.products.filters.model_dump_json()))
    if isinstance(effect, Promote):
        keys.add(("promote", rule.when.model_dump_json()))
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
