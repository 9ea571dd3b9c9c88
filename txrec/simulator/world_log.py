"""Logs of the live world: slates and events as a server would have kept them."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec import schema
from txrec.simulator.files import START, user_id
from txrec.simulator.world import Responses, Visits, World

ANSWER_US = 3_000_000
"""Time between a slate and the first click."""
START_US = int(START.timestamp() * 1_000_000)


def events(world: World, visits: Visits, items: NDArray[np.int64], responses: Responses, first: int = 0) -> pa.Table:
    """Events of visits, as schema.EVENTS in time order: searches, clicks, carts and purchases.

    Args:
        world: whose products and queries.
        visits: B visits.
        items: (B, K) slates shown.
        responses: to the slates.
        first: number of the first request; request ids are `rNUMBER`, as `slates` gives them.
    """
    ids = np.array([product.item_id for product in world.shop.catalogue.products], dtype=object)
    prices = np.array([product.price for product in world.shop.catalogue.products])
    texts = world.query_texts(visits)
    rows: list[dict[str, Any]] = []
    start = (START_US + visits.second * 1_000_000).tolist()
    searched = visits.searched
    for row in np.flatnonzero(searched | responses.clicked.any(axis=1)).tolist():
        whole = {"user_id": user_id(int(visits.user[row])), "query": texts[row], "request_id": f"r{first + row}"}
        if searched[row]:
            rows.append({**whole, "ts": start[row], "event": "search"})
        for order, place in enumerate(np.flatnonzero(responses.clicked[row]).tolist()):
            item = int(items[row, place])
            base = {**whole, "item_id": str(ids[item])}
            ts = start[row] + ANSWER_US * (4 * order + 1)
            rows.append({**base, "ts": ts, "event": "click"})
            if responses.carted[row, place]:
                rows.append({**base, "ts": ts + ANSWER_US, "event": "cart"})
            if responses.bought[row, place]:
                bought = {"ts": ts + 2 * ANSWER_US, "event": "purchase", "value": float(prices[item])}
                rows.append({**base, **bought, "request_id": None})  # the till knows no request
    return pa.Table.from_pylist(rows, schema.EVENTS).sort_by("ts")


def slates(
    world: World,
    visits: Visits,
    items: NDArray[np.int64],
    variant: str = "production",
    version: str = "v1",
    first: int = 0,
) -> pa.Table:
    """Slates of visits, one row per slate, with the columns of a server's log of impressions."""
    ids = np.array([product.item_id for product in world.shop.catalogue.products], dtype=object)
    size, texts = len(visits), world.query_texts(visits)
    return pa.table(
        {
            "request_id": [f"r{first + row}" for row in range(size)],
            "variant": [variant] * size,
            "ts": pa.array(START_US + visits.second * 1_000_000, pa.timestamp("us", tz="UTC")),
            "user_id": [user_id(user) for user in visits.user.tolist()],
            "model_version": [version] * size,
            "query": pa.array(texts, pa.string()),
            "fallback": pa.nulls(size, pa.string()),
            "item_ids": [ids[row[row >= 0]].tolist() for row in items],
        }
    )


def catalogue(world: World) -> pa.Table:
    """The products as schema.ITEMS."""
    rows = [
        {
            "item_id": product.item_id,
            "title": product.title,
            "description": product.description,
            "category": list(product.category),
            "brand": product.brand,
            "price": product.price,
            "available": bool(product.in_stock and on_sale),
        }
        for product, on_sale in zip(world.shop.catalogue.products, world.on_sale.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)
