"""HTTP bodies of merchandising rules."""

from typing import Any

from pydantic import ConfigDict, RootModel, model_validator

from serve.api.base import ITEMS, Reply, as_many, one_or_many
from txrec.recommender.rules.rule_types import Rule

MAX_RULES = 1_000


class RulesRequest(RootModel[tuple[Rule, ...]]):
    """One rule, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=one_or_many(
            MAX_RULES,
            {
                "rule_id": "jeans first",
                "when": {"query": {"contains": "jeans"}},
                "effect": {"type": "pin", "items": [ITEMS[0]], "position": 1},
            },
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return as_many(body, MAX_RULES, "rules")


class RulesReply(Reply):
    """Rules, by name."""

    rules: list[Rule]
    """All of them."""


class RulesStoredReply(Reply):
    """Rules are on disk and act within two seconds."""

    stored: int
    """Rules added or replaced."""
    warnings: list[str]
    """Rules that have no effect now, e.g. because no product fulfils their filters."""


class RuleDeletedReply(Reply):
    """A rule is removed and ceases to act within two seconds."""

    rule_id: str
    """Name of the rule."""
