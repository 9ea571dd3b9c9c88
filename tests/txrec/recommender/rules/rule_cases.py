"""A small catalogue, and rules on its products."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.errors import RequestError
from txrec.index.filters.filters import Filters
from txrec.recommender.rules.rule_application import RuleBook
from txrec.recommender.rules.rule_index import RuleContext, RuleIndex
from txrec.recommender.rules.rule_types import Rule
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


JEANS = {"query": {"exact": "jeans"}}
