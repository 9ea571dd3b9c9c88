"""Detection of logs whose rows are not all events, or not all of one kind or of one user column."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.txrec.data.detection.shop_files import csv_text, rows_of
from tests.txrec.data.workbench import prepared, rejected, write
from txrec.data.detection.declaration import Declaration, declare

T0 = 1_714_521_600


def shop(folder: Path, **files: str) -> Declaration:
    paths = [write(folder, name.replace("__", "."), text) for name, text in files.items()]
    return declare([str(path) for path in paths], "shop")


def events(made: Declaration) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Events and rejected rows of every log."""
    assert made.check is not None
    return [(dict(one.events), dict(one.rejected)) for one in made.check.sources if one.table == "events"]


def literals(records: list[dict[str, Any]]) -> str:
    return "".join(f"{record!r}\n" for record in records)


def test_lines_of_python_literals_are_read_and_a_broken_one_costs_one_line(tmp_path: Path) -> None:
    games = [{"id": str(n), "title": f"It's game {n}", "genres": ["Action"], "early": n % 2 == 0} for n in range(8)]
    log = [
        {"username": f"u{n % 5}", "product_id": str(n % 8), "date": f"2018-01-{n % 28 + 1:02d}", "text": 'He said "ok"'}
        for n in range(40)
    ]
    made = shop(tmp_path, games__json=literals(games), reviews__json=literals(log) + "{'username': 'u1', 'prod\n")
    assert events(made) == [({"rate": 40}, {"broken_json": 1})]
    _, data = prepared(tmp_path, {"items": [{"path": "games.json", "format": "jsonl", "columns": {"item_id": "id"}}]})
    assert sorted(data.items["title"].to_pylist()) == [f"It's game {n}" for n in range(8)]
    assert rejected(data) == []


def test_cancelled_orders_are_left_out_with_their_reason(tmp_path: Path) -> None:
    states = ("complete", "canceled", "processing", "wc-refunded")
    rows = [f"{n},c{n % 6},S{n % 5},2024-05-{n % 28 + 1:02d} 10:00,{states[n % 4]}" for n in range(40)]
    made = shop(tmp_path, orders__csv="\n".join(["order_id,customer_id,sku,created_at,status", *rows]) + "\n")
    assert events(made) == [({"purchase": 20}, {"cancellation": 20})]


def test_a_visitor_is_the_user_where_no_user_is_known(tmp_path: Path) -> None:
    kinds = ("Product Viewed", "Product Added", "Order Completed", "Products Searched")
    records = []
    for n in range(80):
        one = {"product_id": f"p{n % 7}"}
        properties = (one, one, {"products": [one, {"product_id": "p9"}]}, {"query": "lamp"})[n % 4]
        when = datetime.fromtimestamp(T0 + 3600 * n, UTC).isoformat()
        user = f"u{n % 9}" if n % 2 else None
        record = {"event": kinds[n % 4], "anonymousId": f"a{n % 9}", "userId": user, "timestamp": when}
        records.append(json.dumps({**record, "properties": properties}))
    made = shop(tmp_path, log__jsonl="\n".join(records) + "\n")
    counts: dict[str, int] = {}
    for kinds_read, _ in events(made):
        counts |= kinds_read
    assert counts == {"view": 20, "cart": 20, "purchase": 40, "search": 20}
    for source in made.config.data.events:
        assert (source.columns["user_id"], source.columns["session_id"]) == ("userId", "anonymousId")


def test_the_name_of_a_time_says_more_than_that_of_a_file(tmp_path: Path) -> None:
    rows = [f"U{n % 6},P{n % 5},{T0 + 60 * n}" for n in range(40)]
    made = shop(tmp_path, SearchData__csv="\n".join(["user_id,product_id,click_timestamp", *rows]) + "\n")
    assert events(made) == [({"click": 40}, {})]


def test_a_file_named_after_searches_without_a_query_holds_no_searches(tmp_path: Path) -> None:
    rows = [f"U{n % 6},P{n % 5},{T0 + 60 * n}" for n in range(40)]
    made = shop(tmp_path, search__csv="\n".join(["user_id,product_id,timestamp", *rows]) + "\n")
    assert events(made) == [({"click": 40}, {})]
    assert any("what did users do" in question for question in made.questions)


def test_products_with_nothing_but_a_number_of_a_category_are_a_catalogue(tmp_path: Path) -> None:
    log = [f"U{n % 6};{n % 5};2024-05-{n % 28 + 1:02d}" for n in range(40)]
    categories = [f"{n};{n % 3}" for n in range(5)]
    made = shop(
        tmp_path,
        views__csv="\n".join(["userId;itemId;eventdate", *log]) + "\n",
        categories__csv="\n".join(["itemId;categoryId", *categories]) + "\n",
    )
    (items,) = made.config.data.items
    assert items.columns == {"item_id": "itemId", "category": "categoryId"}


def test_the_record_of_a_message_has_the_time_of_the_event(tmp_path: Path) -> None:
    records = [
        {"timestamp": 1000 * T0, "value": json.dumps({"user": f"u{n % 5}", "sku": f"p{n % 4}", "created": T0 + 60 * n})}
        for n in range(40)
    ]
    made = shop(tmp_path, log__jsonl="".join(json.dumps(one) + "\n" for one in records))
    assert made.config.data.events[0].columns["ts"] == "value.created"


def test_numbers_for_kinds_of_events_are_a_question_that_names_their_column(tmp_path: Path) -> None:
    rows = rows_of()
    codes = {"view": 1, "cart": 3, "purchase": 4}
    log = csv_text(
        ["user_id", "item_id", "behavior_type", "time"], ([r.user, r.item, codes[r.kind], r.at] for r in rows)
    )
    questions = shop(tmp_path, train_user__csv=log).questions
    (question,) = [one for one in questions if "behavior_type" in one]
    assert "1 (240 rows), 3 (80 rows), 4 (80 rows)" in question
    assert "columns.event = 'behavior_type'" in question
    assert not any("what did users do" in one for one in questions), "the same is not asked twice"


def test_a_tree_of_categories_is_no_catalogue(tmp_path: Path) -> None:
    log = csv_text(["visitor", "itemid", "time"], ([r.user, r.item, r.at] for r in rows_of(("view",))))
    tree = csv_text(["categoryid", "parentid"], [[1000 + n, 1100 + n // 3] for n in range(9)])
    made = shop(tmp_path, views__csv=log, category_tree__csv=tree)
    assert made.config.data.items == ()


def test_orders_as_users_are_a_question(tmp_path: Path) -> None:
    log = csv_text(["receipt", "sku", "time"], ([r.order, f"P{r.item}", r.at] for r in rows_of(("purchase",))))
    made = shop(tmp_path, sales__csv=log)
    assert any("no column names users: every receipt is a user of its own" in one for one in made.questions)


def test_a_cancelled_order_is_left_out_with_all_its_lines_where_its_first_row_alone_says_so(tmp_path: Path) -> None:
    lines = [["Name", "Email", "Financial Status", "Created at", "Lineitem quantity", "Lineitem sku"]]
    for order in range(40):
        of_order = [f"c{order % 7}@example.com", ("paid", "voided")[order % 10 == 9], f"2024-05-{1 + order % 20:02d}"]
        lines += [[f"#{order}", *(of_order if line == 0 else ["", "", ""]), "1", f"P{line}"] for line in range(3)]
    made = shop(tmp_path, orders__csv=csv_text(None, lines))
    assert events(made) == [({"purchase": 108}, {"cancellation": 12})]
