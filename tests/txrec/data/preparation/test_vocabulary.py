"""Dense ids, product fields, and everything else that training fixes."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.txrec.data.workbench import CLICKS, HEADER, events_of, prepared, write
from txrec import schema
from txrec.data.preparation.data_report import Report
from txrec.data.prepared import PreparedData
from txrec.text import tokenize

Shop = tuple[Report, PreparedData]
GLOBAL = {"split": {"kind": "global_time", "test_days": 2, "validation_days": 2}}
LOG = HEADER + "".join(
    f"{user},{item},2024-01-{day:02d} 10:00:00,{kind},{query}\n"
    for user, item, day, kind, query in [
        ("u1", "a", 1, "click", "Red  KETTLE"),
        ("u2", "a", 2, "click", "red kettle"),
        ("u1", "b", 3, "impression", ""),
        ("u1", "c", 4, "click", ""),
        ("u2", "", 6, "search", "lamp"),
        ("u2", "d", 9, "click", "蓝牙 耳机"),
        ("u3", "d", 10, "click", ""),
    ]
)
ITEMS = (
    "item_id,title,description,brand,category,price,available,colour\n"
    "d,Desk &amp; lamp,,zenit,home > lamps,30,no,\n"
    "a,Kettle,Boils.,acme,home > kettles,10,yes,red\n"
    "c,Cup,,acme,home > cups,20,,blue\n"
    "z,Never seen,,acme,home > kettles,15,true,\n"
    "a,Kettle again,,acme,home > kettles,10,yes,red\n"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    write(folder, "events.csv", LOG)
    write(folder, "items.csv", ITEMS)
    items = {"path": "items.csv", "category_separator": ">", "attributes": ["colour"]}
    return prepared(folder, {"events": [CLICKS], "items": [items]}, GLOBAL)


def test_trained_items_come_first_by_count_and_cold_ones_follow(shop: Shop) -> None:
    _, data = shop
    assert data.items.schema.equals(schema.PREPARED_ITEMS)
    assert data.items["item_id"].to_pylist() == ["a", "c", "b", "d", "z"]
    assert data.items["train_count"].to_pylist() == [2, 1, 0, 0, 0]  # an impression trains nothing
    assert data.meta.num_trained_items == 2


def test_queries_are_one_after_normalisation_and_unseen_ones_keep_an_id(shop: Shop) -> None:
    _, data = shop
    assert data.queries.to_pylist() == [
        {"query": "red kettle", "train_count": 2},
        {"query": "lamp", "train_count": 0},
        {"query": "蓝牙 耳机", "train_count": 0},
    ]


def test_brands_and_categories_unknown_to_training_are_padding(shop: Shop) -> None:
    _, data = shop
    of_item = {row["item_id"]: row for row in data.items.to_pylist()}
    assert [of_item[key]["brand_idx"] for key in "acbdz"] == [1, 1, 0, 0, 1]
    assert [of_item[key]["category_idx"] for key in "acbdz"] == [1, 2, 0, 0, 1]
    assert (data.meta.num_brands, data.meta.num_categories) == (1, 2)
    assert of_item["a"]["category"] == ["home", "kettles"]


def test_prices_fall_into_buckets_of_training_prices(shop: Shop) -> None:
    _, data = shop
    bucket = dict(zip(data.items["item_id"].to_pylist(), data.items["price_bucket"].to_pylist(), strict=True))
    assert bucket["b"] == schema.PAD
    assert 1 <= bucket["a"] < bucket["z"] < bucket["c"] <= bucket["d"]


def test_an_items_text_is_the_encoders_normalised_input(shop: Shop) -> None:
    _, data = shop
    text = dict(zip(data.items["item_id"].to_pylist(), data.items["text"].to_pylist(), strict=True))
    assert text == {
        "a": "kettle acme home kettles boils.",
        "c": "cup acme home cups",
        "b": "",
        "d": "desk & lamp zenit home lamps",
        "z": "never seen acme home kettles",
    }


def test_attributes_and_availability_survive(shop: Shop) -> None:
    _, data = shop
    of_item = {row["item_id"]: row for row in data.items.to_pylist()}
    assert of_item["a"]["attributes"] == [("colour", "red")]
    assert not of_item["z"]["attributes"]
    assert [of_item[key]["available"] for key in "adcbz"] == [True, False, True, True, True]


def test_a_repeated_product_is_quarantined(shop: Shop) -> None:
    report, _ = shop
    assert report.row_counts["items"].as_json() == {"read": 5, "kept": 4, "rejected": {"duplicate": 1}}


def test_histories_hold_searches_items_and_kinds_in_order(shop: Shop) -> None:
    _, data = shop
    events = events_of(data)
    second = events.filter(events["user_id"] == "u2")
    assert second["item"].to_list() == ["a", "", "d"]
    assert second["query"].to_list() == ["red kettle", "lamp", "蓝牙 耳机"]
    assert second["event"].to_list() == [4, 1, 4]
    assert second["split"].to_list() == [0, 1, 2]
    assert second["session"].to_list() == [0, 1, 2]


def test_cold_users_items_and_queries_of_the_test_part_are_counted(shop: Shop) -> None:
    report, _ = shop
    assert report.as_json()["cold"] == {
        "users": {"cold": 1, "test": 2},
        "items": {"cold": 1, "test": 1},
        "queries": {"cold": 1, "test": 1},
    }


def test_the_tokenizer_reads_what_it_was_never_fitted_on(shop: Shop) -> None:
    _, data = shop
    tokenizer = Tokenizer.from_file(str(data.tokenizer_path))
    assert "zenit" not in tokenizer.get_vocab()
    assert tokenize(tokenizer, ["蓝牙 耳机", "zenit"], 32).any(axis=1).all()


def test_product_fields_of_event_rows_take_the_value_most_frequent_in_training(tmp_path: Path) -> None:
    rows = [
        (1, "Kettle", "9"),
        (1, "KETTLE!", "8"),
        (1, "Kettle", "9"),
        (9, "Kettle (new)", "7"),
        (10, "Kettle (new)", "7"),
    ]
    lines = [f"u{n},a,2024-01-{day:02d},{title},{price}\n" for n, (day, title, price) in enumerate(rows)]
    lines.append("u8,b,2024-01-10,Only in test,\n")
    write(tmp_path, "events.csv", "user,item,time,name,price\n" + "".join(lines))
    source = {
        "path": "events.csv",
        "columns": {"user_id": "user", "item_id": "item", "ts": "time"},
        "constants": {"event": "purchase"},
    }
    data_config = {"events": [source], "items_from_events": {"title": "name", "price": "price"}}
    _, data = prepared(tmp_path, data_config, GLOBAL)
    assert data.items.select(["item_id", "title", "price"]).to_pylist() == [
        {"item_id": "a", "title": "Kettle", "price": 9.0},
        {"item_id": "b", "title": "Only in test", "price": None},
    ]


def test_judgments_without_a_log_are_split_by_query(tmp_path: Path) -> None:
    lines = [f"query {n % 40},p{n % 25},Product {n % 25},{1 + n % 3}\n" for n in range(200)]
    write(tmp_path, "judged.csv", "q,sku,name,relevance\n" + "".join(lines) + "lamp,p1,Product 1,good\n,p1,x,1\n")
    source = {"path": "judged.csv", "columns": {"query": "q", "item_id": "sku", "grade": "relevance"}}
    data_config = {"judgments": [source], "items_from_events": {"title": "name"}}
    report, data = prepared(tmp_path, data_config)
    assert dict(report.total.rejected) == {"unparsable_value": 1, "missing_query": 1}
    assert (data.meta.num_items, data.meta.num_users, data.meta.num_trained_items) == (25, 0, 0)
    assert sum(report.as_json()["split"]["judgments"].values()) == 200
    import polars as pl

    judged = pl.read_parquet(data.path / "judgments.parquet")
    assert judged.group_by("query").agg(pl.col("split").n_unique())["split"].max() == 1
    assert "Product 7" in data.items["title"].to_pylist()


def test_a_catalogue_alone_is_prepared(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", ITEMS)
    report, data = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    assert report.total.as_json() == {"read": 5, "kept": 4, "rejected": {"duplicate": 1}}
    assert data.tokenizer_path.is_file()
