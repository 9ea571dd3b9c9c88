"""Requests as bodies of the HTTP API, each with the request that the recommender gets of it."""

from typing import Any

from txrec.recommender.recommender import Event, Filters, PriceRange, Request

CASES: dict[str, tuple[dict[str, Any], Request]] = {
    "search": ({"query": "lamp"}, Request(query="lamp")),
    "typo and user": ({"query": "lmap", "user_id": "user-003"}, Request(query="lmap", user_id="user-003")),
    "user": ({"user_id": "user-003"}, Request(user_id="user-003")),
    "nobody": ({}, Request()),
    "session and cart": (
        {"session": [{"event": "click", "item_id": "sku-012"}], "items": ["sku-013"]},
        Request(events=(Event("click", "sku-012"),), cart=("sku-013",)),
    ),
    "filters": (
        {"query": "lamp", "filters": {"brand": ["acme"], "price": {"max": 25}}},
        Request(query="lamp", filters=Filters(brand=("acme",), price=PriceRange(max=25))),
    ),
    "diversity and exclusions": (
        {"user_id": "user-003", "diversity": 0.7, "exclude": ["sku-031"], "exclude_seen": True},
        Request(user_id="user-003", diversity=0.7, exclude=frozenset({"sku-031"}), exclude_seen=True),
    ),
}
