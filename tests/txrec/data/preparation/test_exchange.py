"""Rows before and after the exchange: order restored, kinds told apart, tables carried in parcels."""

import random
from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.txrec.data.workbench import HEADER, configured, write
from txrec.data.formats import files
from txrec.data.preparation import canonical_reading, histories, parcels
from txrec.data.preparation.job import Job
from txrec.data.sources import sources
from txrec.schema import DAY_US


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("exchange")
    rows = [f"u{n % 7},i{n % 11},2024-01-{1 + n // 20:02d} 10:00:{n % 20:02d},click,q{n % 3}\n" for n in range(400)]
    rows[100], rows[300] = "broken\n", ",i1,2024-01-01 10:00:00,click,\n"
    write(folder, "events.csv", HEADER + "".join(rows))
    whole = files.RANGE_BYTES
    files.RANGE_BYTES = 2_000
    try:
        config = configured(folder)
        plan = sources.plan(config.data)
    finally:
        files.RANGE_BYTES = whole
    assert len(plan.chunks) > 5
    return Job(config, plan, num_partitions=1, latest_us=2**61)


def _blocks(job: Job) -> list[pa.Table]:
    return [block for chunk in job.chunks("events") for block in canonical_reading.event_rows(job, chunk)]


def test_columns_that_no_source_fills_do_not_travel(job: Job) -> None:
    assert job.event_columns == ("user_id", "ts", "event", "item_id", "query", "origin")
    assert {block.schema for block in _blocks(job)} == {canonical_reading.event_schema(job)}


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_blocks_that_arrive_in_any_order_are_one_log_again(job: Job, seed: int) -> None:
    blocks = _blocks(job)
    expected = canonical_reading.sort_out(pa.concat_tables(blocks))
    random.Random(seed).shuffle(blocks)
    arrived = canonical_reading.sort_out(pa.concat_tables(blocks))
    assert arrived.events.equals(expected.events)
    assert arrived.events.num_rows == 398
    assert arrived.rejected.equals(expected.rejected)
    assert arrived.rejected["reason"].to_pylist() == ["wrong_field_count", "missing_user"]
    assert arrived.rejected["raw"][0].as_py() == "broken"
    assert sorted(one.chunk for one in arrived.figures) == [chunk.number for chunk in job.plan.chunks]
    assert sum(one.num_read for one in arrived.figures) == 400


def test_rows_out_of_order_within_a_block_are_sorted_too(job: Job) -> None:
    whole = pa.concat_tables(_blocks(job))
    rows = list(range(whole.num_rows))
    random.Random(1).shuffle(rows)
    arrived = canonical_reading.sort_out(whole.take(rows))
    assert arrived.events.equals(canonical_reading.sort_out(whole).events)


def test_a_partition_comes_to_the_same_parcels_whatever_the_order_of_its_blocks(job: Job) -> None:
    blocks = _blocks(job)
    clean: Callable[[pa.Table], pa.Table] = partial(histories.clean_partition, job)
    first, second = clean(pa.concat_tables(blocks)), clean(pa.concat_tables(blocks[::-1]))
    for kind in ("events", "rejected"):
        numbers = [[number for number, _ in parcels.tables(made, kind)] for made in (first, second)]
        assert numbers[0] == numbers[1]
        one, other = parcels.unpack(first, kind), parcels.unpack(second, kind)
        assert one is not None
        assert one.equals(other)


def test_parcels_carry_tables_of_any_schema() -> None:
    coded = pa.table({"item": pa.array(["a", None, "a"]).dictionary_encode(), "ts": [1, 2, DAY_US]})
    plain = pa.table({"query": ["x"]})
    carried = parcels.together(
        [parcels.pack("late", 9, coded), parcels.pack("late", 2, coded.slice(1)), parcels.pack("other", 0, plain)]
    )
    assert [number for number, _ in parcels.tables(carried, "late")] == [2, 9]
    unpacked = parcels.unpack(carried, "late")
    assert unpacked is not None
    assert unpacked["item"].to_pylist() == [None, "a", "a", None, "a"]
    assert parcels.unpack(carried, "nothing") is None
    assert parcels.only(carried, "oth")["kind"].to_pylist() == ["other"]
    figures = parcels.together([parcels.pack_figures("kept", {"rows": 3}), parcels.pack_figures("kept", {"rows": 4})])
    assert [one["rows"] for one in parcels.figures(figures, "kept")] == [3, 4]
