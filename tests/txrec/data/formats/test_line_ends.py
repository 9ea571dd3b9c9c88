"""Files whose lines end in several ways: every row is read, and carriage returns inside fields stay there."""

from pathlib import Path
from typing import Any

import pytest

from tests.txrec.data.workbench import events_of, prepared, rejected, write
from txrec.errors import DataError

ROWS = ["u1,i1,2024-01-01", "u2,i2,2024-01-02", "u3,i3,2024-01-03", "u4,i4,2024-01-04"]
SOURCE: dict[str, Any] = {"path": "events.csv", "constants": {"event": "view"}}


def users(folder: Path, content: str | bytes, **more: Any) -> tuple[list[str], list[str]]:
    """Users of the events, and raw rejected rows."""
    write(folder, "events.csv", content)
    _, data = prepared(folder, {"events": [{**SOURCE, **more}]})
    return events_of(data)["user_id"].to_list(), [row["raw"] for row in rejected(data)]


@pytest.mark.parametrize("head", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("ends", [["\r"], ["\n", "\r"], ["\r\n", "\r"], ["\n", "\r\n"], ["\r", "\r", "\n"]])
@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize("multiline", [False, True])
def test_every_row_is_read_whatever_ends_it(
    tmp_path: Path, head: str, ends: list[str], times: int, multiline: bool
) -> None:
    rows = [row.replace("u", f"u{part:02d}") for part in range(times) for row in ROWS]
    body = "".join(row + ends[place % len(ends)] for place, row in enumerate(rows))
    names, lost = users(tmp_path, "user_id,item_id,ts" + head + body, multiline=multiline)
    assert names == sorted(row.split(",")[0] for row in rows)
    assert lost == []


def test_a_carriage_return_in_a_field_ends_no_row(tmp_path: Path) -> None:
    content = 'user_id,item_id,ts\nu1,"i\r1",2024-01-01\nu2,i2,2024-01-02\nu3,i\r3,2024-01-03\n'
    names, lost = users(tmp_path, content)
    assert "u2" in names
    assert len(names) + len(lost) == 3


def test_a_joined_file_and_one_without_quotes_may_end_lines_in_returns(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", 'order;item_id\r\n1;a"\r2;b\r3;c\r')
    write(tmp_path, "heads.csv", "number,user_id,ts\n1,u1,2024-01-01\r2,u2,2024-01-01\r\n3,u3,2024-01-01\r")
    join = {"path": "heads.csv", "on": ["order", "number"]}
    source = {**SOURCE, "delimiter": ";", "quoting": False, "join": [join]}
    _, data = prepared(tmp_path, {"events": [source]})
    assert events_of(data)["user_id"].to_list() == ["u1", "u2", "u3"]


def test_a_first_line_with_returns_that_end_no_rows_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user_id,it\rem_id,ts\nu1,i1,2024-01-01\n")
    with pytest.raises(DataError, match=r"carriage returns that end no rows .* one line end"):
        prepared(tmp_path, {"events": [SOURCE]})
