"""Users tables next to logs, variants of products, lists in Parquet, and lines of orders."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tests.txrec.data.detection.shop_files import (
    NUM_ITEMS,
    NUM_USERS,
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


@case
def _customers() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user", "sku", "event", "time"], ([f"u{r.user}", f"P{r.item:03d}", r.kind, r.seconds] for r in rows)
    )
    head = ["user_id", "email", "first_name", "country", "tier", "age", "signup", "groups"]
    people = (
        [
            f"u{u}",
            f"u{u}@shop.example",
            "Ann",
            ("DE", "AT")[u % 2],
            ("gold", "silver")[u % 2],
            20 + u,
            "2020-01-05",
            "vip",
        ]
        for u in range(NUM_USERS)
    )
    files: Files = {"events.csv": log, "catalogue.csv": catalogue_csv(), "customers.csv": csv_text(head, people)}
    return files, Expected(counts(rows), profiles=NUM_USERS)


@case
def _people_without_header() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = csv_text(None, ([r.user + 1, r.item + 1, 1 + r.item % 5, r.seconds] for r in rows), "\t")
    people = csv_text(
        None, ([u + 1, 20 + u % 9, "MF"[u % 2], "student", f"{10_000 + u}"] for u in range(NUM_USERS)), "|"
    )
    return {"u.data": log, "u.user": people}, Expected(counts(rows), titles=0, profiles=NUM_USERS)


@case
def _people_as_json() -> tuple[Files, Expected]:
    rows = rows_of(("view",))
    log = json_lines(
        {"user": f"u{r.user}", "sku": f"P{r.item:03d}", "type": "view", "at": r.seconds, "more": {}} for r in rows
    )
    people = json_lines(
        {"id": f"u{u}", "segments": ["vip", "new"][: u % 3], "age": 20 + u % 9} for u in range(NUM_USERS)
    )
    return {"log.jsonl": log, "users.jsonl": people}, Expected(counts(rows), titles=0, profiles=NUM_USERS)


@case
def _variants_with_one_title() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    head = ["Name", "Email (Billing)", "Created at", "Lineitem quantity", "Lineitem name", "Lineitem sku"]
    log = csv_text(
        head, ([f"#{r.order}", f"c{r.user}@x.example", f"{r.at:%Y-%m-%d %H:%M}", 1, "x", f"S-{r.item}"] for r in rows)
    )
    items = csv_text(
        ["Handle", "Title", "Body (HTML)", "Vendor", "Option1 Value", "Variant SKU", "Variant Price"],
        (
            [f"h{i - i % 2}", *(["", "", ""] if i % 2 else [title_of(i), "<p>Fine\nwood</p>", "Nordik"]), "SM"[i % 2],
             f"S-{i}", 4.5 + i]
            for i in range(NUM_ITEMS)
        ),
    )  # fmt: skip
    return {"orders.csv": log, "products.csv": items}, Expected(counts(rows), columns={"price": "Variant Price"})


@case
def _parquet_with_lists_of_products() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "view_item", "cart": "add_to_cart", "purchase": "purchase"}
    table = pa.table(
        {
            "event_timestamp": [r.seconds * 1_000_000 for r in rows],
            "event_name": [words[r.kind] for r in rows],
            "user_pseudo_id": [f"{r.user}.7" for r in rows],
            "items": [[{"item_id": f"P{r.item:03d}", "item_name": title_of(r.item)}] for r in rows],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return {"events.parquet": sink.getvalue()}, Expected(counts(rows))


@case
def _lines_of_orders() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    head = ["id_order", "id_customer", "product_id", "product_quantity", "unit_price_tax_incl", "date_add"]
    log = csv_text(
        head, ([r.order, r.user + 1, f"P{r.item:03d}", 1, "28.680000", f"{r.at:%Y-%m-%d %H:%M:%S}"] for r in rows), ";"
    )
    items = csv_text(
        ["Product ID", "Name", "Price (tax incl.)"],
        ([f"P{i:03d}", title_of(i), f"{4 + i},50"] for i in range(NUM_ITEMS)),
        ";",
    )
    return {"order_detail.csv": log, "products.csv": items}, Expected(
        counts(rows), columns={"price": "Price (tax incl.)"}
    )


@case
def _orders_with_lists_among_views() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "Product Viewed", "cart": "Product Added", "purchase": "Order Completed"}
    log = []
    for r in rows:
        product = {"product_id": f"P{r.item:03d}", "name": title_of(r.item)}
        properties = {"order_id": r.order, "products": [product]} if r.kind == "purchase" else product
        log.append(
            {"anonymousId": f"a{r.user}", "event": words[r.kind], "timestamp": r.at.isoformat()}
            | {"properties": properties}
        )
    return {"track.jsonl": json_lines(log), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _day_and_twelve_hour_clock() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user", "sku", "event", "date", "time"],
        ([r.user, f"P{r.item:03d}", r.kind, f"{r.at:%d/%m/%Y}", f"{r.at:%I:%M %p}"] for r in rows),
    )
    return {"log.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _mail_times_and_titles_by_language() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user", "sku", "event", "time"],
        ([r.user, f"P{r.item:03d}", r.kind, f"{r.at:%a, %d %b %Y %H:%M:%S} GMT"] for r in rows),
    )
    items = csv_text(["sku", "title_en", "title_de"], ([f"P{i:03d}", title_of(i), "x"] for i in range(NUM_ITEMS)))
    return {"log.csv": log, "items.csv": items}, Expected(counts(rows), columns={"title": "title_en"})
