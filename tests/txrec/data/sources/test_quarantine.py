"""No row is lost silently: each one that is no event is kept with its text, its row number and its reason."""

import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.txrec.data.workbench import CLICKS, HEADER, configured, prepared, rejected, write, zipped, zstd
from txrec.data.preparation.preparation import InProcess, run
from txrec.errors import DataError
from txrec.schema import Reason

GOOD = "u1,i1,2024-01-01 10:00:00,click,\n"


def _reason_of(folder: Path, line: str | bytes, **kwargs: Any) -> dict[str, Any]:
    """Prepares three good rows with a bad one between them and returns the bad one's quarantine entry."""
    line = line.encode() if isinstance(line, str) else line
    good = b"".join(b"u1,i%d,2024-01-01 10:00:0%d,click,\n" % (n, n) for n in range(4))
    first, rest = good[: len(GOOD)], good[len(GOOD) :]
    write(folder, "events.csv", HEADER.encode() + first + line + b"\n" + rest)
    report, data = prepared(folder, **kwargs)
    (entry,) = rejected(data)
    assert (report.total.read, report.total.kept) == (5, 4)
    assert entry["row"] == 2
    assert entry["source"].endswith("events.csv")
    return entry


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('u2,"i1,2024-01-01 10:00:00,click,', Reason.BROKEN_QUOTING),
        ("u2,i1,2024-01-01 10:00:00,click", Reason.WRONG_FIELD_COUNT),
        ("u2,i1,2024-01-01 10:00:00,click,,extra", Reason.WRONG_FIELD_COUNT),
        ("u2,i\x001,2024-01-01 10:00:00,click,", Reason.NUL_BYTE),
        (",i1,2024-01-01 10:00:00,click,", Reason.MISSING_USER),
        ("  ,i1,2024-01-01 10:00:00,click,", Reason.MISSING_USER),
        ("u2,,2024-01-01 10:00:00,click,", Reason.MISSING_ITEM),
        ("u2,,2024-01-01 10:00:00,search,", Reason.MISSING_QUERY),
        ("u2,,2024-01-01 10:00:00,search,&nbsp;", Reason.MISSING_QUERY),
        ("u2,i1,2024-01-01 10:00:00,stare,", Reason.UNKNOWN_EVENT),
        ("u2,i1,yesterday,click,", Reason.UNPARSABLE_TIME),
        ("u2,i1,,click,", Reason.UNPARSABLE_TIME),
        ("u2,i1,2024-13-01 10:00:00,click,", Reason.UNPARSABLE_TIME),
        ("u2,i1,2999-01-01 10:00:00,click,", Reason.FUTURE_TIME),
        ("u1,i0,2024-01-01 10:00:00,click,", Reason.DUPLICATE),
    ],
)
def test_a_bad_row_is_kept_with_its_reason_and_text(tmp_path: Path, line: str, reason: Reason) -> None:
    entry = _reason_of(tmp_path, line)
    assert entry["reason"] == reason
    if reason is Reason.DUPLICATE:  # told only when all of a user's events are together
        assert '"item_id":"i0"' in entry["raw"]
    else:
        assert entry["raw"] == line


def test_undecodable_bytes_cost_one_row_and_stay_readable(tmp_path: Path) -> None:
    entry = _reason_of(tmp_path, b"u\xff2,i1,2024-01-01 10:00:00,click,")
    assert entry["reason"] == Reason.UNDECODABLE_TEXT
    assert entry["raw"].startswith(r"u\xff2,i1")


@pytest.mark.parametrize(
    ("rule", "line", "reason"),
    [
        ({"column": "item", "matches": "^C", "reason": "cancellation"}, "u2,C1,2024-01-01,click,", "cancellation"),
        (
            {"column": "query", "below": 1, "reason": "negative_quantity"},
            "u2,i1,2024-01-01,click,-3",
            "negative_quantity",
        ),
        ({"column": "query", "below": 1}, "u2,i1,2024-01-01,click,lots", "unparsable_value"),
        ({"column": "kind", "matches": "test"}, "u2,i1,2024-01-01,test,", "excluded_by_rule"),
    ],
)
def test_configured_rules_give_their_own_reason(tmp_path: Path, rule: dict[str, Any], line: str, reason: str) -> None:
    columns = {name: column for name, column in CLICKS["columns"].items() if name != "query"}
    entry = _reason_of(tmp_path, line, data={"events": [{**CLICKS, "columns": columns, "reject": [rule]}]})
    assert entry["reason"] == reason


def test_a_missing_user_is_named_before_a_rule(tmp_path: Path) -> None:
    rule = {"column": "item", "matches": "^C", "reason": "cancellation"}
    entry = _reason_of(tmp_path, ",C1,2024-01-01,click,", data={"events": [{**CLICKS, "reject": [rule]}]})
    assert entry["reason"] == Reason.MISSING_USER


def test_a_quote_inside_a_field_that_opens_another_does_not_swallow_rows(tmp_path: Path) -> None:
    entry = _reason_of(tmp_path, 'u2,a"b,"c,click,')  # an even number of quotes
    assert entry["reason"] in (Reason.BROKEN_QUOTING, Reason.WRONG_FIELD_COUNT)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", b"\xef\xbb\xbf" + (HEADER + GOOD).replace("\n", "\r\n").encode())
    report, data = prepared(tmp_path)
    assert report.total.as_json() == {"read": 1, "kept": 1, "rejected": {}}
    assert data.sequences.user_id.tolist() == ["u1"]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", HEADER + "\n" + GOOD + "\n\r\n")
    assert prepared(tmp_path)[0].total.read == 1


def test_reasons_are_documented(tmp_path: Path) -> None:
    source = (Path(__file__).parents[4] / "txrec" / "schema.py").read_text()
    for reason in Reason:
        assert f'{reason.name} = "{reason.value}"\n    """' in source


def _fails(folder: Path, data: dict[str, Any] | None = None, prepare: dict[str, Any] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        run(configured(folder, data, prepare), InProcess())
    return str(caught.value)


def test_a_missing_file_names_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "evnts.csv", HEADER)
    message = _fails(tmp_path)
    assert "events.csv: no such file" in message
    assert "holds evnts.csv" in message


def test_a_missing_column_stops_before_any_work_and_lists_the_columns_found(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user,sku,time,kind,query\n" + GOOD)
    message = _fails(tmp_path)
    assert "no column 'item' (needed for item_id); columns found: user, sku, time, kind, query" in message
    assert not (tmp_path / "runs").exists()


def test_a_column_that_nothing_gives_is_named(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user,time\nu1,2024-01-01\n")
    source = {"path": "events.csv", "columns": {"user_id": "user", "ts": "time"}}
    assert "nothing gives event, which events need" in _fails(tmp_path, {"events": [source]})


def test_an_empty_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "")
    assert "events.csv: the file is empty; expected rows of events" in _fails(tmp_path)


def test_a_file_with_nothing_but_a_header_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", HEADER)
    assert "the sources hold no rows at all" in _fails(tmp_path)


def test_an_empty_file_beside_others_is_passed_over_and_reported(tmp_path: Path) -> None:
    write(tmp_path, "log/a.csv", HEADER + GOOD)
    write(tmp_path, "log/b.csv", "")
    report, _ = prepared(tmp_path, {"events": [{**CLICKS, "path": "log/*.csv"}]})
    assert [Path(path).name for path in report.empty_files] == ["b.csv"]
    assert report.as_json()["empty_files"]


@pytest.mark.parametrize(
    ("ending", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstd), ("zip", zipped)]
)
def test_a_truncated_gzip_or_other_packing_stops_with_what_to_do(tmp_path: Path, ending: str, pack: Any) -> None:
    lines = [f"u{n * n % 9_973},i{n},2024-01-01 10:00:00,click,\n" for n in range(20_000)]
    whole = pack((HEADER + "".join(lines)).encode())
    write(tmp_path, f"events.csv.{ending}", whole[: len(whole) // 2])
    message = _fails(tmp_path, {"events": [{**CLICKS, "path": f"events.csv.{ending}"}]})
    assert f"events.csv.{ending}: damaged after" in message
    assert "truncated or corrupt" in message
    assert "fetch or export it again" in message


def test_too_many_rejected_rows_stop_with_the_top_reasons_and_leave_the_quarantine(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", HEADER + GOOD + ",i1,2024-01-01,click,\n" * 3 + "u1,,2024-01-01,click,\n")
    message = _fails(tmp_path, prepare={"max_rejected_frac": 0.5})
    assert "4 of 5 rows of events are rejected (missing_user 3, missing_item 1)" in message
    assert "prepare.max_rejected_frac = 0.5" in message
    assert list((tmp_path / "runs" / "bench" / "data" / "rejected").glob("*.parquet"))


def test_events_without_times_cannot_be_split_by_time(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user,item\nu,i\n")
    source = {"path": "events.csv", "columns": {"user_id": "user", "item_id": "item"}, "constants": {"event": "click"}}
    message = _fails(tmp_path, {"events": [source]}, {"split": {"kind": "global_time"}})
    assert "the events have no times" in message


def test_an_empty_part_says_what_the_log_spans(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", HEADER + GOOD)
    message = _fails(tmp_path, prepare={"split": {"kind": "global_time"}})
    assert "the log spans 2024-01-01 10:00 to 2024-01-01 10:00" in message
    assert "prepare.split.test_days" in message


CELL = st.sampled_from(
    ["", " ", "u1", "u2", "i1", '"', '"q,"', "'", "click", "search", "2024-01-01", "9999-01-01", "\0", "é", "x\ty"]
)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    lines=st.lists(
        st.lists(CELL, min_size=1, max_size=7).map(",".join) | st.just(GOOD.strip()), min_size=1, max_size=30
    ),
    partitions=st.integers(1, 4),
    end=st.sampled_from(["", "\n", "\n\n"]),
)
def test_rows_in_are_rows_kept_plus_rows_rejected(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], partitions: int, end: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write(folder, "events.csv", HEADER + GOOD + "\n".join(lines) + end)
    report, data = prepared(folder, prepare={"num_partitions": partitions})
    num_rows = 1 + sum(bool(line.strip()) for line in lines)
    assert report.total.read == num_rows
    assert report.total.kept + len(rejected(data)) == num_rows
    assert data.meta.num_events == report.total.kept
