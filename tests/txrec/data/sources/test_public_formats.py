"""The shipped configurations of public data sets, on small files made by hand in the formats of those sets."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from txrec.config_loader import load
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.schema import EventKind

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


def test_movielens_as_shipped_is_read(tmp_path: Path) -> None:
    raw = tmp_path / "ml-1m"
    raw.mkdir()
    (raw / "ratings.dat").write_text(
        "1::1193::5::978300760\n1::661::3::978302109\n1::914::3::978301968\n2::1193::4::978298413\n"
        "2::661::2::978299000\n2::914::5::978299200\n"
    )
    movies = "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n914::My Fair Lady (1964)::Musical\n"
    movies += "1193::Misérables, Les (1995)::Drama\n"
    (raw / "movies.dat").write_bytes(movies.encode("latin-1"))

    data = _prepare("movielens-raw", raw, tmp_path)

    assert data.meta.num_users == 2
    assert data.meta.num_events == 6
    assert _item(data, "1193")["title"] == "Misérables, Les (1995)"
    assert _item(data, "661")["category"] == ["Animation", "Children's", "Musical"]
    first = data.sequences.item_idx[: data.sequences.offsets[1]]
    order = ["1193", "914", "661"] if data.sequences.user_id[0] == "1" else ["1193", "661", "914"]
    assert [data.items["item_id"][item - 1].as_py() for item in first] == order  # by time, not by line
    assert set(data.sequences.event) == {EventKind.RATE}
    assert sorted(data.sequences.value) == [2, 3, 3, 4, 5, 5]


def test_amazon_reviews_2023_are_read(tmp_path: Path) -> None:
    raw = tmp_path / "amazon"
    raw.mkdir()
    reviews = [
        {
            "rating": 4.0,
            "title": 'Say "cheese"',
            "text": "Good.\nVery good.",
            "images": [],
            "asin": f"B00VARIANT{n}",
            "parent_asin": f"B00PARENT{n}",
            "user_id": f"A{user}",
            "timestamp": 1_588_687_728_923 + 1_000 * n,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for user in range(3)
        for n in range(4)
    ]
    products = [
        {
            "main_category": "All Beauty",
            "title": f"Howard Shampoo {n}",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": ["Gentle", "Natural"],
            "description": ["For dry hair.", "Smells of oranges."] if n else [],
            "price": 14.95 if n else None,
            "images": [{"thumb": "https://example.com/1.jpg", "variant": "MAIN"}],
            "videos": [],
            "store": "Howard",
            "categories": ["Beauty", "Hair"],
            "details": {"Package Dimensions": "7 x 4 inches"},
            "parent_asin": f"B00PARENT{n}",
            "bought_together": None,
        }
        for n in range(4)
    ]
    _json_lines(raw / "All_Beauty.jsonl.gz", reviews)
    _json_lines(raw / "meta_All_Beauty.jsonl.gz", products)

    data = _prepare("amazon-reviews-2023", raw, tmp_path)

    assert (data.meta.num_users, data.meta.num_events) == (3, 12)
    item = _item(data, "B00PARENT1")
    assert (item["title"], item["brand"], item["category"]) == ("Howard Shampoo 1", "Howard", ["Beauty", "Hair"])
    assert item["price"] == pytest.approx(14.95)
    assert "oranges" in item["description"]
    assert _item(data, "B00PARENT0")["price"] is None
    assert data.sequences.ts[0] == 1_588_687_728_923_000


def test_retailrocket_is_read(tmp_path: Path) -> None:
    raw = tmp_path / "retailrocket"
    raw.mkdir()
    start, day = 1_433_221_332_117, 86_400_000
    lines = ["timestamp,visitorid,event,itemid,transactionid"]
    for number in range(30):
        kind, transaction = (("view", ""), ("addtocart", ""), ("transaction", str(4000 + number)))[number % 3]
        lines.append(f"{start + number * day},{257597 + number % 2},{kind},{355908 + number % 4},{transaction}")
    (raw / "events.csv").write_text("\n".join(lines) + "\n")
    header = "timestamp,itemid,property,value\n"
    (raw / "item_properties_part1.csv").write_text(
        header + "1435460400000,355908,categoryid,1338\n1441508400000,355908,888,1116713 960601 n277.200\n"
    )
    (raw / "item_properties_part2.csv").write_text(
        header + "1435460400000,355909,categoryid,1114\n1435460400000,355909,available,1\n"
    )

    data = _prepare("retailrocket", raw, tmp_path)

    assert (data.meta.num_users, data.meta.num_events) == (2, 30)
    assert set(data.sequences.event) == {EventKind.VIEW, EventKind.CART, EventKind.PURCHASE}
    assert _item(data, "355908")["category"] == ["1338"]
    assert _item(data, "355909")["category"] == ["1114"]
    assert data.meta.num_items == 4


def test_esci_judgments_are_read(tmp_path: Path) -> None:
    raw = tmp_path / "esci"
    raw.mkdir()
    examples = [
        {
            "example_id": 10 * q + n,
            "query": f"revent {q} cfm whole house fan",
            "query_idx": q,
            "product_id": f"B0{n:03d}",
            "product_locale": "us",
            "esci_label": label,
            "small_version": 0,
            "large_version": 1,
            "split": "train",
        }
        for q in range(10)
        for n, label in enumerate("ESCI")
    ]
    examples.append({**examples[0], "query": "ventilador de techo", "product_locale": "es"})
    products = [
        {
            "product_id": f"B0{n:03d}",
            "product_title": f"Panasonic FV-{n} WhisperCeiling Fan",
            "product_description": "<p>Quiet.</p>",
            "product_bullet_point": "WhisperCeiling fans feature a totally enclosed condenser motor",
            "product_brand": "Panasonic",
            "product_color": "White",
            "product_locale": "us",
        }
        for n in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(examples), raw / "shopping_queries_dataset_examples.parquet")
    pq.write_table(pa.Table.from_pylist(products), raw / "shopping_queries_dataset_products.parquet")

    data = _prepare("esci", raw, tmp_path)

    judgments = pq.read_table(data.path / "judgments.parquet")
    assert judgments.num_rows == 40
    assert sorted(set(judgments["grade"].to_pylist())) == pytest.approx([0, 0.01, 0.1, 1])
    assert len(set(judgments["split"].to_pylist())) == 3
    assert _item(data, "B0002")["brand"] == "Panasonic"
    assert dict(_item(data, "B0002")["attributes"])["product_color"] == "White"


def _prepare(name: str, root: Path, runs: Path) -> PreparedData:
    config = load(CONFIGS / f"{name}.toml", [f"data.root={root}", f"runs_root={runs / 'runs'}"])
    preparation.run(config, preparation.InProcess())
    return PreparedData.open(config.data_dir)


def _json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def _item(data: PreparedData, key: str) -> dict[str, Any]:
    row = data.items["item_id"].to_pylist().index(key)
    found: dict[str, Any] = data.items.slice(row, 1).to_pylist()[0]
    return found
