"""Exports of orders and of users' attributes, as shop systems and tills write them."""

import json
from datetime import timedelta
from typing import Any

from tests.txrec.data.detection.shop_files import (
    NUM_ITEMS,
    NUM_USERS,
    START,
    WORDS,
    Expected,
    Files,
    case,
    catalogue_csv,
    counts,
    csv_text,
    json_lines,
    rows_of,
    title_of,
)

NUM_ORDERS = len({row.order for row in rows_of()})


@case
def _orders_without_users() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Name", "Financial Status", "Created at", "Lineitem quantity", "Lineitem price", "Lineitem sku"],
        ([f"#{r.order}", "paid", f"{r.at:%Y-%m-%d %H:%M:%S} +0000", 1, r.amount, f"P{r.item:03d}"] for r in rows),
    )
    return {"orders_export.csv": log, "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), users=NUM_ORDERS, columns={"user_id": "Name"}
    )


@case
def _till_receipts_with_names_of_products() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Transaction", "Item", "date_time", "period_day"],
        ([r.order, title_of(r.item), f"{r.at:%d-%m-%Y %H:%M}", "morning"] for r in rows),
    )
    return {"bread_basket.csv": log}, Expected(counts(rows), users=NUM_ORDERS)


@case
def _members_with_names_of_products() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Member_number", "Date", "itemDescription"],
        ([1808 + r.user, f"{r.at:%d-%m-%Y}", title_of(r.item).lower()] for r in rows),
    )
    return {"purchases.csv": log}, Expected(counts(rows), first="2024-04-03 00:00")


@case
def _numbered_lines_with_titles() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    orders = {row.order: row for row in reversed(rows)}
    heads = csv_text(
        ["entity_id", "increment_id", "status", "customer_id", "created_at"],
        ([order, 100_000 + order, "complete", r.user + 1, f"{r.at:%Y-%m-%d %H:%M:%S}"] for order, r in orders.items()),
    )
    lines = csv_text(
        ["item_id", "order_id", "product_id", "product_type", "sku", "name", "qty_ordered", "created_at"],
        (
            [n + 1, r.order, r.item + 50, "simple", f"MAG-{r.item}", title_of(r.item), "1.0", f"{r.at:%F %T}"]
            for n, r in enumerate(rows)
        ),
    )
    products = csv_text(
        ["sku", "product_type", "categories", "name", "price", "is_in_stock"],
        ([f"MAG-{i}", "simple", f"Default/{WORDS[i]}", title_of(i), 4.5 + i, 1] for i in range(NUM_ITEMS)),
    )
    users = len({row.user for row in orders.values()})
    return {"sales_order.csv": heads, "sales_order_item.csv": lines, "catalog_product.csv": products}, Expected(
        counts(rows), users=users, columns={"item_id": "sku"}
    )


@case
def _rows_of_attributes_of_users() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user_id", "product_id", "event", "timestamp"],
        ([f"u{r.user}", f"P{r.item:03d}", r.kind, r.at.isoformat()] for r in rows),
    )
    rows_of_users = csv_text(
        ["user_id", "attribute", "value"],
        (
            [f"u{user}", name, value]
            for user in range(NUM_USERS)
            for name, value in (("country", ("DE", "FR")[user % 2]), ("email", f"u{user}@example.com"))
        ),
    )
    files: Files = {"events.csv": log, "catalogue.csv": catalogue_csv(), "attributes.csv": rows_of_users}
    return files, Expected(counts(rows), profiles=NUM_USERS)


@case
def _header_behind_a_mark() -> tuple[Files, Expected]:
    rows = rows_of(("view",))
    plays = csv_text(
        ["user_id", "track_id", "timestamp"],
        ([f"user_{r.user:03d}", f"t{r.item}", r.at.isoformat()] for r in rows),
        "\t",
    )
    people = csv_text(
        ["#id", "gender", "country"],
        ([f"user_{u:03d}", "mf"[u % 2], ("Japan", "Peru")[u % 2]] for u in range(NUM_USERS)),
        "\t",
    )
    return {"listens.tsv": plays, "userid-profile.tsv": people}, Expected(counts(rows), titles=0, profiles=NUM_USERS)


@case
def _one_address_in_all_rows() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["collector_tstamp", "email", "external_id", "event_name", "product_id"],
        ([r.at.isoformat(), "shop@example.com", f"u{r.user}", r.kind, f"P{r.item:03d}"] for r in rows),
    )
    return {"events.csv": log, "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), columns={"user_id": "external_id", "ts": "collector_tstamp"}
    )


@case
def _lists_of_products_with_fields() -> tuple[Files, Expected]:
    baskets: dict[tuple[int, int], list[str]] = {}
    rows = rows_of(("purchase",))
    for r in rows:
        baskets.setdefault((r.order // 9 * 9, r.user), []).append(f";P{r.item:03d};1;{r.amount:.2f}")
    at = {order: f"{START + timedelta(hours=order - 5000):%Y-%m-%d %H:%M:%S}" for order, _ in baskets}
    log = csv_text(
        ["date_time", "visitor_id", "event_name", "product_list"],
        ([at[order], f"v{user}", "purchase", ",".join(products)] for (order, user), products in baskets.items()),
        "\t",
    )
    return {"hits.tsv": log, "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), first="2024-04-03 03:15", columns={"item_id": "product_list.sku", "value": "product_list.price"}
    )


@case
def _lists_of_ids() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user_id", "event_name", "event_time", "content_ids"],
        ([f"u{r.user}", r.kind, r.seconds, f'["P{r.item:03d}", "P{(r.item + 1) % NUM_ITEMS:03d}"]'] for r in rows),
    )
    return {"pixel.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts([*rows, *rows]))


@case
def _lists_of_objects() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["order_id", "email", "created", "line_items"],
        (
            [n, f"c{r.user}@example.com", r.at.isoformat(), json.dumps([{"sku": f"P{r.item:03d}", "qty": 1}])]
            for n, r in enumerate(rows)
        ),
    )
    return {"orders.csv": log, "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), columns={"item_id": "line_items.sku"}
    )


@case
def _orders_whose_first_row_says_whose_they_are() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    names = ["Name", "Email", "Financial Status", "Created at", "Lineitem quantity", "Lineitem price", "Lineitem sku"]
    lines = []
    for number, r in enumerate(rows):
        is_first = number % 3 == 0
        of_order = [f"c{number // 3 % NUM_USERS}@example.com", "paid", f"{r.at:%Y-%m-%d %H:%M:%S} +0000"]
        lines.append([f"#{r.order}", *(of_order if is_first else ["", "", ""]), 1, r.amount, f"P{r.item:03d}"])
    return {"orders_export.csv": csv_text(names, lines), "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), columns={"user_id": "Email:joined", "ts": "Created at:joined"}
    )


@case
def _visits_with_lists_of_actions_with_lists_of_products() -> tuple[Files, Expected]:
    rows = rows_of()
    visits: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for n, r in enumerate(rows):
        action: dict[str, Any] = {"type": "action", "timestamp": r.seconds, "productViewSku": f"P{r.item:03d}"}
        if r.kind != "view":
            kind = {"cart": "ecommerceAbandonedCart", "purchase": "ecommerceOrder"}[r.kind]
            lines = [{"itemSKU": f"P{r.item:03d}", "price": r.amount, "quantity": 1}]
            action = {"type": kind, "timestamp": r.seconds, "items": "1", "itemDetails": lines, "orderId": f"o{n}"}
        visits.setdefault((r.order, r.user), []).append(action)
    log = [
        {"idVisit": n, "visitorId": f"v{user}", "serverTimestamp": actions[0]["timestamp"], "actionDetails": actions}
        for n, ((_, user), actions) in enumerate(visits.items())
    ]
    return {"visits.json": json.dumps(log), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _orders_with_parcels_of_lines() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = [
        {
            "no": n,
            "customer_id": r.user,
            "created_at": r.at.isoformat(),
            "parcels": [{"lines": [{"sku": f"P{r.item:03d}"}]}],
        }
        for n, r in enumerate(rows)
    ]
    return {"orders.jsonl": json_lines(log), "catalogue.csv": catalogue_csv()}, Expected(
        counts(rows), columns={"item_id": "parcels.lines.sku"}
    )
