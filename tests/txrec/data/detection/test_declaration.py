"""Detection of shops' files: right without editing on most of them, with questions where it cannot tell."""

import contextlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.txrec.data.detection import data_sets, exports, languages, order_exports, platforms, users_and_parts  # noqa: F401 - they register their cases
from tests.txrec.data.detection.shop_files import (
    CASES,
    NUM_ITEMS,
    WORDS,
    Expected,
    Files,
    csv_text,
    json_lines,
    rows_of,
    title_of,
    write,
)
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.detection.declaration import Declaration, declare
from txrec.data.preparation.source_check import Check
from txrec.errors import ConfigError, DataError

LEAST_SHARE = 0.8
"""Share of the shops that must be read right."""


def differences(made: Declaration, expected: Expected) -> list[str]:
    """How the first rows, read by the configuration, differ from what a right one reads."""
    check: Check | None = made.check
    if check is None:
        return ["the files cannot be read"]
    logs = [one for one in check.sources if one.table == "events"]
    events: dict[str, int] = {}
    for one in logs:
        for kind, count in one.events.items():
            events[kind] = events.get(kind, 0) + count
    users = {user for one in logs for user in one.users}
    items = {item for one in logs for item in one.items}
    catalogue = [one for one in check.sources if one.table == "items"]
    from_log = len(items) if "title" in made.config.data.items_from_events else 0
    titles = sum(one.num_titles for one in catalogue if one.items >= items) or from_log
    first = min((one.span()[:16] for one in logs), default="")
    actual: dict[str, Any] = {"events": events, "users": len(users), "items": len(items), "first": first}
    wanted: dict[str, Any] = {
        "events": expected.events, "users": expected.users, "items": expected.items, "first": expected.first,
    }  # fmt: skip
    wrong = [f"{name}: {actual[name]}, expected {value}" for name, value in wanted.items() if actual[name] != value]
    profiles = sum(len(one.users) for one in check.sources if one.table == "users")
    wrong += [f"profiles: {profiles}, expected {expected.profiles}"] if profiles != expected.profiles else []
    wrong += [f"titles: {titles}, expected {expected.titles}"] if titles != expected.titles else []
    sources = [*made.config.data.events, *made.config.data.items]
    for canonical, name in expected.columns.items():
        if not any(source.columns.get(canonical) == name or canonical == name for source in sources):
            wrong.append(f"{canonical}: not {name}")
    return wrong


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        files, expected = case()
        try:
            made[name] = differences(declare(write(folder, files), "shop"), expected)
        except (ConfigError, DataError) as error:
            made[name] = [f"{type(error).__name__}: {error}"]
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_shop_is_read_right_without_editing(name: str, outcomes: dict[str, list[str]]) -> None:
    assert outcomes[name] == []


def test_at_least_four_of_every_five_shops_are_read_right(outcomes: dict[str, list[str]]) -> None:
    right = sum(not wrong for wrong in outcomes.values())
    assert right >= LEAST_SHARE * len(outcomes), {name: wrong for name, wrong in outcomes.items() if wrong}


def test_the_written_file_is_the_configuration_that_was_checked(tmp_path: Path) -> None:
    files, _ = CASES["german_semicolons"]()
    made = declare(write(tmp_path, files), "shop")
    (tmp_path / "shop.toml").write_text(made.text, encoding="utf-8")
    written: Config = load(tmp_path / "shop.toml")
    assert written == made.config


def declared(folder: Path, files: Files) -> Declaration:
    return declare(write(folder, files), "shop")


@pytest.mark.parametrize(
    ("more", "encoder"),
    [("", "none"), (",query", "transformer"), (",product_name", "transformer")],
    ids=["ids alone", "with queries", "with titles"],
)
def test_a_log_without_any_text_is_declared_without_a_text_encoder(tmp_path: Path, more: str, encoder: str) -> None:
    value = ",blue lamp" if more else ""
    rows = [f"u{row % 7},view,SKU{row % 5:03},2026-03-01T10:{row:02}:00{value}" for row in range(40)]
    log = "\n".join([f"user_id,event,item_id,timestamp{more}", *rows])
    assert declared(tmp_path, {"events.csv": log}).config.text.encoder == encoder


def test_names_and_addresses_of_users_are_left_out(tmp_path: Path) -> None:
    made = declared(tmp_path, CASES["customers"]()[0])
    (users,) = made.config.data.users
    assert users.properties == ("country", "tier", "age")
    assert users.columns == {"segments": "groups"}


def test_judged_pairs_are_joined_with_their_queries_and_words_are_grades(tmp_path: Path) -> None:
    words = ("Exact", "Partial", "Irrelevant", "Perhaps")
    labels = [[n, n % 5, n % NUM_ITEMS, words[n % 4]] for n in range(40)]
    files: Files = {
        "query.csv": csv_text(["query_id", "query"], ([n, f"{WORDS[n]} red"] for n in range(5)), "\t"),
        "label.csv": csv_text(["id", "query_id", "product_id", "label"], labels, "\t"),
        "product.csv": csv_text(["product_id", "product_name"], ([i, title_of(i)] for i in range(NUM_ITEMS)), "\t"),
    }
    made = declared(tmp_path, files)
    (source,) = made.config.data.judgments
    assert source.values["grade"] == {"Exact": "3", "Partial": "1", "Irrelevant": "0"}
    assert any("'Perhaps'" in question for question in made.questions)
    assert made.check is not None
    assert [one.num_kept for one in made.check.sources if one.table == "judgments"] == [30]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"e.csv": csv_text(None, ([r.user, r.item % 5, r.at.date()] for r in rows_of(("rate",))))}, "no file holds"),
        ({"m.json": "{not json\n"}, "expected JSON Lines"),
    ],
)
def test_files_that_cannot_be_told_are_an_error_with_the_reason(tmp_path: Path, files: Files, said: str) -> None:
    with pytest.raises(DataError, match=said):
        declared(tmp_path, files)


def test_records_without_a_product_among_many_with_one_are_a_question(tmp_path: Path) -> None:
    log = [
        {"user": r.user, "time": r.seconds, "type": r.kind, **({"sku": f"P{r.item}"} if n % 5 else {"lines": []})}
        for n, r in enumerate(rows_of())
    ]
    made = declared(tmp_path, {"log.jsonl": json_lines(log)})
    assert any("missing_item 80" in question for question in made.questions)


def test_a_user_with_a_large_part_of_the_rows_is_a_question(tmp_path: Path) -> None:
    rows = rows_of(("purchase",))
    log = csv_text(
        ["customer", "sku", "time"],
        (["0" if n % 2 else r.user + 1, f"P{r.item}", r.seconds] for n, r in enumerate(rows)),
    )
    made = declared(tmp_path, {"orders.csv": log})
    assert any("'0' has 50% of the rows" in question for question in made.questions)


def test_order_lines_whose_order_is_in_each_of_three_files_are_joined_once(tmp_path: Path) -> None:
    lines = csv_text(["order_id", "sku", "qty"], [[f"o{n}", f"p{n % 7}", 1] for n in range(60)])
    orders = csv_text(["order_id", "customer_id", "qty"], [[f"o{n}", f"c{n % 9}", 2] for n in range(60)])
    made = declared(tmp_path, {"lines-1.csv": lines, "lines-2.tsv": lines, "orders.csv": orders})
    assert made.text.count("orders.csv") >= 1


def test_a_column_of_lists_is_no_key_of_a_join(tmp_path: Path) -> None:
    keys = [[f"o{n}"] for n in range(60)]
    pl.DataFrame({"order_id": keys, "sku": ["p1"] * 60}).write_parquet(tmp_path / "lines.parquet")
    pl.DataFrame({"order_id": keys, "customer_id": ["c1"] * 60}).write_parquet(tmp_path / "orders.parquet")
    with contextlib.suppress(DataError):  # no table tells a user's event; an error with the reason will do
        assert "join" not in declare([str(tmp_path / "lines.parquet"), str(tmp_path / "orders.parquet")], "shop").text
