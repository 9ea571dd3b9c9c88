"""Preparation from beginning to end: plan, read, clean, split, fit, write, and the sums that must hold.

The pieces of `txrec.data.staging` do the work; this module says in which order, adds up their figures and asserts that
rows in = kept + rejected. Where the pieces run is the executor's affair.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import polars as pl

from txrec.config import Config, fingerprint
from txrec.data import facts, sources, split, staging
from txrec.data.prepared import Meta
from txrec.data.report import Report, RowCounts
from txrec.data.sources import Chunk
from txrec.data.staging import Cleaned, Job, Read
from txrec.errors import DataError
from txrec.progress import Progress, silent
from txrec.schema import DAY_US, parse_instant

_SQL_ROWS = 100_000
_PARTITION_BYTES = 48 << 20
_FILES_A_QUARANTINE_PART = 256


class Executor(Protocol):
    """Where the pieces run: in this process, or on a cluster."""

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any], done: Callable[[int], None]) -> list[Any]:
        """Results of a function for every task, in the order of the tasks.

        Args:
            function: picklable; touches no state but files.
            tasks: picklable.
            done: to be called with the number of finished tasks.

        Raises:
            TxrecError: what a task raised.
        """

    def read_sql(self, job: Job, chunk: Chunk) -> Read:
        """Stages all rows of a SQL source, in their order."""


class InProcess:
    """Runs one piece after the other, here."""

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any], done: Callable[[int], None]) -> list[Any]:
        """Implements `Executor`."""
        results = []
        for task in tasks:
            results.append(function(task))
            done(len(results))
        return results

    def read_sql(self, job: Job, chunk: Chunk) -> Read:
        """Implements `Executor`."""
        source = sources.sources_of(job.config.data, chunk.table)[chunk.source]
        stager = staging.Stager(job, chunk)
        with closing(sources.connect(sources.address_of(source))) as connection:
            for frame in pl.read_database(source.sql, connection, iter_batches=True, batch_size=_SQL_ROWS):
                stager.add(sources.block_of(frame, stager.num_lines))
        return stager.result()


def run(config: Config, executor: Executor, progress: Progress = silent) -> Report:
    """Reads, validates, cleans, splits; writes `config.data_dir` and the report's data.json.

    Raises:
        DataError: a source cannot be used, or too much of it is rejected.
    """
    plan = sources.plan(config.data)
    if config.data.events and not plan.has_time and config.prepare.split.kind == "global_time":
        raise DataError('the events have no times; map a column to ts or set prepare.split.kind = "leave_one_out"')
    _clear(config)
    job = Job(config, plan, str(config.run_dir / "staging"), _num_partitions(config, plan), _latest_us(config))
    try:
        return _run(job, executor, progress)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def _run(job: Job, executor: Executor, progress: Progress) -> Report:
    each = _Each(executor, progress)
    reads = _read_all(job, executor, each, progress)
    row_counts = _row_counts(job, reads)
    _check_rejected(job, reads, row_counts, each)
    job = replace(job, windows=_windows(job, reads))
    has_events = any(chunk.table == "events" for chunk in job.plan.chunks)
    partitions = range(job.num_partitions if has_events else 0)
    if job.has_core:
        cleaned = each(partial(staging.clean_partition, job), partitions, "cleaning")
        _count_cleaned(row_counts, cleaned)
        _core(job, partitions, row_counts, each)
        whole = facts.total(each(partial(staging.split_partition, job), partitions, "splitting"))
    else:
        both = each(partial(staging.clean_and_split_partition, job), partitions, "cleaning and splitting")
        _count_cleaned(row_counts, [cleaned for cleaned, _ in both])
        whole = facts.total([part for _, part in both])
    (sizes,) = each(staging.build_vocabulary, [job], "fitting the vocabulary")
    _count_items(row_counts, sizes)
    each(partial(staging.write_sequences, job), partitions, "writing sequences")
    quarantined = _write_rejected(job, reads, each)
    _check_sums(row_counts, quarantined, whole, sizes)
    _check_rejected(job, reads, row_counts, each)  # rules over histories count too
    return _finish(job, reads, row_counts, whole, sizes)


def _clear(config: Config) -> None:
    """Removes what an earlier run left; its meta.json goes first, so that half a result is never taken for one."""
    (config.data_dir / "meta.json").unlink(missing_ok=True)
    shutil.rmtree(config.data_dir, ignore_errors=True)
    shutil.rmtree(config.run_dir / "staging", ignore_errors=True)
    config.data_dir.mkdir(parents=True)
    config.reports_dir.mkdir(parents=True, exist_ok=True)


def _num_partitions(config: Config, plan: sources.Plan) -> int:
    return config.prepare.num_partitions or max(1, min(4096, plan.num_event_bytes // _PARTITION_BYTES))


def _latest_us(config: Config) -> int:
    text = config.prepare.latest_time
    if not text:
        return int(time.time() * 1e6) + DAY_US
    return parse_instant(text, "prepare.latest_time") + DAY_US


@dataclass(frozen=True)
class _Each:
    """Runs tasks and reports how many are done."""

    executor: Executor
    progress: Progress

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any], phase: str) -> list[Any]:
        self.progress(phase, 0, len(tasks))
        return self.executor.each(function, tasks, lambda done: self.progress(phase, done, len(tasks)))


def _read_all(job: Job, executor: Executor, each: _Each, progress: Progress) -> list[Read]:
    from_files = [chunk for chunk in job.plan.chunks if chunk.path]
    reads: list[Read] = each(partial(staging.read_chunk, job), from_files, "reading")
    for chunk in job.plan.chunks:
        if not chunk.path:
            progress("reading the database", 0, None)
            reads.append(executor.read_sql(job, chunk))
    return reads


def _windows(job: Job, reads: Sequence[Read]) -> tuple[int, int]:
    kind = job.config.prepare.split.kind
    if kind != "global_time" or not any(read.last_us for read in reads):
        return (0, 0)
    last_us = max(read.last_us for read in reads)
    return split.windows(job.config.prepare.split, min(read.first_us for read in reads), last_us)


def _row_counts(job: Job, reads: Sequence[Read]) -> dict[str, RowCounts]:
    """Rows in and out, by table."""
    row_counts: dict[str, RowCounts] = {}
    table_of = {chunk.number: chunk.table for chunk in job.plan.chunks}
    for read in reads:
        counts = row_counts.setdefault(table_of[read.chunk], RowCounts())
        counts.read += read.num_read
        counts.kept += read.num_kept
        counts.rejected.update(read.rejected)
    if not any(counts.read for counts in row_counts.values()):
        raise DataError("the sources hold no rows at all")
    return row_counts


def _check_rejected(job: Job, reads: Sequence[Read], row_counts: dict[str, RowCounts], each: _Each) -> None:
    """Stops when too much is rejected; the quarantine is written first, so that one can look."""
    limit = job.config.prepare.max_rejected_frac
    for table, counts in row_counts.items():
        num_rejected = sum(counts.rejected.values())
        if num_rejected > limit * counts.read:
            _write_rejected(job, reads, each)
            top = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected.most_common(5))
            raise DataError(
                f"{num_rejected:,} of {counts.read:,} rows of {table} are rejected ({top}), more than "
                f"prepare.max_rejected_frac = {limit:g} allows; the rows and their reasons are in "
                f"{job.config.data_dir / 'rejected'}: correct the source's declaration or raise the limit"
            )


def _count_cleaned(row_counts: dict[str, RowCounts], cleaned: Sequence[Cleaned]) -> None:
    for part in cleaned:
        row_counts["events"].drop(part.rejected)


def _count_items(row_counts: dict[str, RowCounts], sizes: dict[str, Any]) -> None:
    if sizes["num_repeated_items"]:
        row_counts["items"].drop({"duplicate": sizes["num_repeated_items"]})


def _core(job: Job, partitions: Sequence[int], row_counts: dict[str, RowCounts], each: _Each) -> None:
    """k-core: rounds of dropping until nothing is rare any more."""
    round_number, dropped = 0, True
    while dropped:
        phase = f"k-core, round {round_number + 1}"
        each(partial(staging.count_items, job), partitions, phase)
        step = partial(staging.core_partition, job, round_number=round_number)
        cleaned = each(step, partitions, phase)
        _count_cleaned(row_counts, cleaned)
        dropped = any(part.rejected for part in cleaned)
        round_number += 1


def _write_rejected(job: Job, reads: Sequence[Read], each: _Each) -> Counter[str]:
    names = [str(path) for path in job.staged("rejected")]
    groups = [names[i : i + _FILES_A_QUARANTINE_PART] for i in range(0, len(names), _FILES_A_QUARANTINE_PART)]
    write = partial(_write_group, job, staging.first_rows(job.plan, reads))
    total: Counter[str] = Counter()
    for counts in each(write, list(enumerate(groups)), "writing the quarantine"):
        total.update(counts)
    return total


def _write_group(job: Job, first_rows: dict[int, int], task: tuple[int, list[str]]) -> dict[str, int]:
    part, names = task
    return staging.write_rejected(job, names, part, first_rows)


def _check_sums(
    row_counts: dict[str, RowCounts], quarantined: Counter[str], whole: facts.Facts, sizes: dict[str, Any]
) -> None:
    """Nothing is lost: rows in = kept + rejected, and both are really there."""
    rejected: Counter[str] = Counter()
    for table, counts in row_counts.items():
        rejected.update(counts.rejected)
        total = counts.kept + sum(counts.rejected.values())
        assert counts.read == total, f"{table}: {counts.read} rows read, {total} accounted for"
    assert rejected == quarantined, f"counted as rejected {dict(rejected)}, in quarantine {dict(quarantined)}"
    kept = row_counts["events"].kept if "events" in row_counts else 0
    assert kept == whole.num_events, f"{kept} events kept, {whole.num_events} in the sequences"
    judged = row_counts["judgments"].kept if "judgments" in row_counts else 0
    assert judged == sum(sizes["judgments"].values()), f"{judged} judgments kept, {sizes['judgments']} written"


def _finish(
    job: Job, reads: Sequence[Read], row_counts: dict[str, RowCounts], whole: facts.Facts, sizes: dict[str, Any]
) -> Report:
    config = job.config
    timed = job.plan.has_time
    meta = Meta(
        fingerprint=fingerprint(config.prepare, config.text, sources.source_fingerprint(config.data)),
        num_users=whole.num_users,
        num_events=whole.num_events,
        has_time=timed,
        split_kind=config.prepare.split.kind,
        validation_start_ts=job.windows[0],
        test_start_ts=job.windows[1],
        end_ts=max(read.last_us for read in reads) if timed else 0,
        **{name: sizes[name] for name in Meta.model_fields if name in sizes},
    )
    first_us = min(read.first_us for read in reads) if timed else 0
    report = Report(config.name, meta, row_counts, whole, sizes, first_us, job.plan.empty_files, str(config.data_dir))
    (config.reports_dir / "data.json").write_text(json.dumps(report.as_json(), indent=2), encoding="utf-8")
    (config.data_dir / "meta.json").write_text(meta.model_dump_json(indent=2), encoding="utf-8")
    return report
