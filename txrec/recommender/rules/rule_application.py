"""Application of rules: the request before retrieval, and the slate after ranking.

A request on which no rule acts passes unchanged. Where a rule moves products, the ranked candidates behind the slate
take part, so that a boosted product can enter it.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from txrec.errors import RequestError
from txrec.index.filters.filters import Filters
from txrec.index.source import Mask
from txrec.recommender.rules.rule_index import Group, RuleContext, RuleIndex, holds, replaced
from txrec.recommender.rules.rule_types import (
    Block,
    Boost,
    Bury,
    Limit,
    Pin,
    Products,
    Promote,
    Redirect,
    ReplaceQuery,
    Rule,
    Synonyms,
)
from txrec.recommender.types import Request, Slate, SlateItem
from txrec.text import normalise

_LOG = logging.getLogger(__name__)
MAX_NAMED_BLOCKS = 100
"""Blocking rules that an answer names; which of them took a product out of it is not known."""
MAX_MASKS = 256
"""Masks of groups that are kept per catalogue."""
MAX_VARIANTS = 50
"""Texts of one meaning whose products a page holds."""
E_ = TypeVar("E_")


class RuleCatalogue(Protocol):
    """The part of `txrec.recommender.catalogue.Catalogue` that rules use."""

    @property
    def idx_of(self) -> Mapping[str, int]:
        """item_id -> item_idx."""
        ...

    @property
    def titles(self) -> NDArray[np.object_]:
        """(N + 1,) titles by item_idx."""
        ...

    def price_of(self, item_idx: int) -> float | None:
        """Price of a product; None where it is unknown."""
        ...

    def mask(self, filters: Filters | None, excluded: Sequence[int] | NDArray[np.int32]) -> Mask:
        """(N + 1,) items that may be shown; None = all."""
        ...


@dataclass(frozen=True, eq=False)
class RuleBook:
    """The rules of a shop, compiled for one catalogue after the other. Immutable; safe for concurrent requests."""

    index: RuleIndex = field(default_factory=RuleIndex)
    _compiled: "WeakKeyDictionary[Any, OrderedDict[int, GroupMasks]]" = field(
        default_factory=WeakKeyDictionary, repr=False
    )

    def match(self, context: RuleContext, catalogue: RuleCatalogue) -> "ActiveRules | None":
        """The rules that act on a request; None where none does."""
        groups = self.index.match(context) if self.index.rules else []
        return ActiveRules(tuple(groups), catalogue, self) if groups else None

    def masks(self, group: Group, catalogue: RuleCatalogue) -> "GroupMasks":
        """A group's filters as arrays over a catalogue, computed once."""
        kept = self._compiled.setdefault(catalogue, OrderedDict())
        masks = kept.get(id(group))
        if masks is None:
            kept[id(group)] = masks = GroupMasks(group, catalogue)
            while len(kept) > MAX_MASKS:
                kept.popitem(last=False)
        return masks


class GroupMasks:
    """Products of a group's rules, over one catalogue: named ones by index, those of filters as arrays."""

    def __init__(self, group: Group, catalogue: RuleCatalogue) -> None:
        self._group = group
        self._catalogue = catalogue
        self._size = len(catalogue.titles)

    @cached_property
    def named_factors(self) -> Mapping[int, tuple[Rule, ...]]:
        """Boosting and burying rules without filters, by the item_idx of each product that they name."""
        by_item: dict[int, list[Rule]] = defaultdict(list)
        for rule in self._group.of(Boost, Bury):
            if not _has_filters(rule):
                for item_id in rule.item_ids:
                    by_item[self._catalogue.idx_of.get(item_id, 0)].append(rule)
        return {item_idx: tuple(rules) for item_idx, rules in by_item.items() if item_idx}

    @cached_property
    def filtered_factors(self) -> tuple[tuple[Rule, NDArray[np.bool_]], ...]:
        """Boosting and burying rules with filters, each with the (N + 1,) mask of its products."""
        rules = [rule for rule in self._group.of(Boost, Bury) if _has_filters(rule)]
        return tuple(
            (rule, self._mask(rule.effect.products)) for rule in rules if isinstance(rule.effect, Boost | Bury)
        )

    @cached_property
    def factors(self) -> NDArray[np.float32] | None:
        """(N + 1,) product of the factors of the rules with filters; None where there is none."""
        if not self.filtered_factors:
            return None
        factors = np.ones(self._size, np.float32)
        for rule, mask in self.filtered_factors:
            if isinstance(rule.effect, Boost | Bury):
                factors[mask] *= rule.effect.factor
        return factors

    @cached_property
    def blocked(self) -> NDArray[np.int64]:
        """Indices of the products that are blocked, ascending."""
        selections = [
            self.selected(rule.effect.products) for rule in self._group.of(Block) if isinstance(rule.effect, Block)
        ]
        return np.unique(np.concatenate(selections)) if selections else np.zeros(0, np.int64)

    def _mask(self, products: Products) -> NDArray[np.bool_]:
        mask = np.zeros(self._size, np.bool_)
        mask[self.selected(products)] = True
        return mask

    def selected(self, products: Products) -> NDArray[np.int64]:
        """Dense indices of the selected products."""
        named = [self._catalogue.idx_of[name] for name in products.items if name in self._catalogue.idx_of]
        if products.filters is None:
            return np.array(named, np.int64)
        try:
            mask = self._catalogue.mask(products.filters, ())
        except RequestError as error:  # the field was there when the rule was put, another model lacks it
            _LOG.warning("the filters of a rule select nothing: %s", error)
            return np.array(named, np.int64)
        matching = np.arange(1, self._size) if mask is None else np.flatnonzero(mask)
        return np.union1d(matching, np.array(named, np.int64))


@dataclass(frozen=True, eq=False)
class ActiveRules:
    """Rules that act on one request.

    Attributes:
        groups: the rules, by their conditions.
        catalogue: of the request.
        book: all rules.
        adds_items: whether pinned and promoted products may come from outside the slate.
    """

    groups: tuple[Group, ...]
    catalogue: RuleCatalogue
    book: RuleBook
    adds_items: bool = True

    def prepare(self, request: Request, num_ranked: int) -> Request:
        """The request to retrieve for: query, blocked products, and as many ranked candidates as effects need.

        Args:
            request: as it was sent.
            num_ranked: candidates per request that the ranker orders.
        """
        query, blocked = request.query, self._blocked
        replacement = self._first(ReplaceQuery)
        if replacement is not None:
            query = replacement[1].query
        base = normalise(query or "")
        added = self._added_words(base)
        query = " ".join([query or "", *added]) or None
        variants = self._variants(base) if added else ()
        top_k = max(request.top_k, num_ranked) if self._moves else request.top_k
        sent = request.query if request.sent_query is None else request.sent_query
        return replace(request, query=query, sent_query=sent or "", variants=variants, blocked=blocked, top_k=top_k)

    def apply(self, slate: Slate, request: Request) -> Slate:
        """The slate of a prepared request after the effects.

        Args:
            slate: of the request that `prepare` returned.
            request: as it was sent.
        """
        acted: dict[str, str] = {}
        reasons: dict[str, list[str]] = defaultdict(list)
        for kind in (ReplaceQuery, Redirect):
            for rule in [rule for rule, _ in self._of(kind)][:1]:
                acted[rule.rule_id] = rule.effect.type
        for rule, _ in self._of(Synonyms):
            acted[rule.rule_id] = "synonyms"
        for rule, _ in self._of(Block)[:MAX_NAMED_BLOCKS]:
            acted[rule.rule_id] = "block"
        items = self._rescored(self._allowed(slate.items), acted, reasons)
        items = self._promoted(items, request, acted, reasons)
        items = self._limited(items, request, acted)
        items = self._pinned(items, request, acted, reasons)[: request.top_k]
        if request.explain:
            items = [replace(item, reasons=(*item.reasons, *reasons[item.item_id])) for item in items]
        redirect = self._first(Redirect)
        return replace(slate, items=tuple(items), rules=acted, redirect=redirect[1].url if redirect else None)

    @cached_property
    def _moves(self) -> bool:
        return any(group.of(Boost, Bury, Promote, Limit, Pin) for group in self.groups)

    def _of(self, *kinds: type[E_]) -> list[tuple[Rule, E_]]:
        """Rules with an effect of these kinds, by priority, then name."""
        rules = [rule for group in self.groups for rule in group.of(*kinds)]
        ordered = sorted(rules, key=lambda rule: (-rule.priority, rule.rule_id))
        return [(rule, rule.effect) for rule in ordered if isinstance(rule.effect, kinds)]

    def _first(self, kind: type[E_]) -> tuple[Rule, E_] | None:
        return next(iter(self._of(kind)), None)

    @cached_property
    def _blocked(self) -> NDArray[np.bool_] | None:
        indices = [self.book.masks(group, self.catalogue).blocked for group in self.groups if group.of(Block)]
        if not indices:
            return None
        blocked = np.zeros(len(self.catalogue.titles), np.bool_)
        for selected in indices:
            blocked[selected] = True
        return blocked

    def _allowed(self, items: Sequence[SlateItem]) -> list[SlateItem]:
        blocked = self._blocked
        return [item for item in items if blocked is None or not blocked[self.catalogue.idx_of[item.item_id]]]

    def _added_words(self, query: str) -> list[str]:
        known, added = set(query.split()), []
        for _, effect in self._of(Synonyms):
            for word in effect.words:
                text = normalise(word)
                if text and not set(text.split()) <= known:
                    added.append(text)
                    known |= set(text.split())
        return added

    def _variants(self, query: str) -> tuple[str, ...]:
        """A normalised query, and for each synonym the query with it instead of the words of the same meaning."""
        variants = {query: None}
        for _, effect in self._of(Synonyms):
            texts = [normalise(word) for word in effect.words]
            held = [normalise(effect.source)] if effect.source is not None else [t for t in texts if holds(query, t)]
            variants |= {replaced(query, text, other): None for text in held for other in texts if other}
        return tuple(variants)[:MAX_VARIANTS]

    def _rescored(
        self, items: list[SlateItem], acted: dict[str, str], reasons: dict[str, list[str]]
    ) -> list[SlateItem]:
        factors = np.ones(len(items))
        for group in self.groups:
            if group.of(Boost, Bury):
                factors *= self._factors(group, items, acted, reasons)
        if (factors == 1).all():
            return items
        # positions decide between equal factors: slates with reserved slots or diversity are not in order of score
        scores = np.minimum.accumulate([item.score for item in items]) * factors
        order = np.argsort(-scores, kind="stable")
        return [replace(items[place], score=float(items[place].score * factors[place])) for place in order]

    def _factors(
        self, group: Group, items: Sequence[SlateItem], acted: dict[str, str], reasons: dict[str, list[str]]
    ) -> NDArray[np.float64]:
        """(len(items),) factors of one group; notes its rules that acted."""
        masks, factors = self.book.masks(group, self.catalogue), np.ones(len(items))
        filtered = masks.factors
        for place, item in enumerate(items):
            item_idx = self.catalogue.idx_of[item.item_id]
            rules = list(masks.named_factors.get(item_idx, ()))
            if filtered is not None and filtered[item_idx] != 1:
                rules += [rule for rule, mask in masks.filtered_factors if mask[item_idx]]
            for rule in rules:
                if isinstance(rule.effect, Boost | Bury):
                    factors[place] *= rule.effect.factor
                    acted[rule.rule_id] = rule.effect.type
                    reasons[item.item_id].append(f"rule {rule.rule_id!r}: {rule.effect.type} by {rule.effect.factor:g}")
        return factors

    def _promoted(
        self, items: list[SlateItem], request: Request, acted: dict[str, str], reasons: dict[str, list[str]]
    ) -> list[SlateItem]:
        first = self._first(Promote)
        if first is None:
            return items
        rule, effect = first
        masks = self.book.masks(self._group_of(rule), self.catalogue)
        selected = set(masks.selected(effect.products).tolist())
        promoted = [item for item in items if self.catalogue.idx_of[item.item_id] in selected]
        present = {item.item_id for item in promoted}
        promoted += self._new_items([name for name in effect.products.items if name not in present], request)
        count = min(len(promoted), int(np.ceil(effect.share * request.top_k - 1e-9)))
        chosen = promoted[:count]
        names = {item.item_id for item in chosen}
        others = [item for item in items if item.item_id not in names]
        result: list[SlateItem] = []
        slots = {int(number / effect.share): item for number, item in enumerate(chosen)}
        while others or slots:
            promoted_item = slots.pop(len(result), None)
            if promoted_item is None:
                promoted_item = others.pop(0) if others else slots.pop(min(slots))
            result.append(promoted_item)
        if chosen:
            acted[rule.rule_id] = "promote"
        for name in names:
            reasons[name].append(f"rule {rule.rule_id!r}: promoted")
        return result

    def _limited(self, items: list[SlateItem], request: Request, acted: dict[str, str]) -> list[SlateItem]:
        for rule, effect in self._of(Limit):
            masks = self.book.masks(self._group_of(rule), self.catalogue)
            selected = set(masks.selected(effect.products).tolist())
            places = [n for n, item in enumerate(items) if self.catalogue.idx_of[item.item_id] in selected]
            surplus = set(places[int(np.floor(effect.share * request.top_k + 1e-9)) :])
            if any(place < request.top_k for place in surplus):
                acted[rule.rule_id] = "limit"
            items = [item for place, item in enumerate(items) if place not in surplus]
        return items

    def _pinned(
        self, items: list[SlateItem], request: Request, acted: dict[str, str], reasons: dict[str, list[str]]
    ) -> list[SlateItem]:
        positions: dict[int, tuple[Rule, str]] = {}
        used: set[str] = set()
        for rule, effect in self._of(Pin):
            for position, item_id in enumerate(effect.items, start=effect.position):
                if position not in positions and item_id not in used and position <= request.top_k:
                    positions[position] = rule, item_id
                    used.add(item_id)
        present = {item.item_id: item for item in items}
        new = self._new_items([item_id for item_id in sorted(used) if item_id not in present], request)
        present |= {item.item_id: item for item in new}
        result = [item for item in items if item.item_id not in used]
        for position, (rule, item_id) in sorted(positions.items()):
            if item_id in present:
                result.insert(position - 1, present[item_id])
                acted[rule.rule_id] = "pin"
                reasons[item_id].append(f"rule {rule.rule_id!r}: pinned to position {position}")
        return result

    def _new_items(self, item_ids: Sequence[str], request: Request) -> list[SlateItem]:
        """Slate items of products that are not among the candidates, where they may be shown."""
        if not self.adds_items:
            return []
        return slate_items(self.catalogue, item_ids, replace(request, blocked=self._blocked), "rule")

    def _group_of(self, rule: Rule) -> Group:
        return next(group for group in self.groups if rule in group.rules)


def _has_filters(rule: Rule) -> bool:
    return isinstance(rule.effect, Boost | Bury) and rule.effect.products.filters is not None


def slate_items(catalogue: RuleCatalogue, item_ids: Sequence[str], request: Request, source: str) -> list[SlateItem]:
    """Slate items of named products, without those that a request excludes, filters out or has in its cart.

    Args:
        catalogue: knows the products; others are left out.
        item_ids: the products, in order.
        request: says what may be shown.
        source: of the slate items.
    """
    known = [item_id for item_id in item_ids if item_id in catalogue.idx_of]
    if not known:
        return []
    mask, hidden = catalogue.mask(request.filters, ()), request.exclude | set(request.cart)
    items = []
    for item_id in known:
        idx = catalogue.idx_of[item_id]
        blocked = request.blocked is not None and request.blocked[idx]
        if item_id not in hidden and (mask is None or mask[idx]) and not blocked:
            items.append(SlateItem(item_id, 0.0, catalogue.titles[idx], source, price=catalogue.price_of(idx)))
    return items
