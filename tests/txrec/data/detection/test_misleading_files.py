"""Files that are easily read wrong without a word: dumps, ids of other things, zones, orders' own customers."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.txrec.data.detection.shop_files import (
    NUM_ITEMS,
    NUM_USERS,
    Files,
    catalogue_csv,
    counts,
    csv_text,
    json_lines,
    rows_of,
    title_of,
    write,
)
from tests.txrec.data.workbench import prepared
from txrec.data.detection.declaration import Declaration, declare
from txrec.data.detection.event_words import event_kind
from txrec.data.preparation.source_check import SourceCheck
from txrec.errors import DataError


def declared(folder: Path, files: Files) -> tuple[Declaration, SourceCheck]:
    """The declaration of a shop, and the first rows of its log."""
    made = declare(write(folder, files), "shop")
    assert made.check is not None
    return made, next(one for one in made.check.sources if one.table == "events")


def test_the_mark_of_null_in_a_dump_is_no_query_and_no_title(tmp_path: Path) -> None:
    log = csv_text(
        ["user_id", "sku", "event", "ts", "query"],
        ([f"u{r.user}", f"P{r.item}", r.kind, r.at.isoformat(), r"\N"] for r in rows_of()),
    )
    items = csv_text(["sku", "title"], ([f"P{i}", r"\N" if i == 3 else title_of(i)] for i in range(NUM_ITEMS)))
    write(tmp_path, {"log.csv": log, "items.csv": items})
    _, data = prepared(tmp_path, {"events": [{"path": "log.csv", "columns": {"item_id": "sku"}}],
                                  "items": [{"path": "items.csv", "columns": {"item_id": "sku"}}]})  # fmt: skip
    assert r"\N" not in data.items["title"].to_pylist()
    assert data.queries.num_rows == 0


def test_null_words_do_not_fill_a_column_of_users(tmp_path: Path) -> None:
    log = csv_text(
        ["customer_id", "customer_email", "sku", "created_at", "qty"],
        (["NULL" if r.user % 3 == 0 else r.user, f"c{r.user}@example.com", f"P{r.item}", r.at.isoformat(), 1]
         for r in rows_of(("purchase",))),
    )  # fmt: skip
    made, first = declared(tmp_path, {"orders.csv": log})
    assert made.config.data.events[0].columns["session_id"] == "customer_email"
    assert len(first.users) == NUM_USERS


def test_order_numbers_of_letters_and_digits_are_no_cancellations(tmp_path: Path) -> None:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["user", "sku", "time", "order_id", "qty"],
        ([f"u{r.user}", f"P{r.item}", r.at.isoformat(), f"{r.order * 2654435761 % 2**32:08x}", 1] for r in rows),
    )
    assert any(f"{r.order * 2654435761 % 2**32:08x}".startswith("c") for r in rows)
    _, first = declared(tmp_path, {"orders.csv": log})
    assert (first.events, first.rejected) == (counts(rows), {})


def test_a_small_table_of_categories_does_not_name_the_products_of_the_log(tmp_path: Path) -> None:
    log = csv_text(
        ["id", "user_id", "product_id", "type", "created_at"],
        ([n, r.user, 900 + r.item, r.kind, r.at.isoformat()] for n, r in enumerate(rows_of())),
    )
    categories = csv_text(["category_id", "name"], ([n, f"Group {n}"] for n in range(5)))
    items = csv_text(["product_id", "title", "price"], ([900 + i, title_of(i), 3.5] for i in range(NUM_ITEMS)))
    made, _ = declared(tmp_path, {"categories.csv": categories, "events.csv": log, "products.csv": items})
    assert made.config.data.events[0].columns["item_id"] == "product_id"


def test_the_device_of_a_visitor_is_no_category_of_products(tmp_path: Path) -> None:
    log = [
        {"user_pseudo_id": f"{r.user}.7", "event_name": "view_item", "event_timestamp": r.seconds * 1_000_000,
         "device": {"category": "mobile"}, "items": [{"item_id": f"P{r.item}", "item_name": title_of(r.item),
                                                      "item_category": "Home" if r.item % 2 else "Bath"}]}
        for r in rows_of()
    ]  # fmt: skip
    made, _ = declared(tmp_path, {"log.jsonl": json_lines(log)})
    assert made.config.data.items_from_events["category"] == "items.item_category"


def test_queries_of_a_few_events_are_taken(tmp_path: Path) -> None:
    log = csv_text(
        ["user_id", "sku", "event", "ts", "search_term"],
        ([f"u{r.user}", "" if n % 40 == 1 else f"P{r.item}", "search" if n % 40 == 1 else r.kind, r.at.isoformat(),
          "lamp" if n % 40 == 1 else ""] for n, r in enumerate(rows_of())),
    )  # fmt: skip
    made, first = declared(tmp_path, {"log.csv": log})
    assert made.config.data.events[0].columns["query"] == "search_term"
    assert first.events["search"] == 10


def test_names_of_customers_are_no_products(tmp_path: Path) -> None:
    log = csv_text(
        ["Order ID", "Customer ID", "Customer Name", "Order Date"],
        ([r.order, r.user, f"Jane Miller {r.user}", r.at.isoformat()] for r in rows_of(("purchase",))),
    )
    made = declare(write(tmp_path, {"orders.csv": log, "products.csv": catalogue_csv()}), "shop")
    assert not made.config.data.events
    assert any("no file holds events" in question for question in made.questions)


def test_article_numbers_are_taken_before_names_of_articles(tmp_path: Path) -> None:
    log = csv_text(
        ["Customer ID", "Item", "SKU", "Date", "Qty"],
        ([f"u{r.user}", title_of(r.item), f"P{r.item:03d}", r.at.isoformat(), 1] for r in rows_of(("purchase",))),
    )
    made, _ = declared(tmp_path, {"items.csv": log})
    assert made.config.data.events[0].columns["item_id"] == "SKU"
    assert made.config.data.items_from_events["title"] == "Item"


def test_the_person_behind_the_customer_of_an_order_is_the_user(tmp_path: Path) -> None:
    rows = rows_of(("purchase",))
    users = {r.order: r.user for r in reversed(rows)}
    log = csv_text(
        ["order_id", "customer_id", "product_id", "order_date"],
        ([r.order, f"c{r.order}", f"P{r.item:03d}", r.at.isoformat()] for r in rows),
    )
    people = csv_text(
        ["customer_id", "customer_unique_id", "customer_city"],
        ([f"c{order}", f"person{user}", "Rio"] for order, user in users.items()),
    )
    made, first = declared(tmp_path, {"orders.csv": log, "customers.csv": people})
    assert first.users == {f"person{user}" for user in users.values()}
    assert made.config.data.events[0].columns["user_id"] == "customer_unique_id"


def test_a_customer_of_one_order_each_is_a_question(tmp_path: Path) -> None:
    log = csv_text(
        ["order_id", "customer_id", "product_id", "order_date"],
        ([r.order, f"c{r.order}", f"P{r.item:03d}", r.at.isoformat()] for r in rows_of(("purchase",))),
    )
    made, _ = declared(tmp_path, {"orders.csv": log})
    assert any("does it name people, or orders?" in question for question in made.questions)


@pytest.mark.parametrize(
    ("zone", "declares", "asks"), [("Europe/Berlin", "Europe/Berlin", 0), ("Eastern Time (US & Canada)", "UTC", 1)]
)
def test_a_column_that_names_the_zone_of_the_times(tmp_path: Path, zone: str, declares: str, asks: int) -> None:
    log = csv_text(
        ["Date", "Time", "Time Zone", "Customer ID", "SKU", "Qty"],
        ([r.at.strftime("%Y-%m-%d"), r.at.strftime("%H:%M:%S"), zone, f"u{r.user}", f"P{r.item}", 1]
         for r in rows_of(("purchase",))),
    )  # fmt: skip
    made, first = declared(tmp_path, {"sales.csv": log})
    assert made.config.data.events[0].time.zone == declares
    assert sum("set time.zone" in question for question in made.questions) == asks
    assert first.span()[:16] == ("2024-04-03 06:15" if declares == "Europe/Berlin" else "2024-04-03 08:15")


def test_halves_of_the_day_in_korean(tmp_path: Path) -> None:
    rows = rows_of(("purchase",))
    halves = {"AM": "오전", "PM": "오후"}
    log = csv_text(
        ["회원번호", "상품코드", "주문일시"],
        ([f"M{r.user}", f"P{r.item}", f"{r.at:%Y-%m-%d} {halves[f'{r.at:%p}']} {r.at:%I:%M:%S}"] for r in rows),
    )
    _, first = declared(tmp_path, {"orders.csv": log.encode("cp949")})
    assert first.span() == f"{rows[0].at:%Y-%m-%d %H:%M} to {rows[-1].at:%Y-%m-%d %H:%M}"


def test_rows_of_empty_fields_before_the_header_are_passed_over(tmp_path: Path) -> None:
    log = csv_text(
        ["Order Number", "Buyer Username", "Item Number", "Sale Date"],
        ([f"12-{r.order}", f"buyer_{r.user}", 284_000 + r.item, f"{r.at:%b-%d-%y}"] for r in rows_of(("purchase",))),
    )
    made, first = declared(tmp_path, {"report.csv": '"","","",""\n' + log + "\n400,record(s) downloaded\n"})
    assert made.config.data.events[0].skip_lines == 1
    assert (len(first.users), len(first.items)) == (NUM_USERS, NUM_ITEMS)


def test_prices_of_nothing_but_zeros_are_not_taken(tmp_path: Path) -> None:
    log = csv_text(["user", "sku", "time"], ([f"u{r.user}", f"P{r.item}", r.at.isoformat()] for r in rows_of()))
    items = csv_text(
        ["sku", "title", "Retail Price", "Calculated Price"],
        ([f"P{i}", title_of(i), "0.0000", f"{4 + i}.5000"] for i in range(NUM_ITEMS)),
    )
    made, _ = declared(tmp_path, {"log.csv": log, "items.csv": items})
    assert made.config.data.items[0].columns["price"] == "Calculated Price"


@pytest.mark.parametrize("word", ["checkout_complete", "Order Confirmed", "paymentSuccess"])
def test_words_of_completed_orders_are_purchases(word: str) -> None:
    assert event_kind(word) == "purchase"


def test_tags_of_users_are_no_clicks(tmp_path: Path) -> None:
    ratings = csv_text(
        ["userId", "movieId", "rating", "timestamp"], ([r.user, r.item, 3, r.seconds] for r in rows_of(("rate",)))
    )
    tags = csv_text(["userId", "movieId", "tag", "timestamp"], ([r.user, r.item, "odd", r.seconds] for r in rows_of()))
    made, _ = declared(tmp_path, {"ratings.csv": ratings, "tags.csv": tags})
    assert [source.path for source in made.config.data.events] == ["ratings.csv"]
    assert any("tags.csv: it holds tags" in question for question in made.questions)


def test_the_time_at_which_an_event_was_received_is_not_that_of_the_event(tmp_path: Path) -> None:
    log = [
        {"anonymousId": f"a{r.user}", "event": "Product Viewed", "receivedAt": f"2025-01-01T00:00:{n % 60:02d}Z",
         "originalTimestamp": r.at.isoformat(), "sku": f"P{r.item}"}
        for n, r in enumerate(rows_of())
    ]  # fmt: skip
    made, _ = declared(tmp_path, {"track.jsonl": json_lines(log)})
    assert made.config.data.events[0].columns["ts"] == "originalTimestamp"


def test_event_words_are_taken_whatever_the_name_of_their_column(tmp_path: Path) -> None:
    words = {"view": "detail", "cart": "basket", "purchase": "order"}
    log = csv_text(
        ["uid", "article", "what", "when"],
        ([f"u{r.user}", f"P{r.item}", words[r.kind], r.at.isoformat()] for r in rows_of()),
    )
    _, first = declared(tmp_path, {"tracking.csv": log})
    assert first.events == counts(rows_of())


@pytest.mark.parametrize(
    "state", ["Geannuleerd", "Anulowane", "Отменён", "İptal Edildi", "已取消", "キャンセル", "Annulée"]
)
def test_cancelled_orders_in_other_languages_are_left_out(tmp_path: Path, state: str) -> None:
    log = csv_text(
        ["order_id", "customer", "sku", "date", "Order Status"],
        ([r.order, f"u{r.user}", f"P{r.item}", r.at.isoformat(), state if n % 10 == 0 else "ok"]
         for n, r in enumerate(rows_of(("purchase",)))),
    )  # fmt: skip
    _, first = declared(tmp_path, {"orders.csv": log})
    assert (first.num_kept, first.rejected["cancellation"]) == (360, 40)


def test_an_object_that_holds_one_list_of_orders_is_read_by_their_lines(tmp_path: Path) -> None:
    orders: dict[int, list[dict[str, object]]] = {}
    people: dict[int, tuple[int, str]] = {}
    for r in rows_of(("purchase",)):
        orders.setdefault(r.order, []).append({"id": 90_000 + r.item, "product_id": 800 + r.item, "price": "3.50"})
        people.setdefault(r.order, (r.user, r.at.isoformat()))
    answer = {"orders": [
        {"id": order, "email": f"c{people[order][0]}@example.com", "customer": {"id": 70 + people[order][0]},
         "created_at": people[order][1], "line_items": lines} for order, lines in orders.items()
    ]}  # fmt: skip
    items = {"products": [{"id": 800 + i, "title": title_of(i), "handle": f"h{i}"} for i in range(NUM_ITEMS)]}
    made, first = declared(tmp_path, {"orders.json": json.dumps(answer), "products.json": json.dumps(items)})
    assert first.events == {"purchase": 400}
    assert made.config.data.events[0].columns["user_id"] == "orders.customer.id"
    assert made.config.data.items[0].columns["item_id"] == "products.id"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "dump.sql",
            b"-- MySQL dump 10.13\n\nCREATE TABLE `o` (`id` int);\nINSERT INTO `o` VALUES (1,2);\n",
            "SQL dump",
        ),
        ("pg.sql", b"--\n-- PostgreSQL\n--\nCOPY public.o (id, u) FROM stdin;\n1\t2\n\\.\n", "SQL dump"),
        ("feed.xml", b'<rss version="2.0"><channel></channel></rss>', "is XML"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(99), "is an image"),
        ("log.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "7-Zip"),
        ("log.feather", b"ARROW1\0\0" + bytes(99), "Parquet"),
        ("model.pkl", b"\x80\x04\x95" + bytes(99), "pickle"),
        ("book.xlsx", b"PK\x03\x04" + bytes(99), "spreadsheet"),
    ],
)
def test_files_that_are_no_tables_say_what_they_are(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=f"{name}.*{said}"):
        declare(write(tmp_path, {name: content}), "shop")


def test_an_archive_with_a_password_says_so(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("events.csv", "user,item,ts\nu1,p1,2024-05-01\n")
    raw = bytearray(buffer.getvalue())
    raw[6] |= 1  # the flags that say that the member is encrypted
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match=r"locked\.zip.*password.*unpack"):
        declare(write(tmp_path, {"locked.zip": bytes(raw)}), "shop")


def test_a_folder_without_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder holds no file"):
        declare([str(tmp_path / "empty")], "shop")
