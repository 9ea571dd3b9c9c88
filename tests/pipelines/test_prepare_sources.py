"""One log, read from files, S3, PostgreSQL and SQLite, gives the same tables each time."""

import gzip
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pyarrow.parquet as pq
import pytest

from pipelines import prepare
from tests import services
from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.errors import DataError

pytestmark = pytest.mark.ray

EVENT_COLUMNS = ("user_id", "ts", "event", "item_id", "query", "value")
ITEM_COLUMNS = ("item_id", "title", "category", "price")
ITEMS = [(f"sku{n}", f"Lamp {n}, 台灯", "home > lamps", 10.0 + n) for n in range(12)]


def _event(user: int, day: int) -> tuple[str, str, str, str | None, str | None, float | None]:
    time = f"2025-03-{day + 1:02d}T10:{user:02d}:00Z"
    if day % 4 == 0:
        return f"u{user:02d}", time, "search", None, f"Lamp  {user % 5}", None
    kind = ("purchase", "view", "cart")[day % 3]
    return f"u{user:02d}", time, kind, f"sku{(user + day) % 12}", None, 9.5 if kind == "purchase" else None


EVENTS = [_event(user, day) for day in range(28) for user in range(20)]


@pytest.fixture(scope="module")
def csv_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log as plain files."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "events.csv").write_text(_csv(EVENT_COLUMNS, EVENTS), encoding="utf-8")
    (folder / "items.csv").write_text(_csv(ITEM_COLUMNS, ITEMS), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def from_files(csv_files: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> PreparedData:
    config = _config(tmp_path_factory.mktemp("runs"), str(csv_files), {"path": "events.csv"}, {"path": "items.csv"})
    return _prepare(config)


@pytest.fixture(scope="module")
def s3_endpoint(csv_files: Path) -> Iterator[str]:
    with services.s3() as address:
        client = boto3.client("s3", endpoint_url=f"http://{address}", region_name="us-east-1")
        client.create_bucket(Bucket="logs")
        days = [EVENTS[start : start + 100] for start in range(0, len(EVENTS), 100)]
        for number, rows in enumerate(days):
            body = gzip.compress(_csv(EVENT_COLUMNS, rows).encode())
            client.put_object(Bucket="logs", Key=f"shop/events/part-{number}.csv.gz", Body=body)
        client.upload_file(str(csv_files / "items.csv"), "logs", "shop/items.csv")
        yield address


def test_a_log_on_s3_is_read_like_local_files(
    s3_endpoint: str, from_files: PreparedData, tmp_path: Path, ray_cluster: None
) -> None:
    root = f"s3://logs/shop?endpoint_override={s3_endpoint}&scheme=http&region=us-east-1"
    data = _prepare(_config(tmp_path, root, {"path": "events/*.csv.gz"}, {"path": "items.csv"}))
    _same(data, from_files)


def test_a_missing_s3_key_is_named_before_any_work(s3_endpoint: str, tmp_path: Path, ray_cluster: None) -> None:
    root = f"s3://logs/shop?endpoint_override={s3_endpoint}&scheme=http&region=us-east-1"
    with pytest.raises(DataError, match=r"clicks\.csv"):
        prepare.run(_config(tmp_path, root, {"path": "clicks.csv"}, {"path": "items.csv"}))


def test_a_log_exported_from_postgresql_is_read_like_files(
    from_files: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    with services.postgres() as url:
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE TABLE log (user_id text, ts timestamptz, event text, item_id text, query text, value real)"
            )
            connection.execute("CREATE TABLE product (item_id text, title text, category text, price numeric(9, 2))")
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO log VALUES (%s, %s, %s, %s, %s, %s)", EVENTS)
                cursor.executemany("INSERT INTO product VALUES (%s, %s, %s, %s)", ITEMS)
        monkeypatch.setenv("SHOP_DATABASE", url)
        _same(_prepare(_sql_config(tmp_path)), from_files)


def test_a_log_in_sqlite_is_read_like_files(
    from_files: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    _fill_sqlite(tmp_path / "shop.db")
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{tmp_path / 'shop.db'}")
    _same(_prepare(_sql_config(tmp_path)), from_files)


def test_a_statement_on_a_missing_table_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(DataError, match="log"):
        prepare.run(_sql_config(tmp_path))


def test_a_connection_variable_that_is_not_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    monkeypatch.delenv("SHOP_DATABASE", raising=False)
    with pytest.raises(DataError, match="SHOP_DATABASE"):
        prepare.run(_sql_config(tmp_path))


def _config(runs: Path, root: str, events: dict[str, Any], items: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "name": "sources",
            "runs_root": str(runs / "runs"),
            "data": {
                "root": root,
                "events": [events],
                "items": [{"category_separator": " > ", **items}],
            },
            "text": {"vocab_size": 200},
        }
    )


def _sql_config(runs: Path) -> Config:
    events = {"sql": "SELECT * FROM log ORDER BY ts, user_id", "connection_env": "SHOP_DATABASE"}
    items = {"sql": "SELECT * FROM product", "connection_env": "SHOP_DATABASE"}
    return _config(runs, str(runs), events, items)


def _prepare(config: Config) -> PreparedData:
    prepare.run(config)
    return PreparedData.open(config.data_dir)


def _fill_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE log (user_id TEXT, ts TEXT, event TEXT, item_id TEXT, query TEXT, value REAL)")
    connection.execute("CREATE TABLE product (item_id TEXT, title TEXT, category TEXT, price REAL)")
    connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", EVENTS)
    connection.executemany("INSERT INTO product VALUES (?, ?, ?, ?)", ITEMS)
    connection.commit()
    connection.close()


def _csv(columns: tuple[str, ...], rows: list[Any]) -> str:
    lines = [",".join("" if value is None else _quoted(str(value)) for value in row) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def _quoted(value: str) -> str:
    return f'"{value}"' if "," in value else value


def _same(data: PreparedData, expected: PreparedData) -> None:
    """The same users did the same things with the same items, whatever the order of users."""
    assert data.meta.num_events == expected.meta.num_events == len(EVENTS)
    assert data.items.to_pylist() == expected.items.to_pylist()
    assert data.queries.to_pylist() == expected.queries.to_pylist()
    assert _by_user(data) == _by_user(expected)


def _by_user(data: PreparedData) -> dict[str, dict[str, Any]]:
    table = pq.read_table(data.path / "sequences")
    return {row["user_id"]: row for row in table.to_pylist()}
