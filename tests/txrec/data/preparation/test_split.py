"""Splits by hand, and the properties that make them leak-safe."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.txrec.data.workbench import HEADER, events_of, prepared, write
from txrec.config import SplitConfig
from txrec.data.preparation import split
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError, DataError
from txrec.schema import DAY_US, Split

START = datetime(2024, 1, 1, tzinfo=UTC)


def test_the_test_window_ends_with_the_log() -> None:
    validation, test = split.windows(SplitConfig(test_days=2, validation_days=3), 0, 10 * DAY_US)
    assert (validation, test) == (5 * DAY_US, 8 * DAY_US)


def test_the_test_window_may_start_at_an_instant() -> None:
    cfg = SplitConfig(test_start="2024-01-08", validation_days=1)
    first = round(START.timestamp() * 1e6)
    validation, test = split.windows(cfg, first, first + 10 * DAY_US)
    assert (validation - first, test - first) == (6 * DAY_US, 7 * DAY_US)


@pytest.mark.parametrize("cfg", [SplitConfig(test_days=20), SplitConfig(test_start="2050-01-01")])
def test_a_part_without_events_is_refused(cfg: SplitConfig) -> None:
    with pytest.raises(DataError, match="leave a part empty"):
        split.windows(cfg, 0, 10 * DAY_US)


def test_a_test_start_that_is_no_instant_is_refused() -> None:
    with pytest.raises(ConfigError, match="test_start = 'monday': expected ISO 8601"):
        split.windows(SplitConfig(test_start="monday"), 0, DAY_US)


def test_the_start_of_a_window_belongs_to_it() -> None:
    assert split.global_time(np.array([1, 5, 6, 8, 9]), 5, 8).tolist() == [0, 1, 1, 2, 2]


def test_the_last_item_event_tests_and_the_one_before_validates() -> None:
    user = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2], dtype=np.int32)
    item = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0], dtype=bool)
    expected = [0, 0, 1, 2, 0, 0, 0, 0, 1, 2, 2, 2]  # two events only train; a search goes with what follows it
    assert split.leave_one_out(user, item).tolist() == expected


def test_a_query_is_judged_in_one_part_only_and_stays_there() -> None:
    queries = [f"query {n}" for n in range(2_000)]
    parts = split.by_query(queries, 0.2)
    assert parts == [split.by_query([query], 0.2)[0] for query in queries]
    shares = np.bincount(parts, minlength=3) / len(parts)
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def _log(rows: list[tuple[int, int, int]]) -> str:
    """(user, hour, item)."""
    return HEADER + "".join(
        f"u{u},i{i},{START + timedelta(hours=h):%Y-%m-%d %H:%M:%S},click,q{i}\n" for u, h, i in rows
    )


LOGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 24 * 30), st.integers(0, 8)), min_size=1, max_size=40)


@settings(max_examples=20)
@given(LOGS, st.integers(1, 3))
def test_nothing_in_train_is_later_than_the_first_test_event(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], partitions: int
) -> None:
    folder = tmp_path_factory.mktemp("leak")
    write(folder, "events.csv", _log([(0, 0, 0), *rows, (1, 24 * 30, 1)]))
    _, data = prepared(folder, prepare={"split": {"kind": "global_time"}, "num_partitions": partitions})
    seq = data.sequences
    last = {part: seq.ts[seq.split == part].max(initial=0) for part in Split}
    first = {part: seq.ts[seq.split == part].min(initial=2**62) for part in Split}
    assert last[Split.TRAIN] < data.meta.validation_start_ts <= first[Split.VALIDATION]
    assert last[Split.VALIDATION] < data.meta.test_start_ts <= first[Split.TEST]
    for start, end in zip(seq.offsets[:-1], seq.offsets[1:], strict=True):
        assert (np.diff(seq.split[start:end]) >= 0).all()
        assert (np.diff(seq.ts[start:end]) >= 0).all()


def _training(data: PreparedData) -> tuple[list[tuple[object, ...]], list[object], str]:
    """Everything that training sees: its rows, its vocabulary, its tokenizer."""
    rows = events_of(data).filter(pl.col("split") == int(Split.TRAIN)).sort("user_id", "ts", maintain_order=True)
    items = data.items.to_pylist()[: data.meta.num_trained_items]
    queries = [row for row in data.queries.to_pylist() if row["train_count"]]
    return rows.rows(), [*items, *queries], data.tokenizer_path.read_text()


@pytest.mark.parametrize("seed", range(3))
def test_shuffling_the_future_of_test_users_changes_nothing_that_training_sees(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = [(chance.randrange(6), chance.randrange(24 * 30), chance.randrange(8)) for _ in range(150)]
    rows = [(0, 0, 0), *rows, (1, 24 * 30, 1)]
    start = 24 * 30 - 24 * 14
    future = [(u, h, i) for u, h, i in rows if h >= start]
    items = [i for _, _, i in future]
    chance.shuffle(items)
    shuffled = [row for row in rows if row[1] < start] + [
        (u, h, i + 3)
        for (u, h, _), i in zip(future, items, strict=True)  # items never seen before among them
    ]
    catalogue = "item_id,title,brand,category,price\n" + "".join(
        f"i{n},thing {n} kind{n % 3},b{n % 4},c{n % 2},{n}.5\n" for n in range(12)
    )
    seen = []
    for name, log in (("a", rows), ("b", shuffled)):
        write(tmp_path / name, "events.csv", _log(log))
        write(tmp_path / name, "items.csv", catalogue)
        columns = {"user_id": "user", "item_id": "item", "ts": "time", "event": "kind", "query": "query"}
        sources = {"events": [{"path": "events.csv", "columns": columns}], "items": [{"path": "items.csv"}]}
        fixed = {"split": {"kind": "global_time", "test_days": 7}}
        seen.append(_training(prepared(tmp_path / name, sources, fixed)[1]))
    assert seen[0] == seen[1]


def test_the_number_of_partitions_changes_no_history(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = [(chance.randrange(9), chance.randrange(24 * 30), chance.randrange(8)) for _ in range(200)]
    write(tmp_path, "events.csv", _log(rows))
    frames = [events_of(prepared(tmp_path, prepare={"num_partitions": count})[1]) for count in (1, 2, 7)]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


def _counts(starts_h: list[int], users: int) -> split.TimeCounts:
    """Ten events of `users` users per hour, and nobody comes back."""
    return split.TimeCounts({str(h): 10 * users for h in starts_h}, {str(h): users for h in starts_h})


def test_a_busy_log_of_two_months_is_tested_on_its_last_week() -> None:
    last_us = 60 * DAY_US
    windows = split.windows(SplitConfig(), 0, last_us, _counts(list(range(24 * 60)), 5))
    assert windows == (last_us - 14 * DAY_US, last_us - 7 * DAY_US)


def test_the_windows_of_a_log_of_many_years_with_few_users_grow_until_they_hold_hundreds() -> None:
    hours = [h * 24 * 13 for h in range(600)]  # one user every 13 days over 21 years
    first_us, last_us = 0, hours[-1] * split.HOUR_US
    validation_us, test_us = split.windows(SplitConfig(), first_us, last_us, _counts(hours, 1))
    tested = sum(h * split.HOUR_US >= test_us for h in hours)
    validated = sum(validation_us <= h * split.HOUR_US < test_us for h in hours)
    assert tested == 200
    assert validated == 100


def test_a_stray_last_event_leaves_no_part_empty() -> None:
    hours = [*range(24 * 40), 24 * 900]
    validation_us, test_us = split.windows(SplitConfig(), 0, hours[-1] * split.HOUR_US, _counts(hours, 2))
    assert sum(h * split.HOUR_US >= test_us for h in hours) > 100
    assert sum(validation_us <= h * split.HOUR_US < test_us for h in hours) > 50


def test_a_part_too_small_to_measure_by_is_a_warning_of_the_report(tmp_path: Path) -> None:
    rows = [f"u{n},i{n % 3},2024-01-{1 + n:02d},click," for n in range(28)]
    write(tmp_path, "events.csv", HEADER + "\n".join(rows) + "\n")
    report, _ = prepared(tmp_path, prepare={"split": {"kind": "global_time"}})
    assert any("test part" in warning and "test_days" in warning for warning in report.as_json()["warnings"])
    assert report.as_json()["windows"]["test_days"] > 0
