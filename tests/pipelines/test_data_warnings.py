"""Warnings of a preparation in the gate's record: on the terminal and in the manifest."""

from pathlib import Path

from rich.console import Console

from pipelines.publish import PublishSummary
from tests.txrec.data.workbench import configured, prepared, write
from txrec.data.preparation.data_report import recorded_warnings
from txrec.registry.gate import Decision


def test_a_test_part_too_small_to_measure_by_is_in_the_gates_record(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 3},i{n % 4},2024-01-{1 + n % 28:02d},click,\n" for n in range(60))
    write(tmp_path, "events.csv", "user,item,time,kind,query\n" + rows)
    prepared(tmp_path)
    warnings = recorded_warnings(configured(tmp_path).reports_dir)
    assert any("the test part holds events of 3 users" in warning for warning in warnings)
    decision = Decision("v1", "ndcg@10", 0.2, 0.01, 10, data_warnings=warnings)
    assert decision.to_dict()["data_warnings"] == list(warnings)
    console = Console(record=True, width=200)
    console.print(PublishSummary(decision, tmp_path, None).render())
    assert "the test part holds events of 3 users" in console.export_text()


def test_without_a_data_report_there_are_no_warnings(tmp_path: Path) -> None:
    assert recorded_warnings(configured(tmp_path).reports_dir) == ()
