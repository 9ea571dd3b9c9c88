"""Public data sets and exports of shop systems, as their columns are named."""

from tests.txrec.data.detection.shop_files import (
    BRANDS,
    NUM_EVENTS,
    NUM_ITEMS,
    NUM_USERS,
    WORDS,
    Expected,
    Files,
    case,
    counts,
    csv_text,
    json_lines,
    rows_of,
    title_of,
)


@case
def _movielens_latest() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = csv_text(
        ["userId", "movieId", "rating", "timestamp"],
        ([r.user + 1, r.item + 1, 0.5 * (1 + r.item % 10), r.seconds] for r in rows),
    )
    movies = csv_text(
        ["movieId", "title", "genres"],
        ([i + 1, f"{WORDS[i]}, The (19{70 + i})", "Comedy|Drama"] for i in range(NUM_ITEMS)),
    )
    links = csv_text(["movieId", "imdbId", "tmdbId"], ([i + 1, f"0{11_000 + i}", 800 + i] for i in range(NUM_ITEMS)))
    return {"ratings.csv": log, "movies.csv": movies, "links.csv": links}, Expected(counts(rows))


@case
def _movielens_1m() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = "".join(f"{r.user + 1}::{r.item + 1}::{1 + r.item % 5}::{r.seconds}\n" for r in rows)
    movies = "".join(f"{i + 1}::Café {WORDS[i]} (1995)::Comedy|Drama\n" for i in range(NUM_ITEMS))
    return {"ratings.dat": log, "movies.dat": movies.encode("latin-1")}, Expected(counts(rows))


@case
def _movielens_100k() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = csv_text(None, ([r.user + 1, r.item + 1, 1 + r.item % 5, r.seconds] for r in rows), "\t")
    movies = csv_text(
        None,
        ([i + 1, f"{WORDS[i]} (1995)", "01-Jan-1995", "", f"http://imdb.com/{i}", 0, 1, 0] for i in range(NUM_ITEMS)),
        "|",
    )
    return {"u.data": log, "u.item": movies}, Expected(counts(rows))


@case
def _retail_rocket() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "view", "cart": "addtocart", "purchase": "transaction"}
    log = csv_text(
        ["timestamp", "visitorid", "event", "itemid", "transactionid"],
        ([r.seconds * 1000, r.user, words[r.kind], r.item, r.order if r.kind == "purchase" else ""] for r in rows),
    )
    properties = []
    for i in range(NUM_ITEMS):
        properties += [
            [1431226800000, i, "categoryid", 1000 + i % 4],
            [1431226800000, i, "888", f"n{i}.000 10"],
            [1431226800000, i, "available", 1],
        ]
    files: Files = {
        "events.csv": log,
        "item_properties.csv": csv_text(["timestamp", "itemid", "property", "value"], properties),
    }
    return files, Expected(counts(rows), titles=0, columns={"category": "categoryid", "available": "available"})


@case
def _online_retail() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    table = [
        [
            f"{530_000 + r.order}",
            f"8{r.item:04d}A",
            title_of(r.item).upper(),
            2 + r.item,
            f"{r.at.month}/{r.at.day}/{r.at.year} {r.at.hour}:{r.at:%M}",
            r.amount,
            f"{12_000 + r.user}.0",
            "France",
        ]
        for r in rows
    ]
    table += [["C536379", "80001A", "LAMP", -1, "12/1/2024 9:41", 2.0, "12001.0", "France"] for _ in range(5)]
    log = csv_text(
        ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"], table
    )
    return {"online_retail.csv": log}, Expected(counts(rows))


@case
def _yoochoose() -> tuple[Files, Expected]:
    clicks, buys = rows_of(("click",)), rows_of(("purchase",))[:100]
    stamp = "%Y-%m-%dT%H:%M:%S.351Z"
    runs = [(number // 4 % NUM_USERS, row) for number, row in enumerate(clicks)]
    first = csv_text(None, ([u + 11_000, r.at.strftime(stamp), 214_000 + r.item, "0"] for u, r in runs))
    second = csv_text(None, ([r.user // 2 + 11_000, r.at.strftime(stamp), 214_000 + r.item, 462, 1] for r in buys))
    expected = Expected({"click": NUM_EVENTS, "purchase": 100}, titles=0)
    return {"yoochoose-clicks.dat": first, "yoochoose-buys.dat": second}, expected


@case
def _analytics_export() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "view_item", "cart": "add_to_cart", "purchase": "purchase"}
    log = [
        {
            "event_date": r.at.strftime("%Y%m%d"),
            "event_timestamp": r.seconds * 1_000_000,
            "event_name": words[r.kind],
            "event_params": [{"key": "page", "value": {"string_value": "x"}}],
            "user_pseudo_id": f"{r.user}.99",
            "items": [{"item_id": f"P{r.item:03d}", "item_name": title_of(r.item), "price": r.amount}],
        }
        for r in rows
    ]
    for number in range(20):
        log.append({**log[number], "event_name": "page_view", "items": []})
    return {"ga4.jsonl": json_lines(log)}, Expected(counts(rows))


@case
def _shopify() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        [
            "Name",
            "Email",
            "Financial Status",
            "Paid at",
            "Currency",
            "Subtotal",
            "Total",
            "Created at",
            "Lineitem quantity",
            "Lineitem name",
            "Lineitem price",
            "Lineitem sku",
            "Billing Name",
        ],
        (
            [
                f"#{r.order}",
                f"c{r.user}@example.com",
                "paid",
                r.at.strftime("%Y-%m-%d %H:%M:%S +0000"),
                "EUR",
                "9.00",
                "9.00",
                r.at.strftime("%Y-%m-%d %H:%M:%S +0000"),
                1,
                title_of(r.item),
                r.amount,
                f"SKU-{r.item}",
                "A B",
            ]
            for r in rows
        ),
    )
    items = csv_text(
        [
            "Handle",
            "Title",
            "Body (HTML)",
            "Vendor",
            "Product Category",
            "Type",
            "Tags",
            "Published",
            "Option1 Name",
            "Option1 Value",
            "Variant SKU",
            "Variant Inventory Qty",
            "Variant Price",
            "Status",
        ],
        (
            [
                f"{WORDS[i].lower()}-{i}",
                title_of(i),
                "<p>Nice &amp; new</p>",
                BRANDS[i % 3],
                "Home > Lamps",
                "Lamp",
                "a, b",
                "true",
                "Title",
                "Default Title",
                f"SKU-{i}",
                i,
                4.5 + i,
                "active",
            ]
            for i in range(NUM_ITEMS)
        ),
    )
    return {"orders_export.csv": log, "products_export.csv": items}, Expected(
        counts(rows), columns={"user_id": "Email", "title": "Title", "price": "Variant Price", "brand": "Vendor"}
    )


@case
def _woocommerce() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    log = csv_text(
        [
            "Order ID",
            "Order Date",
            "Customer User ID",
            "Billing Email",
            "Item SKU",
            "Item Name",
            "Quantity",
            "Item Price",
        ],
        (
            [
                r.order,
                r.at.strftime("%Y-%m-%d %H:%M"),
                r.user + 1,
                f"c{r.user}@example.com",
                f"woo-{r.item}",
                title_of(r.item),
                1,
                r.amount,
            ]
            for r in rows
        ),
    )
    items = csv_text(
        ["ID", "Type", "SKU", "Name", "Published", "In stock?", "Stock", "Regular price", "Categories", "Brands"],
        (
            [
                40 + i,
                "simple",
                f"woo-{i}",
                title_of(i),
                1,
                "1" if i else "backorder",
                i,
                4.5 + i,
                f"Home > {WORDS[i]}",
                BRANDS[i % 3],
            ]
            for i in range(NUM_ITEMS)
        ),
    )
    return {"orders.csv": log, "wc-product-export.csv": items}, Expected(
        counts(rows), columns={"title": "Name", "category": "Categories", "price": "Regular price"}
    )
