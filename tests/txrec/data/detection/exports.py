"""Shops' own exports: one log and one catalogue in many formats."""

import gzip
import io
import json
import zipfile
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from tests.txrec.data.detection.shop_files import (
    BRANDS,
    NUM_ITEMS,
    WORDS,
    Expected,
    Files,
    Row,
    case,
    catalogue_csv,
    counts,
    csv_text,
    json_lines,
    rows_of,
    title_of,
)


@case
def _plain_csv() -> tuple[Files, Expected]:
    rows = rows_of(searches=True)
    log = csv_text(
        ["user_id", "item_id", "event", "ts", "query"],
        ([f"u{r.user}", "" if r.query else f"P{r.item:03d}", r.kind, r.at.isoformat(), r.query] for r in rows),
    )
    return {"events.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _tab_separated() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["visitor", "sku", "action", "timestamp"],
        ([f"v{r.user}", f"P{r.item:03d}", r.kind, r.at.strftime("%Y-%m-%d %H:%M:%S")] for r in rows),
        "\t",
    )
    return {"log.tsv": log, "products.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _german_semicolons() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Kundennummer", "Artikelnummer", "Bestellnummer", "Datum", "Menge", "Preis"],
        (
            [
                10_000 + r.user,
                f"A-{r.item:04d}",
                r.order,
                r.at.strftime("%d.%m.%Y %H:%M"),
                1,
                f"{r.amount:.2f}".replace(".", ","),
            ]
            for r in rows
        ),
        ";",
        end="\r\n",
    )
    items = csv_text(
        ["Artikelnummer", "Bezeichnung", "Kategorie", "Hersteller", "Preis", "Bestand"],
        (
            [f"A-{i:04d}", f"{WORDS[i]} für Küche", "Möbel/Büro", "Müller", f"{4.5 + i:.2f}".replace(".", ","), i]
            for i in range(NUM_ITEMS)
        ),
        ";",
        end="\r\n",
    )
    return {"bestellungen.csv": log.encode("cp1252"), "artikel.csv": items.encode("cp1252")}, Expected(counts(rows))


@case
def _pipes() -> tuple[Files, Expected]:
    rows = rows_of(("click",))
    log = csv_text(
        ["UserID", "ProductID", "ClickTime"],
        ([r.user + 700, r.item + 90_000, r.at.strftime("%Y/%m/%d %H:%M:%S")] for r in rows),
        "|",
    )
    return {"clicks.txt": log, "items.csv": catalogue_csv(lambda i: str(90_000 + i))}, Expected(counts(rows))


@case
def _json_lines() -> tuple[Files, Expected]:
    rows = rows_of(searches=True)
    log = [
        {
            "userId": f"u{r.user}",
            "eventType": r.kind,
            "timestamp": r.at.isoformat().replace("+00:00", "Z"),
            **({"searchTerm": r.query} if r.query else {"productId": f"P{r.item:03d}"}),
        }
        for r in rows
    ]
    items = [
        {"productId": f"P{i:03d}", "name": title_of(i), "brand": BRANDS[i % 3], "price": 4.5 + i, "inStock": i > 2}
        for i in range(NUM_ITEMS)
    ]
    return {"events.jsonl": json_lines(log), "products.jsonl": json_lines(items)}, Expected(counts(rows))


@case
def _nested_json_lines() -> tuple[Files, Expected]:
    rows = rows_of()
    log = [
        {
            "user": {"id": f"u{r.user}"},
            "type": r.kind,
            "time": r.at.isoformat(),
            "context": {"page": "x", "tags": []},
            "product": {"id": f"P{r.item:03d}", "price": r.amount},
        }
        for r in rows
    ]
    return {"tracking.jsonl": json_lines(log), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _json_array() -> tuple[Files, Expected]:
    rows = rows_of()
    log = [
        {"customer_id": r.user, "sku": f"P{r.item:03d}", "event_name": r.kind, "created_at": r.at.isoformat()}
        for r in rows
    ]
    items = [{"sku": f"P{i:03d}", "title": title_of(i), "categories": ["Home", WORDS[i]]} for i in range(NUM_ITEMS)]
    return {"log.json": json.dumps(log, indent=2), "items.json": json.dumps(items)}, Expected(counts(rows))


@case
def _parquet() -> tuple[Files, Expected]:
    rows = rows_of()
    table = pa.table(
        {
            "customer": pa.array([r.user for r in rows], pa.int64()),
            "product": [f"P{r.item:03d}" for r in rows],
            "interaction": pa.array([r.kind for r in rows]).dictionary_encode(),
            "event_time": pa.array([r.at for r in rows], pa.timestamp("ns", "UTC")),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return {"events.parquet": sink.getvalue(), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _gzip_in_seconds() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(["uid", "pid", "behavior", "ts"], ([r.user, f"P{r.item:03d}", r.kind, r.seconds] for r in rows))
    return {"log.csv.gz": gzip.compress(log.encode()), "products.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _zip_of_both() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user", "item", "event", "time"], ([r.user, f"P{r.item:03d}", r.kind, r.at.isoformat()] for r in rows)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("export/events.csv", log)
        archive.writestr("export/products.csv", catalogue_csv())
        archive.writestr("__MACOSX/export/._events.csv", "Mac")
    return {"export.zip": buffer.getvalue()}, Expected(counts(rows))


@case
def _milliseconds() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["visitorId", "productId", "action", "timestamp"],
        ([f"c-{r.user}", f"P{r.item:03d}", r.kind, r.seconds * 1000 + 123] for r in rows),
    )
    return {"events.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _microseconds() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["client_id", "sku", "event_name", "event_timestamp"],
        ([f"{r.user}.77", f"P{r.item:03d}", r.kind, r.seconds * 1_000_000] for r in rows),
    )
    return {"events.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _times_with_zones() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["member_id", "article_id", "activity", "occurred_at"],
        (
            [r.user, f"P{r.item:03d}", r.kind, (r.at + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S.000 +0200")]
            for r in rows
        ),
    )
    return {"events.csv": log, "articles.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _american_times() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Customer ID", "Order ID", "Order Date", "Product SKU", "Qty", "Unit Price"],
        (
            [f"C{r.user}", r.order, r.at.strftime("%m/%d/%Y %I:%M %p"), f"P{r.item:03d}", 2, f"${r.amount:.2f}"]
            for r in rows
        ),
    )
    return {"orders.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _day_and_time_columns() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["date", "time", "user", "event", "product"],
        ([r.at.strftime("%Y-%m-%d"), r.at.strftime("%H:%M:%S"), f"u{r.user}", r.kind, f"P{r.item:03d}"] for r in rows),
    )
    return {"log.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _orders_and_lines() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    orders = {r.order: r for r in reversed(rows)}
    head = csv_text(
        ["order_id", "customer_id", "created_at", "status"],
        ([o, f"c{r.user}", r.at.isoformat(), "paid"] for o, r in sorted(orders.items())),
    )
    lines = csv_text(
        ["id", "order_id", "product_id", "quantity", "price"],
        ([n, r.order, f"P{r.item:03d}", 1, r.amount] for n, r in enumerate(rows)),
    )
    users = len({r.user for r in orders.values()})
    files: Files = {"orders.csv": head, "order_items.csv": lines, "products.csv": catalogue_csv()}
    return files, Expected(counts(rows), users=users)


@case
def _orders_with_lists_of_lines() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    orders: dict[int, list[Row]] = {}
    for row in rows:
        orders.setdefault(row.order, []).append(row)
    log = [
        {
            "id": order,
            "customer": {"id": f"c{lines[0].user}", "email": "x@example.com"},
            "created_at": lines[0].at.isoformat(),
            "line_items": [{"sku": f"P{r.item:03d}", "quantity": 1, "price": "9.50"} for r in lines],
        }
        for order, lines in orders.items()
    ]
    users = len({lines[0].user for lines in orders.values()})
    return {"orders.jsonl": json_lines(log), "catalogue.csv": catalogue_csv()}, Expected(counts(rows), users=users)


@case
def _spreadsheet_unicode_text() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["Customer", "Product code", "Date", "Amount"],
        ([f"Kd {r.user}", f"P{r.item:03d}", r.at.strftime("%d.%m.%Y %H:%M:%S"), r.amount] for r in rows),
        "\t",
        end="\r\n",
    )
    return {"sales.txt": log.encode("utf-16"), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _lines_before_the_header() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["Visitor ID", "Product ID", "Action", "Date/Time"],
        ([f"u{r.user}", f"P{r.item:03d}", r.kind, r.at.isoformat(sep=" ")] for r in rows),
        ";",
    )
    return {
        "export.csv": "Export of the web shop\nMay 2024; all users\n\n" + log,
        "catalogue.csv": "\ufeff" + catalogue_csv(),
    }, (Expected(counts(rows)))


@case
def _separator_line() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user", "article", "event", "date"],
        ([f"u{r.user}", f"P{r.item:03d}", r.kind, r.at.isoformat()] for r in rows),
        ";",
    )
    return {"export.csv": "sep=;\n" + log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _multiline_descriptions() -> tuple[Files, Expected]:
    rows = rows_of(("click",))
    log = csv_text(
        ["user_id", "product_id", "clicked_at"], ([f"u{r.user}", f"P{r.item:03d}", r.at.isoformat()] for r in rows)
    )
    items = csv_text(
        ["product_id", "name", "description", "price"],
        ([f"P{i:03d}", f'{WORDS[i]} 12"', "Line one,\nline two\nand three", 4.5 + i] for i in range(NUM_ITEMS)),
    )
    return {"clicks.csv": log, "products.csv": items}, Expected(counts(rows))


@case
def _french_names() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["id_client", "commande", "date_commande", "produit", "quantité", "prix"],
        (
            [
                r.user + 9,
                r.order,
                r.at.strftime("%d/%m/%Y %H:%M"),
                f"P{r.item:03d}",
                1,
                f"{r.amount:.2f}".replace(".", ","),
            ]
            for r in rows
        ),
        ";",
    )
    items = csv_text(
        ["produit", "libellé", "catégorie", "marque", "prix"],
        ([f"P{i:03d}", f"{WORDS[i]} été", "Maison", BRANDS[i % 3], "9,50"] for i in range(NUM_ITEMS)),
        ";",
    )
    return {"commandes.csv": log, "produits.csv": items}, Expected(counts(rows))


@case
def _data_frame_with_index() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["", "user_id", "item_id", "event_type", "event_time", "price"],
        ([n, f"{r.user + 500}.0", f"P{r.item:03d}", r.kind, str(r.at), r.amount] for n, r in enumerate(rows)),
    )
    return {"df.csv": log, "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _category_table() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["user_id", "product_id", "event", "time"], ([r.user, r.item + 100, r.kind, r.at.isoformat()] for r in rows)
    )
    items = csv_text(
        ["product_id", "product_name", "category_id", "price"],
        ([100 + i, title_of(i), 7 + i % 4, 4.5 + i] for i in range(NUM_ITEMS)),
    )
    names = csv_text(
        ["category_id", "category_name"], ([7 + c, ("Lamps", "Chairs", "Rugs", "Vases")[c]] for c in range(4))
    )
    files: Files = {"events.csv": log, "products.csv": items, "categories.csv": names}
    return files, Expected(counts(rows), columns={"category": "category_name"})
