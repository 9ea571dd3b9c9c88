"""`txrec init` and `txrec prepare --check` on the command line: a configuration from files, and questions."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.__main__ import app
from tests.txrec.data.workbench import prepared, write
from txrec.config_loader import load
from txrec.errors import ConfigError, DataError

LOG = "".join(
    f"v{n % 9};p{n % 7};{('page_view', 'add_to_cart', 'zap')[n % 3]};2024-05-{1 + n % 28:02d}\n" for n in range(90)
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, "events.csv", "visitor;sku;action;day\n" + LOG)
    write(tmp_path, "catalogue.csv", "sku,name,stock\n" + "".join(f"p{n},Lamp {n},perhaps\n" for n in range(7)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_configuration_that_prepares_and_asks_what_it_cannot_tell(shop: Path) -> None:
    shown = CliRunner().invoke(app, ["init", "events.csv", "catalogue.csv"])
    assert shown.exit_code == 0, shown.output
    assert "question: events.csv: action = 'zap'" in shown.output.replace("\n", " ")
    text = (shop / "shop.toml").read_text()
    assert "# QUESTION: events.csv: action = 'zap'" in text
    config = load(shop / "shop.toml")
    report, data = prepared(shop, config.data.model_dump(mode="json"))
    assert report.row_counts["events"].kept == 30
    assert data.items.num_rows == 7


def test_init_reads_columns_from_the_names_of_folders(shop: Path) -> None:
    for number, kind in enumerate(("view", "purchase")):
        rows = "".join(f"u{n % 5},p{n % 7}\n" for n in range(20))
        write(shop, f"log/event={kind}/day=2024-05-0{1 + number}/part.csv", f"user_id,item_id\n{rows}")
    shown = CliRunner().invoke(app, ["init", "log", "--out", "log.toml"])
    assert shown.exit_code == 0, shown.output
    (source,) = load(shop / "log.toml").data.events
    assert (source.columns, source.constants) == ({"ts": "day"}, {})
    assert "purchase 20" in " ".join(shown.output.split())


def test_init_replaces_a_configuration_only_by_force(shop: Path) -> None:
    write(shop, "shop.toml", "name = 'mine'\n")
    refused = CliRunner().invoke(app, ["init", "events.csv"])
    assert isinstance(refused.exception, ConfigError)
    assert "--force" in str(refused.exception)
    assert (shop / "shop.toml").read_text() == "name = 'mine'\n"
    assert CliRunner().invoke(app, ["init", "events.csv", "--force"]).exit_code == 0
    assert load(shop / "shop.toml").name == "shop"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("book.xlsx", b"PK\x03\x04xl/workbook.xml", "Excel"),
        ("page.html", b"<html><body>", "HTML"),
        ("note.txt", b"hello\nworld\n", "no delimiter"),
        ("sheet.csv", b"a,b\n1,2\n3,4\n", "no file holds events"),
        ("noise.csv", bytes(range(256)) * 40, "NUL"),
        ("broken.json", b"{not json\n{neither\n", "none of its first"),
        ("table.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("log.csv.gz", b"\x1f\x8b\x08\x00broken", "damaged"),
    ],
)
def test_init_says_why_a_file_cannot_be_used(shop: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        write(shop, name, content)
    shown = CliRunner().invoke(app, ["init", name])
    assert isinstance(shown.exception, DataError), shown.exception
    assert name in str(shown.exception)
    assert message in str(shown.exception)
    assert not (shop / "shop.toml").exists()


def test_prepare_check_reports_on_the_first_rows_and_writes_nothing(shop: Path) -> None:
    write(shop, "c.toml", 'name = "c"\n[data]\nroot = "."\n[[data.events]]\npath = "events.csv"\ndelimiter = ";"\n'
          'columns = { user_id = "visitor", item_id = "sku", ts = "day", event = "action" }\n'
          'values.event = { page_view = "view", gone = "click" }\n[[data.items]]\npath = "catalogue.csv"\n'
          'columns = { item_id = "sku", title = "name", available = "stock" }\n')  # fmt: skip
    before = sorted(shop.rglob("*"))
    shown = CliRunner().invoke(app, ["prepare", "c.toml", "--check"])
    assert shown.exit_code == 0, shown.output
    output = " ".join(shown.output.split())
    assert "unknown_event 60" in output
    assert "unknown_event in events.csv: v1;p1;add_to_cart;2024-05-02" in output
    assert "warning: data.events.0.values.event.'gone' matches no row" in output
    assert "words of availability that say neither yes nor no count as available: 'perhaps' (7 rows)" in output
    assert "67% of its rows rejected" in output
    assert sorted(shop.rglob("*")) == before


def test_a_preparation_warns_of_what_matches_nothing_and_of_unknown_availability(shop: Path) -> None:
    source = {"path": "events.csv", "delimiter": ";", "columns": {"user_id": "visitor", "item_id": "sku", "ts": "day"},
              "constants": {"event": "view"}, "reject": [{"column": "sku", "matches": "^never$"}]}  # fmt: skip
    items = {"path": "catalogue.csv", "columns": {"item_id": "sku", "title": "name", "available": "stock"}}
    report, _ = prepared(shop, {"events": [source], "items": [items]})
    warnings = " | ".join(report.as_json()["warnings"])
    assert "data.events.0.reject.0 (sku, matches = '^never$') matches no row" in warnings
    assert "data.items.0: words of availability" in warnings
    assert "'perhaps' (7 rows)" in warnings
