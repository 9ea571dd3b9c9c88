"""Rule index: the rules that act on a request, found by their conditions instead of by trying each rule.

Rules with equal conditions form a group. Groups are found by the most selective of their conditions: the exact query in
a dictionary, words of the query by their first one, all patterns at once by an RE2 set, then category, segment and
placement by value. The cost of a request depends on the groups that share a value with it, not on the number of rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import re2

from txrec.recommender.rules.rule_types import Conditions, QueryCondition, Rule, Synonyms, compiled
from txrec.text import normalise
from txrec.text.segmentation import is_unspaced

MAX_SET_SIZE, SET_BYTES = 200_000, 64 << 20
"""Instructions of the patterns that are matched at once, and memory that their automaton may use, bytes."""
_PUNCTUATION = ".,;:!?\"'()[]{}…。、，！？；："
"""Signs at the ends of words that conditions do not look at."""


@dataclass(frozen=True)
class RuleContext:
    """The parts of a request that conditions see.

    Attributes:
        query: normalised search text, empty = none.
        categories: normalised names of categories that the request filters for.
        placement: name of the place where the slate is shown, empty = unknown.
        segments: segments of the user.
        now_us: time of the request, microseconds since 1970 UTC.
    """

    query: str = ""
    categories: frozenset[str] = frozenset()
    placement: str = ""
    segments: frozenset[str] = frozenset()
    now_us: int = 0


@dataclass(frozen=True, eq=False)
class Group:
    """Rules with equal conditions, those of higher priority first."""

    conditions: Conditions
    rules: tuple[Rule, ...]

    def of(self, *kinds: type) -> tuple[Rule, ...]:
        """Rules with an effect of these kinds, in order."""
        if kinds not in self._by_kinds:
            self._by_kinds[kinds] = tuple(rule for rule in self.rules if isinstance(rule.effect, kinds))
        return self._by_kinds[kinds]

    @cached_property
    def _by_kinds(self) -> dict[tuple[type, ...], tuple[Rule, ...]]:
        return {}

    def holds(self, context: RuleContext) -> bool:
        """True where the conditions other than the query hold."""
        when = self.conditions
        return (
            (not when.placement or context.placement in when.placement)
            and (not when.segment or not context.segments.isdisjoint(when.segment))
            and (not when.category or not context.categories.isdisjoint(self._categories))
            and (when.period is None or when.period.holds(context.now_us))
        )

    @cached_property
    def _categories(self) -> frozenset[str]:
        return frozenset(normalise(name) for name in self.conditions.category)


@dataclass(eq=False)
class RuleIndex:
    """Rules by condition; immutable after construction."""

    rules: tuple[Rule, ...] = ()
    _exact: dict[str, list[Group]] = field(default_factory=lambda: defaultdict(list), repr=False)
    _contains: dict[str, list[tuple[tuple[str, ...], Group]]] = field(
        default_factory=lambda: defaultdict(list), repr=False
    )
    _patterns: list[tuple[str, Group]] = field(default_factory=list, repr=False)
    _pattern_sets: list[tuple[Any, list[Group]]] = field(default_factory=list, repr=False)
    _by_value: dict[tuple[str, str], list[Group]] = field(default_factory=lambda: defaultdict(list), repr=False)
    _always: list[Group] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        for group in _groups(rule for rule in self.rules if rule.enabled):
            self._add(group)
        for part in _parts(self._patterns):
            self._pattern_sets.append((_pattern_set([pattern for pattern, _ in part]), [group for _, group in part]))

    def match(self, context: RuleContext) -> list[Group]:
        """Groups whose conditions hold for a request."""
        candidates = [*self._always, *self._by_query(context.query)]
        values = [("placement", context.placement), *(("segment", name) for name in sorted(context.segments))]
        values += [("category", name) for name in sorted(context.categories)]
        for key in values:
            candidates += self._by_value.get(key, ())
        unique = {id(group): group for group in candidates}
        return [group for group in unique.values() if group.holds(context)]

    def _by_query(self, query: str) -> list[Group]:
        if not query:
            return []
        groups = list(self._exact.get(query, ()))
        words = words_of(query)
        for place, word in enumerate(words):
            for sequence, group in self._contains.get(word, ()):
                if tuple(words[place : place + len(sequence)]) == sequence:
                    groups.append(group)
        for pattern_set, members in self._pattern_sets:
            groups += [members[number] for number in pattern_set.Match(query) or ()]
        return groups

    def _add(self, group: Group) -> None:
        when = group.conditions
        if when.query is not None:
            self._add_query(when.query, group)
        elif when.category:
            self._add_values("category", [normalise(name) for name in when.category], group)
        elif when.segment:
            self._add_values("segment", when.segment, group)
        elif when.placement:
            self._add_values("placement", when.placement, group)
        else:
            self._always.append(group)

    def _add_query(self, query: QueryCondition, group: Group) -> None:
        if query.exact is not None:
            self._exact[normalise(query.exact)].append(group)
        elif query.contains is not None and is_unspaced(normalise(query.contains)):
            # words of such scripts have no blank between them
            self._patterns.append((re2.escape(normalise(query.contains)), group))
        elif query.contains is not None:
            words = words_of(normalise(query.contains))
            self._contains[words[0]].append((words, group))
        elif query.pattern is not None:
            self._patterns.append((query.pattern, group))

    def _add_values(self, name: str, values: Sequence[str], group: Group) -> None:
        for value in values:
            self._by_value[name, value].append(group)


def _parts(patterns: Iterable[tuple[str, Group]]) -> list[list[tuple[str, Group]]]:
    """Patterns in parts of at most `MAX_SET_SIZE` instructions: a larger set does not compile."""
    parts: list[list[tuple[str, Group]]] = []
    size = MAX_SET_SIZE
    for pattern, group in patterns:
        own = int(compiled(pattern).programsize)
        if size + own > MAX_SET_SIZE:
            parts.append([])
            size = 0
        parts[-1].append((pattern, group))
        size += own
    return parts


def _pattern_set(patterns: Iterable[str]) -> Any:
    options = re2.Options()
    options.max_mem = SET_BYTES
    pattern_set = re2.Set.SearchSet(options)
    for pattern in patterns:
        pattern_set.Add(pattern)
    pattern_set.Compile()
    return pattern_set


def words_of(text: str) -> tuple[str, ...]:
    """Words of a normalised text without punctuation at their ends; words of nothing but punctuation stay.

    >>> words_of('red "night light", c++ !')
    ('red', 'night', 'light', 'c++', '!')
    """
    return tuple(word.strip(_PUNCTUATION) or word for word in text.split())


def holds(query: str, text: str) -> bool:
    """True where a normalised query holds the words of another text, next to each other and in this order."""
    if is_unspaced(text):
        return text in query
    return f" {' '.join(words_of(text))} " in f" {' '.join(words_of(query))} "


def replaced(query: str, text: str, other: str) -> str:
    """A normalised query that holds a text, with another one in its place."""
    if is_unspaced(text):
        return query.replace(text, other)
    joined = f" {' '.join(words_of(query))} "
    return joined.replace(f" {' '.join(words_of(text))} ", f" {other} ").strip()


def _groups(rules: Iterable[Rule]) -> list[Group]:
    """Rules by their conditions. A synonym rule without query condition is found by its words."""
    by_conditions: dict[Conditions, list[Rule]] = defaultdict(list)
    for rule in rules:
        for conditions in _conditions(rule):
            by_conditions[conditions].append(rule)
    return [
        Group(conditions, tuple(sorted(members, key=lambda rule: (-rule.priority, rule.rule_id))))
        for conditions, members in by_conditions.items()
    ]


def _conditions(rule: Rule) -> list[Conditions]:
    if not isinstance(rule.effect, Synonyms) or rule.when.query is not None:
        return [rule.when]
    words = rule.effect.words if rule.effect.source is None else (rule.effect.source,)
    texts = dict.fromkeys(normalise(word) for word in words)
    return [rule.when.model_copy(update={"query": QueryCondition(contains=text)}) for text in texts if text]
