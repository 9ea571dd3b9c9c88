"""More exports of shop systems and public data sets."""

import gzip

from tests.txrec.data.detection.shop_files import (
    BRANDS,
    NUM_ITEMS,
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


@case
def _plays_without_header() -> tuple[Files, Expected]:
    rows = rows_of(("view",))
    log = csv_text(
        None,
        (
            [
                f"user_{r.user:06d}",
                r.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                f"f1b1cf71-bd35-{r.item:04d}",
                f"The {WORDS[r.item]}s",
                f"7{r.item}aa-bb{r.item}",
                title_of(r.item),
            ]
            for r in rows
        ),
        "\t",
    )
    return {"userid-timestamp-artid-plays.tsv": log}, Expected(counts(rows), titles=0)


@case
def _play_counts() -> tuple[Files, Expected]:
    rows = rows_of(("view",))
    pairs = sorted({(r.user, r.item) for r in rows})
    log = csv_text(["userID", "artistID", "weight"], ([u + 2, i + 51, 13_883 - i] for u, i in pairs), "\t")
    artists = csv_text(
        ["id", "name", "url"], ([i + 51, f"The {WORDS[i]}s", f"http://last.fm/{i}"] for i in range(NUM_ITEMS)), "\t"
    )
    return {"user_artists.dat": log, "artists.dat": artists}, Expected({"view": len(pairs)}, first="")


@case
def _reviews() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = [
        {
            "reviewerID": f"A{r.user:09d}",
            "asin": f"B00{r.item:04d}",
            "reviewerName": "J. Doe",
            "helpful": [0, 1],
            "reviewText": "Very good, I like it.",
            "overall": 5.0,
            "summary": "Good",
            "unixReviewTime": r.seconds,
            "reviewTime": r.at.strftime("%m %d, %Y"),
        }
        for r in rows
    ]
    meta = [
        {
            "asin": f"B00{i:04d}",
            "title": title_of(i),
            "price": f"${4.5 + i:.2f}",
            "brand": BRANDS[i % 3],
            "categories": [["Home", WORDS[i]]],
            "description": "Of <b>oak</b>",
        }
        for i in range(NUM_ITEMS)
    ]
    return {"reviews.json.gz": gzip.compress(json_lines(log).encode()), "meta.json": json_lines(meta)}, Expected(
        counts(rows)
    )


@case
def _reviews_of_2023() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    log = [
        {
            "rating": 4.0,
            "title": "Nice",
            "text": "I like it",
            "images": [],
            "asin": f"V{r.item}",
            "parent_asin": f"B0{r.item:04d}",
            "user_id": f"AE{r.user}",
            "timestamp": r.seconds * 1000,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for r in rows
    ]
    meta = [
        {
            "main_category": "Home",
            "title": title_of(i),
            "average_rating": 4.1,
            "rating_number": 9 + i,
            "features": ["oak", "red"],
            "description": ["Fine"],
            "price": 4.5 + i,
            "images": [{"thumb": "x"}],
            "store": BRANDS[i % 3],
            "categories": ["Home", WORDS[i]],
            "parent_asin": f"B0{i:04d}",
        }
        for i in range(NUM_ITEMS)
    ]
    return {"Home.jsonl": json_lines(log), "meta_Home.jsonl": json_lines(meta)}, Expected(counts(rows))


@case
def _electronics_store() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        [
            "event_time",
            "event_type",
            "product_id",
            "category_id",
            "category_code",
            "brand",
            "price",
            "user_id",
            "user_session",
        ],
        (
            [
                r.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
                r.kind,
                44_600_000 + r.item,
                2103807459595387724,
                "home.lamps",
                BRANDS[r.item % 3].lower(),
                r.amount,
                541_312_000 + r.user,
                f"72d76fde-8bb3-{r.order}",
            ]
            for r in rows
        ),
    )
    return {"2019-Oct.csv": log}, Expected(counts(rows), titles=0, columns={"session_id": "user_session"})


@case
def _product_feed() -> tuple[Files, Expected]:
    rows = rows_of()
    log = csv_text(
        ["session_id", "item_id", "event_type", "timestamp"],
        ([f"s{r.user}", f"P{r.item:03d}", r.kind, r.seconds] for r in rows),
    )
    feed = csv_text(
        [
            "id",
            "title",
            "description",
            "link",
            "image_link",
            "price",
            "availability",
            "brand",
            "google_product_category",
            "gtin",
        ],
        (
            [
                f"P{i:03d}",
                title_of(i),
                "Of oak",
                "https://x",
                "https://y",
                f"{4.5 + i:.2f} EUR",
                "in_stock" if i else "preorder",
                BRANDS[i % 3],
                "Home & Garden > Decor",
                f"40123456{i:05d}",
            ]
            for i in range(NUM_ITEMS)
        ),
        "\t",
    )
    return {"events.csv": log, "feed.txt": feed}, Expected(counts(rows), columns={"available": "availability"})


@case
def _tracker_batches() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "Product Viewed", "cart": "Product Added", "purchase": "Order Completed"}
    log = [
        {
            "anonymousId": f"an-{r.user}",
            "event": words[r.kind],
            "messageId": f"m{n}",
            "timestamp": r.at.isoformat(),
            "properties": {"product_id": f"P{r.item:03d}", "name": title_of(r.item), "price": r.amount},
        }
        for n, r in enumerate(rows)
    ]
    return {"segment.jsonl": json_lines(log), "catalogue.csv": catalogue_csv()}, Expected(counts(rows))


@case
def _day_and_milliseconds() -> tuple[Files, Expected]:
    rows = rows_of(("view",))
    log = csv_text(
        ["sessionId", "userId", "itemId", "timeframe", "eventdate"],
        (
            [r.order, f"u{r.user}", 81_000 + r.item, (r.at.hour * 60 + r.at.minute) * 60_000, r.at.strftime("%Y-%m-%d")]
            for r in rows
        ),
        ";",
    )
    products = csv_text(
        ["itemId", "product.name.tokens", "pricelog2"], ([81_000 + i, f"4875,{i}", 9] for i in range(NUM_ITEMS)), ";"
    )
    return {"train-item-views.csv": log, "products.csv": products}, Expected(counts(rows), titles=0)


@case
def _behaviour_without_header() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "pv", "cart": "cart", "purchase": "buy"}
    log = csv_text(
        None,
        (
            [r.user + 1_000_000, 2_268_000 + r.item, 2_520_000 + r.item % 4, words[r.kind], r.seconds]
            for r in sorted(rows, key=lambda row: row.user)
        ),
    )
    return {"UserBehavior.csv": log}, Expected(counts(rows), titles=0)


@case
def _marketplace_with_translations() -> tuple[Files, Expected]:
    rows = rows_of(("purchase",))
    orders = {row.order: row for row in reversed(rows)}
    names = ["order_id", "customer_id", "order_status", "order_purchase_timestamp", "order_approved_at"]
    stamp = "%Y-%m-%d %H:%M:%S"
    table = ([o, f"c{r.user:06d}", "delivered", f"{r.at:{stamp}}", f"{r.at:{stamp}}"] for o, r in orders.items())
    lines = csv_text(
        ["order_id", "order_item_id", "product_id", "seller_id", "shipping_limit_date", "price"],
        ([r.order, 1, f"pr{r.item:04d}", f"s{r.item % 4}", f"{r.at:{stamp}}", r.amount] for r in rows),
    )
    kinds = ("perfumaria", "artes", "casa")
    products = csv_text(
        ["product_id", "product_category_name", "product_photos_qty"],
        ([f"pr{i:04d}", kinds[i % 3], 1] for i in range(NUM_ITEMS)),
    )
    translation = csv_text(
        ["product_category_name", "product_category_name_english"],
        [("perfumaria", "perfumery"), ("artes", "art"), ("casa", "home")],
    )
    files: Files = {"orders.csv": csv_text(names, table), "items.csv": lines, "products.csv": products}
    expected = Expected(counts(rows), users=len({row.user for row in orders.values()}), titles=0,
                        columns={"category": "product_category_name_english"})  # fmt: skip
    return {**files, "translation.csv": translation}, expected


@case
def _sessions_with_lists_of_events() -> tuple[Files, Expected]:
    rows = rows_of()
    words = {"view": "clicks", "cart": "carts", "purchase": "orders"}
    sessions: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        event: dict[str, object] = {"aid": row.item, "ts": row.seconds * 1000, "type": words[row.kind]}
        sessions.setdefault(row.user, []).append(event)
    log = json_lines({"session": user, "events": events} for user, events in sessions.items())
    made = counts(rows)
    return {"train.jsonl": log}, Expected({"click": made["view"], "cart": made["cart"],
                                           "purchase": made["purchase"]}, titles=0)  # fmt: skip


@case
def _book_ratings_without_times() -> tuple[Files, Expected]:
    rows = rows_of(("rate",))
    table = ([276_700 + r.user, f"03454{r.item:05d}", r.item % 11] for r in rows)
    log = csv_text(["User-ID", "ISBN", "Book-Rating"], table, ";", quoting=1)
    books = csv_text(
        ["ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"],
        ([f"03454{i:05d}", f"Café {WORDS[i]}", "M. Müller", 2002, BRANDS[i % 3]] for i in range(NUM_ITEMS)),
        ";",
        quoting=1,
    )
    files: Files = {"BX-Book-Ratings.csv": log.encode("latin-1"), "BX-Books.csv": books.encode("latin-1")}
    return files, Expected(counts(rows), first="", columns={"title": "Book-Title"})
