"""Ids of the log that the catalogue or the users table does not know: reported with exact figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.txrec.data.workbench import CLICKS, HEADER, configured, prepared, write
from txrec.data.preparation.known_ids import Overlap, added
from txrec.data.preparation.source_check import check


def _sources(folder: Path, items: list[str], users: list[str]) -> dict[str, Any]:
    rows = [f"u{n % 8},i{n % 10},2024-01-{1 + n % 28:02d} 10:00:00,click,\n" for n in range(80)]
    write(folder, "events.csv", HEADER + "".join(rows))
    write(folder, "items.csv", "item_id,title\n" + "".join(f"{item},Kettle\n" for item in items))
    write(folder, "users.csv", "user_id,country\n" + "".join(f"{user},AT\n" for user in users))
    table = {"path": "users.csv", "properties": ["country"]}
    return {"events": [CLICKS], "items": [{"path": "items.csv"}], "users": [table]}


def test_unlike_ids_are_warnings_of_the_report_and_of_the_check(tmp_path: Path) -> None:
    data = _sources(tmp_path, ["i3", *[f"SKU{n}" for n in range(19)]], [f"c{n}" for n in range(5)])
    report, made = prepared(tmp_path, data, {"num_partitions": 3})
    figures = json.loads((made.path.parent / "reports" / "data.json").read_text())
    products, users = (one for one in figures["warnings"] if "same kind of id" in one)
    assert products == (
        "of 10 products in the log 1 (10%) are among the 20 of the catalogue: the log has products such as 'i0', "
        "the catalogue such as 'SKU0'; do both use the same kind of id? See columns.item_id"
    )
    assert users.startswith("of 8 users in the log 0 (0%) are among the 5 of the users table: the log has users such")
    assert "'u0', the users table such as 'c0'" in users
    assert set(figures["warnings"]) == set(report.warnings())
    assert [f"in the first rows, {one}" for one in (products, users)] == [
        one for one in check(configured(tmp_path, data)).warnings() if "same kind of id" in one
    ]


@pytest.mark.parametrize(("items", "users"), [(["i3", "i4", "new"], ["u1", "new"]), ([], ["u7"])])
def test_ids_that_meet_are_no_warning(tmp_path: Path, items: list[str], users: list[str]) -> None:
    report, _ = prepared(tmp_path, _sources(tmp_path, items, users))
    assert not [one for one in report.warnings() if "same kind of id" in one]


def test_parts_of_a_log_add_up() -> None:
    parts = [Overlap("users", 3, 40, 0, "b", "x"), Overlap("users", 7, 40, 1, "a", "x")]
    assert added(parts) == [Overlap("users", 10, 40, 1, "a", "x")]
    assert not Overlap("users", 10, 40, 1).is_small
    assert Overlap("products", 10, 40, 1).is_small
    assert not Overlap("products", 0, 40, 0).is_small
