"""Bodies of requests: times that cannot be meant, texts with HTML, and booleans for numbers."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from serve.api.events import EventsRequest
from serve.api.items import ItemsRequest
from serve.api.judging import GradesRequest
from serve.api.slates import RecommendRequest
from serve.documents.placements import Placement
from txrec.recommender.rules.rule_types import Rule

SOME_DAY_S = 1_780_000_000
CLICK: dict[str, Any] = {"user_id": "u1", "event": "click", "item_id": "p1"}


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        (SOME_DAY_S, "looks like seconds"),
        (str(SOME_DAY_S), "looks like seconds"),
        (SOME_DAY_S * 1_000, "looks like milliseconds"),
        (True, "true is no time"),
        (SOME_DAY_S + 0.5, "integer"),
        ("2026-05-01T10:00:00Z", "integer"),
        (-1, "greater than or equal to 0"),
        (10**30, "less than or equal to"),
        (float("nan"), "finite"),
    ],
)
def test_a_time_that_is_not_in_microseconds_is_refused_with_the_reason(ts: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EventsRequest.model_validate({**CLICK, "ts": ts})


def test_a_time_in_microseconds_and_none_at_all_are_taken() -> None:
    assert EventsRequest.model_validate({**CLICK, "ts": SOME_DAY_S * 10**6}).root[0].ts == SOME_DAY_S * 10**6
    assert EventsRequest.model_validate(CLICK).root[0].ts is None


def test_html_in_the_texts_of_a_live_product_becomes_text() -> None:
    texts = {"title": "<b>Caf&eacute;</b> &amp; Bar", "description": "<p>One<br>two</p>", "brand": "A < B"}
    item = ItemsRequest.model_validate({"item_id": "p1", **texts}).root[0]
    assert (item.title, item.description, item.brand) == ("Café & Bar", "One two", "A < B")


@pytest.mark.parametrize(
    ("body", "values", "field"),
    [
        (EventsRequest, {**CLICK, "value": True}, "value"),
        (ItemsRequest, {"item_id": "p1", "price": False}, "price"),
        (RecommendRequest, {"user_id": "u1", "top_k": True}, "top_k"),
        (RecommendRequest, {"user_id": "u1", "diversity": True}, "diversity"),
        (Placement, {"max_showings": True}, "max_showings"),
        (Rule, {"rule_id": "r", "effect": {"type": "boost", "factor": True, "products": {"items": ["p1"]}}}, "factor"),
        (GradesRequest, {"query": "q", "judge": "ann", "grades": {"p1": True}}, "grades"),
    ],
)
def test_a_boolean_is_no_number(body: type[BaseModel], values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=r"expected a number, found (true|false)") as refused:
        body.model_validate(values)
    assert any(field in error["loc"] for error in refused.value.errors())


def test_a_number_may_be_whole_or_a_fraction_or_text() -> None:
    assert RecommendRequest.model_validate({"user_id": "u1", "top_k": 3, "diversity": 1}).diversity == 1.0
    assert ItemsRequest.model_validate({"item_id": "p1", "price": "19.90"}).root[0].price == 19.9
