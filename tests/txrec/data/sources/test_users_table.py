"""Users tables: read like events and items, with quarantine and line numbers, and stored by user."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.txrec.data.workbench import CLICKS, HEADER, configured, write
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.preparation.source_check import check
from txrec.data.prepared import PreparedData
from txrec.data.profiles import StoredProfile
from txrec.data.sources.sources import source_fingerprint
from txrec.errors import DataError

LOG = HEADER + "".join(f"{user},i{n},2024-01-0{n + 1},click,\n" for user in ("a", "b") for n in range(3))
USERS: dict[str, Any] = {
    "path": "users.csv",
    "columns": {"user_id": "customer", "segments": "groups"},
    "properties": ["country", "age"],
}
TABLE = (
    "customer,country,age,groups\n"
    "a,AT,40,vip | newsletter\n"
    ",DE,20,\n"  # row 2: nobody
    "b,,31,\n"
    "new,FR,,club\n"
    "a,IT,41,late\n"  # row 5: a again
)


def prepared(folder: Path, users: dict[str, Any] | None = None, table: str = TABLE) -> tuple[Any, PreparedData]:
    write(folder, "events.csv", LOG)
    write(folder, "users.csv", table)
    config = configured(folder, {"events": [CLICKS], "users": [users or USERS]})
    return run(config, InProcess()), PreparedData.open(config.data_dir)


def test_properties_and_segments_of_users_with_and_without_events_are_stored(tmp_path: Path) -> None:
    report, data = prepared(tmp_path)
    assert data.profiles is not None
    assert len(data.profiles) == 3
    assert data.profiles.of("a") == StoredProfile({"country": "AT", "age": "40"}, ("vip", "newsletter"))
    assert data.profiles.of("b") == StoredProfile({"age": "31"}, ())
    assert data.profiles.of("new") == StoredProfile({"country": "FR"}, ("club",))
    assert data.profiles.of("new").all_segments == ("club", "country=FR")
    assert data.profiles.of("nobody") is None
    assert data.profiles.names == ("age", "country")
    assert data.profiles.values("country", pa.array(["b", "new", "nobody", "a"])).to_pylist() == [
        None,
        "FR",
        None,
        "AT",
    ]
    assert report.sizes.num_profiles == 3
    assert ("users with properties or segments", "3") in report.figures()


def test_rows_without_a_user_and_repeated_users_are_quarantined_with_their_line_numbers(tmp_path: Path) -> None:
    report, data = prepared(tmp_path)
    rejected = pq.read_table(data.path / "rejected").to_pylist()
    found = {(row["source"].rpartition("/")[2], row["row"], row["reason"]) for row in rejected}
    assert found == {("users.csv", 2, "missing_user"), ("users.csv", 5, "duplicate")}
    counts = report.row_counts["users"]
    assert (counts.read, counts.kept, counts.num_rejected) == (5, 3, 2)


def test_a_data_set_without_a_users_table_has_no_profiles(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", LOG)
    config = configured(tmp_path)
    run(config, InProcess())
    assert PreparedData.open(config.data_dir).profiles is None
    assert not (config.data_dir / "profiles.parquet").exists()


def test_a_changed_users_table_is_another_data_set(tmp_path: Path) -> None:
    _, first = prepared(tmp_path)
    write(tmp_path, "users.csv", TABLE + "d,AT,1,\n")
    config = configured(tmp_path, {"events": [CLICKS], "users": [USERS]})
    assert source_fingerprint(config.data)
    run(config, InProcess())
    assert PreparedData.open(config.data_dir).meta.fingerprint != first.meta.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"properties": ["tier"]}, "no column 'tier' (needed for properties); columns found: customer, country"),
        ({"columns": {"segments": "groups"}}, "nothing gives user_id, which users need"),
        ({"columns": {"user_id": "customer", "title": "groups"}}, "'title' is no column of users"),
    ],
)
def test_a_bad_declaration_names_the_column_and_those_that_are_there(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as error:
        prepared(tmp_path, {**USERS, **change})
    assert message in str(error.value)


def test_the_check_of_the_first_rows_warns_where_log_and_table_name_different_users(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", LOG)
    write(tmp_path, "users.csv", "customer,country,age,groups\nx1,AT,40,\nx2,AT,40,\n")
    made = check(configured(tmp_path, {"events": [CLICKS], "users": [USERS]}))
    assert any("of 2 users in the log 0 (0%)" in warning for warning in made.warnings())
    assert "2 users" in made.sources[1].contents()
