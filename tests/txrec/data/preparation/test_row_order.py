"""Order of rows in a log without times: a file sorted by product is a warning of the report and of the check."""

import random
from pathlib import Path

import polars as pl
import pytest

from tests.txrec.data.workbench import configured, prepared, write
from txrec.data.preparation.row_order import count_pairs
from txrec.data.preparation.source_check import check

RATINGS = {"path": "ratings.csv", "constants": {"event": "rate"}}


def _write(folder: Path, order: str) -> None:
    drawn = random.Random(7)
    rows = [(user, item, 3) for user in range(60) for item in drawn.sample(range(1, 120), 8)]
    if order == "by product":
        rows.sort(key=lambda row: row[1])
    elif order == "by user, then product downward":
        rows.sort(key=lambda row: (row[0], -row[1]))
    write(folder, "ratings.csv", "user_id,item_id,value\n" + "".join(f"{u},{i},{v}\n" for u, i, v in rows))


@pytest.mark.parametrize("order", ["by product", "by user, then product downward"])
def test_a_sorted_log_without_times_is_warned_of(tmp_path: Path, order: str) -> None:
    _write(tmp_path, order)
    report, _ = prepared(tmp_path, {"events": [RATINGS]}, {"num_partitions": 2})
    (message,) = (one for one in report.warnings() if "no times" in one)
    assert message.startswith("the events have no times, and 100% of the neighbouring rows of a user")
    assert message in check(configured(tmp_path, {"events": [RATINGS]})).warnings()


def test_a_log_without_times_in_the_order_of_events_is_no_warning(tmp_path: Path) -> None:
    _write(tmp_path, "as they happened")
    data = {"events": [RATINGS]}
    assert not [one for one in prepared(tmp_path, data)[0].warnings() if "no times" in one]
    assert not [one for one in check(configured(tmp_path, data)).warnings() if "no times" in one]


def test_pairs_of_two_users_and_of_one_product_do_not_count() -> None:
    user = pl.Series(["a", "a", "a", "b", "b"])
    assert count_pairs(user, pl.Series(["9", "10", "10", "11", "2"])) == (2, 1), "as numbers"
    assert count_pairs(user, pl.Series(["x9", "x10", "x10", "x11", "x2"])) == (2, 1), "as text"
    assert count_pairs(user, pl.Series(["9", None, "10", "11", None])) == (0, 0)
