"""The preparation job on Ray, and on the real data sets."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from pipelines import prepare
from tests.txrec.data.workbench import CLICKS, HEADER, configured, events_of, write
from txrec import schema
from txrec.config_loader import load
from txrec.data.formats import files
from txrec.data.preparation import preparation
from txrec.data.preparation.data_report import Report
from txrec.data.prepared import PreparedData, Sequences
from txrec.errors import DataError

CONFIGS = Path(__file__).parents[2] / "configs"


def _log(num: int) -> str:
    times = [f"2024-01-{1 + n * 28 // num:02d} 10:{n // 60 % 60:02d}:{n % 60:02d}" for n in range(num)]
    lines = [f"u{n * 7 % 23},i{n * 13 % 31},{time},click,q{n % 5}\n" for n, time in enumerate(times)]
    return HEADER + "".join(lines[: num // 2]) + "broken\n" + "".join(lines[num // 2 :]) + ",i1,2024-01-01,click,\n"


@pytest.mark.ray
def test_ray_prepares_exactly_what_one_process_does(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RANGE_BYTES", 4_000)
    histories, figures = [], []
    for name, execute in (
        ("ray", prepare.run),
        ("process", lambda config: preparation.run(config, preparation.InProcess())),
    ):
        write(tmp_path / name, "events.csv", _log(500))
        config = configured(tmp_path / name, prepare={"split": {"kind": "global_time"}, "num_partitions": 3})
        report: Report = execute(config)
        histories.append(events_of(PreparedData.open(config.data_dir)))
        plain = report.as_json()
        figures.append({key: plain[key] for key in plain if key != "fingerprint"})
    assert histories[0].equals(histories[1])
    assert figures[0] == figures[1]
    assert dict(figures[0]["rejected"]) == {"wrong_field_count": 1, "missing_user": 1}
    assert (tmp_path / "ray" / "runs" / "bench" / "reports" / "data.html").stat().st_size > 10_000
    tables = [_contents(tmp_path / name / "runs" / "bench" / "data") for name in ("ray", "process")]
    tables = [
        {name: data for name, data in each.items() if "rejected" not in name} for each in tables
    ]  # they name files
    assert tables[0] == tables[1]
    assert len(tables[0]) > 3
    timing = json.loads((tmp_path / "ray" / "runs" / "bench" / "reports" / "data.json").read_text())["timing"]
    assert "HashShuffleReduce" in timing["operators"]["reading, exchanging and cleaning"]
    page = (tmp_path / "ray" / "runs" / "bench" / "reports" / "data.html").read_text()
    assert "Where time went" in page
    assert "MapBatches(_written)" in page


def _contents(folder: Path) -> dict[str, bytes]:
    """Every prepared table by its path; the fingerprint in meta.json depends on the paths of the sources."""
    tables = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "meta.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in tables}


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_three_nodes_write_the_same_bytes_as_one_process_though_a_worker_and_a_node_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RANGE_BYTES", 20_000)
    write(tmp_path, "events.csv", _log(6_000))
    settings = {"split": {"kind": "global_time"}, "num_partitions": 6}
    alone = configured(tmp_path, prepare=settings).model_copy(update={"runs_root": str(tmp_path / "alone")})
    report = preparation.run(alone, preparation.InProcess())

    spread = configured(tmp_path, prepare=settings)
    config = tmp_path / "spread.toml"
    config.write_text(tomli_w.dumps(spread.model_dump(mode="json", exclude_defaults=True)))
    command = [sys.executable, "-m", "tests.pipelines.prepare_on_nodes", str(config), "20000"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": ""}
    done = subprocess.run(
        command, cwd=CONFIGS.parent, env=environment, capture_output=True, text=True, check=False, timeout=190
    )
    assert done.returncode == 0, done.stderr
    assert "killed worker ray::" in done.stdout
    assert "killed node" in done.stdout
    assert f"kept {report.total.kept}" in done.stdout
    assert _contents(spread.data_dir) == _contents(alone.data_dir)


@pytest.mark.ray
def test_an_error_in_a_worker_reaches_the_user_as_raised(tmp_path: Path, ray_cluster: None) -> None:
    import gzip

    content = gzip.compress(_log(20_000).encode())
    write(tmp_path, "events.csv.gz", content[: len(content) // 2])
    with pytest.raises(DataError, match=r"events\.csv\.gz: damaged after"):
        prepare.run(configured(tmp_path, {"events": [{**CLICKS, "path": "events.csv.gz"}]}))
    assert not (tmp_path / "runs" / "bench" / "data" / "meta.json").exists()


@pytest.mark.ray
def test_a_database_keeps_the_order_of_its_rows(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"u{n % 3}", f"i{n}") for n in range(300)]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE log (user_id, item_id)")
        connection.executemany("INSERT INTO log VALUES (?, ?)", rows)
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{tmp_path / 'shop.db'}")
    source = {"sql": "SELECT * FROM log", "connection_env": "SHOP_DB", "constants": {"event": "view"}}
    config = configured(tmp_path, {"events": [source]})
    report = prepare.run(config)
    assert report.total.as_json() == {"read": 300, "kept": 300, "rejected": {}}
    events = events_of(PreparedData.open(config.data_dir))
    assert events["item"].to_list() == [item for user in ("u0", "u1", "u2") for u, item in rows if u == user]


@pytest.mark.ray
def test_sequences_stream_as_ray_train_hands_them_to_a_worker(tmp_path: Path, ray_cluster: None) -> None:
    import ray.data

    write(tmp_path, "events.csv", _log(500))
    config = configured(tmp_path, prepare={"num_partitions": 3})
    prepare.run(config)
    data = PreparedData.open(config.data_dir)
    rows = ray.data.read_parquet(str(data.path / "sequences")).select_columns(schema.SEQUENCES.names)
    (shard,) = rows.streaming_split(1)
    batches = [Sequences.from_table(batch) for batch in shard.iter_batches(batch_size=5, batch_format="pyarrow")]
    assert len(batches) > 1
    assert sum(len(batch.item_idx) for batch in batches) == data.meta.num_events
    users = [user for batch in batches for user in batch.user_id]
    assert sorted(users) == sorted(data.sequences.user_id)


def _real(name: str, real_data: Path, folder: Path) -> tuple[Report, PreparedData]:
    config = load(CONFIGS / f"{name}.toml", [f'data.root="{real_data}"', f'runs_root="{folder}"'])
    report = preparation.run(config, preparation.InProcess())
    figures = json.loads((config.reports_dir / "data.json").read_text())
    assert figures["read"] == figures["kept"] + sum(figures["rejected"].values())
    return report, PreparedData.open(config.data_dir)


@pytest.mark.data
def test_best_buy_has_its_published_test_week(real_data: Path, tmp_path: Path) -> None:
    report, data = _real("bestbuy", real_data, tmp_path)
    assert report.row_counts["events"].as_json() == {"read": 30_933, "kept": 30_933, "rejected": {}}
    assert report.statistics.by_split["test"] == 4_162
    assert data.meta.num_queries > 3_000


@pytest.mark.data
def test_movielens_has_its_published_shape(real_data: Path, tmp_path: Path) -> None:
    report, data = _real("movielens-1m", real_data, tmp_path)
    assert (data.meta.num_users, data.meta.num_items, data.meta.num_events) == (6_040, 3_416, 999_611)
    assert report.statistics.by_split == {"train": 999_611 - 2 * 6_040, "validation": 6_040, "test": 6_040}
    assert data.items["title"].null_count == 0
    first = data.sequences
    assert first.item_idx.min() >= 1
    assert np.diff(first.offsets).min() >= 5


@pytest.mark.data
def test_online_retail_tells_its_dirt_apart(real_data: Path, tmp_path: Path) -> None:
    report, data = _real("online-retail", real_data, tmp_path)
    assert report.total.read == 525_461
    assert report.total.rejected["missing_user"] == 107_927
    assert report.total.rejected["cancellation"] == 9_839
    assert set(report.total.rejected) <= {
        "missing_user",
        "cancellation",
        "not_a_product",
        "negative_quantity",
        "duplicate",
    }
    assert data.items["title"].null_count == 0


@pytest.mark.data
def test_beauty_has_its_published_shape(real_data: Path, tmp_path: Path) -> None:
    _, data = _real("amazon-beauty", real_data, tmp_path)
    assert (data.meta.num_users, data.meta.num_items, data.meta.num_events) == (22_363, 12_101, 198_502)


@pytest.mark.data
def test_home_depot_is_judgments_by_query(real_data: Path, tmp_path: Path) -> None:
    report, data = _real("homedepot", real_data, tmp_path)
    assert report.row_counts["judgments"].as_json() == {"read": 74_067, "kept": 74_067, "rejected": {}}
    assert data.meta.num_items == 54_667


@pytest.mark.data
@pytest.mark.parametrize("escape", ["\\", ""])
def test_the_catalogue_loses_no_row_however_its_quotes_are_read(real_data: Path, tmp_path: Path, escape: str) -> None:
    overrides = [f'data.root="{real_data}"', f'runs_root="{tmp_path}"', f"data.items.0.escape='{escape}'"]
    config = load(CONFIGS / "bestbuy-catalogue.toml", [*overrides, 'text.encoder="none"'])
    report = preparation.run(config, preparation.InProcess())
    assert report.total.read == 48_194
    assert report.total.kept + sum(report.total.rejected.values()) == 48_194
    broken = report.total.rejected["broken_quoting"] + report.total.rejected["wrong_field_count"]
    assert (broken == 0) == bool(escape)  # the quotes are broken only to a reader that expects them doubled
