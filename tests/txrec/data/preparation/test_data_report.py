"""The data report, on terminal, as JSON and as a page."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.txrec.data.workbench import HEADER, prepared, write
from txrec.data.preparation.data_report import write_html


def _log(folder: Path) -> None:
    rows = [f"u{n % 5},i{n % 3},2024-01-{1 + n % 28:02d} 10:00:00,click,tea pot\n" for n in range(60)]
    write(folder, "events.csv", HEADER + "".join(rows) + ",i1,2024-01-01,click,\n")


def test_the_figures_add_up(tmp_path: Path) -> None:
    _log(tmp_path)
    report, data = prepared(tmp_path)
    figures = json.loads((data.path.parent / "reports" / "data.json").read_text())
    assert figures["read"] == figures["kept"] + sum(figures["rejected"].values()) == 61
    assert figures["tables"]["events"]["read"] == 61
    assert sum(figures["split"]["events"].values()) == figures["kept"] == sum(figures["events"].values())
    assert (figures["first_event"], figures["last_event"]) == ("2024-01-01 10:00:00", "2024-01-28 10:00:00")
    timing = figures.pop("timing")
    assert figures == json.loads(json.dumps(report.as_json()))
    assert next(iter(timing["steps"])) == "reading, exchanging and cleaning"
    assert all(seconds >= 0 for seconds in timing["steps"].values())


def test_the_terminal_shows_rows_by_reason(tmp_path: Path) -> None:
    _log(tmp_path)
    report, _ = prepared(tmp_path)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.render())
    shown = console.export_text()
    assert "missing_user 1" in shown
    assert "2024-01-28 10:00:00" in shown
    assert report.headline().startswith("61 rows read, ")


@pytest.mark.slow
def test_the_page_needs_no_network_and_draws_every_plot(tmp_path: Path) -> None:
    _log(tmp_path)
    report, _ = prepared(tmp_path)
    page = tmp_path / "data.html"
    write_html(report, page)
    text = page.read_text()
    for title in (
        "Events per day",
        "Events per user",
        "Item popularity",
        "Words per query",
        "Rejected rows",
        "Events by part",
    ):
        assert title in text
    assert text.count("<svg") == 6
    assert "src=" not in text
    assert "<script" not in text
    assert "<link" not in text


def test_a_catalogue_alone_has_a_page_too(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title\na,Kettle\n")
    report, _ = prepared(tmp_path, {"items": [{"path": "items.csv"}]})
    write_html(report, tmp_path / "data.html")
    assert "nothing to show" in (tmp_path / "data.html").read_text()
