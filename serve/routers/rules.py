"""Endpoints of merchandising rules: list, read, add or replace, remove."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter

from serve.api.rules import RuleDeletedReply, RulesReply, RulesRequest, RulesStoredReply
from serve.http.authorization import requires
from serve.http.dependencies import of_app
from serve.http.openapi_errors import ERRORS, RULE_CONFLICT, UNKNOWN_RULE
from serve.types import Service
from txrec.errors import ConflictError, RequestError, UnknownItemError, UnknownRuleError
from txrec.index.filters.expressions import Condition, Not
from txrec.index.filters.filters import Filters, as_expression, joined
from txrec.online.documents import DocumentStore
from txrec.recommender.rules.rule_checks import blocked_pairs, check, never_acting
from txrec.recommender.rules.rule_types import Block, Boost, Bury, Limit, Pin, Products, Promote, Rule

router = APIRouter(prefix="/v1", tags=["rules"], responses=ERRORS, dependencies=[requires("admin")])

MAX_RULES = 20_000
"""Rules of a shop."""
MAX_PAIRS = 200
"""Pairs of rules that are compared by the products of the catalogue when rules are put."""
NOTHING = Filters(where=Condition(field="price", lt=-1))
"""Conditions that no product fulfils."""
ATTEMPTS = 5
"""Attempts to write where other callers change the rules at the same time."""


class LiveRules:
    """The rules of the shop as requests read and change them.

    Args:
        store: keeps the rules.
        service: knows the products.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, store: DocumentStore, service: Service, clock: Callable[[], float]) -> None:
        self._store = store
        self._service = service
        self._clock = clock

    async def all(self) -> list[Rule]:
        """All rules, by name."""
        documents = await asyncio.to_thread(self._store.all)
        return [Rule.model_validate(document) for _, document in sorted(documents.by_name.items())]

    async def put(self, rules: Sequence[Rule]) -> RulesStoredReply:
        """Stores rules after checking them against the catalogue and against each other.

        Raises:
            UnknownItemError: a rule names a product that the catalogue does not hold.
            RequestError: a rule can never act.
            ConflictError: two rules contradict each other.
        """
        names = [rule.rule_id for rule in rules]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise RequestError("rule_id", f"{double!r} is there twice; expected each name once")
        warnings = await self._check_products(rules)
        others = await asyncio.to_thread(self._write, rules)
        warnings += await asyncio.to_thread(never_acting, rules, others) + await self._blocked(rules, others)
        return RulesStoredReply(stored=len(rules), warnings=warnings)

    async def delete(self, rule_id: str) -> None:
        """Removes a rule."""
        if not await asyncio.to_thread(self._store.delete, rule_id):
            raise UnknownRuleError("rule_id", f"there is no rule {rule_id!r}")

    def _write(self, rules: Sequence[Rule]) -> list[Rule]:
        """Stores rules that go with those of the shop, and returns the latter."""
        documents = {rule.rule_id: rule.model_dump(mode="json", by_alias=True, exclude_defaults=True) for rule in rules}
        for rule in rules:  # the discriminator is a default
            documents[rule.rule_id]["effect"]["type"] = rule.effect.type
        for _ in range(ATTEMPTS):
            present = self._store.all()
            if len(present.by_name.keys() | documents.keys()) > MAX_RULES:
                raise RequestError("body", f"there would be more than the {MAX_RULES} rules that a shop may have")
            existing = [Rule.model_validate(document) for document in present.by_name.values()]
            check(rules, existing, datetime.fromtimestamp(self._clock(), UTC))
            if self._store.put(documents, present.version) is not None:
                return existing
        raise ConflictError("rule_id", "other callers change the rules at the same time; try again")

    async def _blocked(self, rules: Sequence[Rule], others: Sequence[Rule]) -> list[str]:
        """Warnings of rules all of whose products are blocked now by the filters of another rule; they name both."""
        pairs = [
            (rule, block, Products(items=products.items, filters=block.effect.products.filters), open_products)
            for rule, block in blocked_pairs(rules, others, MAX_PAIRS)
            if isinstance(block.effect, Block)
            and (products := _products(rule)) is not None
            and (open_products := _unblocked(products, block.effect.products)) is not None
        ]
        selections = [selection for _, _, named, unblocked in pairs for selection in (named, unblocked)]
        checks = await self._service.check_products(selections) if selections else ()
        warnings = []
        for (rule, block, named, _), common, unblocked in zip(pairs, checks[::2], checks[1::2], strict=True):
            if common.num_common == len(named.items) and not unblocked.num_selected and unblocked.error is None:
                warnings.append(f"rule {rule.rule_id!r} never acts now: {block.rule_id!r} blocks all of its products")
        return warnings

    async def _check_products(self, rules: Sequence[Rule]) -> list[str]:
        selecting = [(place, rule, _products(rule)) for place, rule in enumerate(rules)]
        selections = [(place, rule, products) for place, rule, products in selecting if products is not None]
        checks = await self._service.check_products([products for _, _, products in selections]) if selections else ()
        warnings = []
        for (place, rule, _), result in zip(selections, checks, strict=True):
            field = f"{place}.effect" if len(rules) > 1 else "effect"
            if result.unknown:
                raise UnknownItemError.of(field, result.unknown[0], where=f"rule {rule.rule_id!r}: ")
            if result.error:
                raise RequestError(f"{field}.products.filters", f"rule {rule.rule_id!r}: {result.error}")
            if not result.num_selected:
                warnings.append(f"rule {rule.rule_id!r} selects no product now")
        return warnings


def _unblocked(products: Products, blocked: Products) -> Products | None:
    """Selection by the filters of some products and against those of a blocking rule; None where it cannot be said."""
    if blocked.filters is None or blocked.filters.available is not None:
        return None
    conditions = as_expression(blocked.filters)
    if conditions is None:
        return None
    outside = Filters(where=Not(part=conditions))
    filters = joined(products.filters, outside) if products.filters else joined(outside, NOTHING)
    return Products(filters=filters)


def _products(rule: Rule) -> Products | None:
    effect = rule.effect
    if isinstance(effect, Pin):
        return Products(items=effect.items)
    return effect.products if isinstance(effect, Boost | Bury | Block | Promote | Limit) else None


LiveRulesDep = Annotated[LiveRules, of_app("rules")]


@router.get("/rules", summary="All rules")
async def rules(live: LiveRulesDep) -> RulesReply:
    """By name."""
    return RulesReply(rules=await live.all())


@router.put("/rules", summary="Add or replace rules", responses={**UNKNOWN_RULE, **RULE_CONFLICT})
async def put_rules(body: RulesRequest, live: LiveRulesDep) -> RulesStoredReply:
    """Durable before the answer, acting within two seconds on every replica, through restarts and new models.

    A rule that can never act, contradicts another one, or names an unknown product is refused by name.
    """
    return await live.put(body.root)


@router.get("/rules/{rule_id:id}", summary="A rule", responses=UNKNOWN_RULE)
async def rule(rule_id: str, live: LiveRulesDep) -> Rule:
    """As it was put."""
    for one in await live.all():
        if one.rule_id == rule_id:
            return one
    raise UnknownRuleError("rule_id", f"there is no rule {rule_id!r}")


@router.delete("/rules/{rule_id:id}", summary="Remove a rule", responses=UNKNOWN_RULE)
async def delete_rule(rule_id: str, live: LiveRulesDep) -> RuleDeletedReply:
    """It ceases to act within two seconds on every replica."""
    await live.delete(rule_id)
    return RuleDeletedReply(rule_id=rule_id)
