"""Preparation of a data set: the dataflow from source files to prepared tables, and the sums that must hold.

    events     read ──▶ exchange by user ──▶ clean ─┬▶ (k-core rounds) ─┬▶ count ─▶ fit vocabulary ─┐
    items, judgments, users   read ─────────────────┘                   └▶ write sequences, rejected ◀┤
                                                                                           fit texts ◀┘

Rows travel between the functions as Arrow tables (`canonical_reading.event_rows` before the exchange, parcels after
it). An `Engine` runs the dataflow: in one process here, as Ray Data operators in `pipelines.prepare`. Only figures
reach the process that runs it. Rows in = kept + rejected is checked on what was really written.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from typing import Protocol, TypeVar

import polars as pl
import pyarrow as pa

from txrec import object_storage
from txrec.config import Config, fingerprint
from txrec.data import served_slates
from txrec.data.preparation import (
    canonical_reading,
    event_statistics,
    fitting,
    histories,
    known_ids,
    parcels,
    split,
    writing,
)
from txrec.data.preparation.canonical_reading import ChunkFigures
from txrec.data.preparation.data_report import Report, RowCounts, Timing
from txrec.data.preparation.event_statistics import EventStatistics
from txrec.data.preparation.fitting import DatasetSizes
from txrec.data.preparation.job import Job, num_partitions
from txrec.data.prepared import Meta
from txrec.data.sources import remarks, sources, sql
from txrec.errors import DataError, InvariantError
from txrec.progress import Progress, silent
from txrec.schema import DAY_US, parse_instant
from txrec.storage import make_folder

T = TypeVar("T")


class Tables(Protocol):
    """Arrow tables of one schema, spread over the machines of an engine."""

    def map(self, function: Callable[[pa.Table], pa.Table]) -> "Tables":
        """A function of every table; picklable, without state."""

    def exchange(self, key: str, num_partitions: int) -> "Tables":
        """Rows with equal `key` in one table: `num_partitions` tables, which hold blocks of rows in any order."""

    def gather(self) -> "Tables":
        """All rows in one table."""

    def union(self, other: "Tables") -> "Tables":
        """The tables of both."""

    def hold(self, step: str) -> "Tables":
        """The same, computed now and kept for several uses.

        Raises:
            TxrecError: raised by a function.
        """

    def collect(self, step: str) -> pa.Table:
        """All rows in this process, computed now: for figures.

        Raises:
            TxrecError: raised by a function.
        """


class Engine(Protocol):
    """A place where a dataflow runs: this process, or a cluster."""

    def read(self, function: Callable[[T], Iterator[pa.Table]], parts: Sequence[T]) -> Tables:
        """The tables that a function reads for every part (a chunk of a source, a folder): one task for each."""

    def statistics(self) -> dict[str, str]:
        """Step = the engine's own statistics of its operators, as text."""


@dataclass(frozen=True)
class InProcess:
    """Runs a dataflow in this process, one function call after the other; for tests and small data."""

    def read(self, function: Callable[[T], Iterator[pa.Table]], parts: Sequence[T]) -> Tables:
        """Implements `Engine`."""
        return _InMemory([table for part in parts for table in function(part)])

    def statistics(self) -> dict[str, str]:
        """Implements `Engine`."""
        return {}


@dataclass(frozen=True, eq=False)
class _InMemory:
    """`Tables` as a list."""

    tables: list[pa.Table]

    def map(self, function: Callable[[pa.Table], pa.Table]) -> Tables:
        return _InMemory([function(table) for table in self.tables])

    def exchange(self, key: str, num_partitions: int) -> Tables:
        if not self.tables:
            return self
        whole = pa.concat_tables(self.tables)
        keys = pl.DataFrame({key: pl.Series(whole[key])})
        part = keys.hash_rows(seed=0) % num_partitions
        numbers = range(num_partitions)
        return _InMemory([whole.filter(pa.array((part == number).to_numpy())) for number in numbers])

    def gather(self) -> Tables:
        return _InMemory([pa.concat_tables(self.tables)]) if self.tables else self

    def union(self, other: Tables) -> Tables:
        if not isinstance(other, _InMemory):
            raise TypeError(f"tables of two engines: {type(other).__name__}")
        return _InMemory([*self.tables, *other.tables])

    def hold(self, step: str) -> Tables:  # noqa: ARG002
        return self

    def collect(self, step: str) -> pa.Table:  # noqa: ARG002
        return parcels.together(self.tables)


def run(config: Config, engine: Engine, progress: Progress = silent) -> Report:
    """Reads, validates, cleans, splits; writes `config.data_dir` and the report's data.json.

    Raises:
        ConfigError: a time of the configuration that is not ISO 8601.
        DataError: a source cannot be used, or too much of it is rejected.
        InvariantError: rows were lost on the way.
    """
    plan = sources.plan(config.data)
    if config.data.events and not plan.has_time and config.prepare.split.kind == "global_time":
        raise DataError('the events have no times; map a column to ts or set prepare.split.kind = "leave_one_out"')
    _clear(config)
    served_slates.write(config.data, config.data_dir)
    addresses = {
        chunk.number: sql.address_of(sources.sources_of(config.data, chunk.table)[chunk.source])
        for chunk in plan.chunks
        if not chunk.path
    }
    job = Job(config, plan, num_partitions(config, plan), _latest_us(config), addresses)
    return _Preparation(job, engine, _Clock(progress)).run()


def _clear(config: Config) -> None:
    """Removes the result of an earlier run; its meta.json goes first, so that half a result is never taken for one."""
    (config.data_dir / "meta.json").unlink(missing_ok=True)
    object_storage.remove(config.data_dir)
    make_folder(config.data_dir)
    make_folder(config.reports_dir)


def _latest_us(config: Config) -> int:
    text = config.prepare.latest_time
    return (parse_instant(text, "prepare.latest_time") if text else int(time.time() * 1e6)) + DAY_US


class _Clock:
    """Notes when each step began, and passes it on as progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: dict[str, float] = {}

    def __call__(self, step: str) -> str:
        self._progress(step, 0, None)
        self._began.setdefault(step, time.perf_counter())
        return step

    def seconds(self) -> dict[str, float]:
        """Seconds of every step, up to the beginning of the next or to now."""
        bounds = [*self._began.values(), time.perf_counter()]
        return {step: after - began for step, (began, after) in zip(self._began, pairwise(bounds), strict=True)}


class _Preparation:
    """One run of the dataflow."""

    def __init__(self, job: Job, engine: Engine, clock: _Clock) -> None:
        self._job, self._engine, self._clock = job, engine, clock
        self._chunks: list[ChunkFigures] = []
        self._times = split.TimeCounts()
        self._rows: dict[str, RowCounts] = {}

    def run(self) -> Report:
        partitions = self._read()
        self._check_rejected(partitions)
        self._job = replace(self._job, windows=_windows(self._job, self._chunks, self._times))
        if self._job.has_core:
            partitions = self._core(partitions)
        fitted = self._fit(partitions)
        statistics = event_statistics.total(EventStatistics(**one) for one in parcels.figures(fitted, "events"))
        (sizes,) = (DatasetSizes(**one) for one in parcels.figures(fitted, "sizes"))
        if sizes.num_repeated_items:
            self._rows["items"].drop({"duplicate": sizes.num_repeated_items})
        if sizes.num_repeated_users:
            self._rows["users"].drop({"duplicate": sizes.num_repeated_users})
        written = parcels.together([fitted, self._write(partitions)])
        self._check_sums(written, statistics, sizes)
        self._check_rejected()  # cleaning rules and the catalogue's duplicates count too
        known = known_ids.added([known_ids.Overlap(**one) for one in parcels.figures(written, "overlap")])
        return self._finish(statistics, sizes, [one.warning() for one in known if one.is_small])

    def _read(self) -> Tables:
        """Reads everything and cleans the events; counts rows in and out."""
        job, step = self._job, self._clock("reading, exchanging and cleaning")
        sources_read: list[Tables] = []
        if events := job.chunks("events"):
            rows = self._engine.read(partial(canonical_reading.event_rows, job), events)
            exchanged = rows.exchange("user_id", job.num_partitions)
            sources_read.append(exchanged.map(partial(histories.clean_partition, job)))
        if others := job.chunks("items", "judgments", "users"):
            sources_read.append(self._engine.read(partial(canonical_reading.other_parcels, job), others))
        tables = reduce(lambda one, other: one.union(other), sources_read).hold(step)
        figures = tables.map(_figures).collect(self._clock("adding up"))
        self._chunks = [ChunkFigures(**one) for one in parcels.figures(figures, "chunk")]
        self._times = split.total_times(split.TimeCounts(**one) for one in parcels.figures(figures, "times"))
        self._count(parcels.figures(figures, "cleaned"))
        return tables

    def _count(self, cleaned: list[dict[str, dict[str, int]]]) -> None:
        table_of = {chunk.number: chunk.table for chunk in self._job.plan.chunks}
        if sorted(one.chunk for one in self._chunks) != sorted(table_of):
            raise InvariantError(f"{len(table_of)} chunks to read, figures of {len(self._chunks)}")
        for one in sorted(self._chunks, key=lambda figures: figures.chunk):
            counts = self._rows.setdefault(table_of[one.chunk], RowCounts())
            counts.read += one.num_read
            counts.kept += one.num_kept
            counts.rejected.update(one.rejected)
        if not any(counts.read for counts in self._rows.values()):
            raise DataError("the sources hold no rows at all")
        for dropped in cleaned:
            self._rows["events"].drop(dropped["rejected"])

    def _check_rejected(self, partitions: Tables | None = None) -> None:
        """Stops when too much is rejected, once the rejected rows are written, so that one can look."""
        limit = self._job.config.prepare.max_rejected_frac
        for table, counts in self._rows.items():
            if counts.num_rejected > limit * counts.read:
                if partitions is not None:
                    partitions.map(self._rejected_writer()).collect(self._clock("writing rejected rows"))
                top = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected.most_common(5))
                hints = "".join(f"; {one}" for one in self._remarks() if one.startswith(f"data.{table}."))
                raise DataError(
                    f"{counts.num_rejected:,} of {counts.read:,} rows of {table} are rejected ({top}), more than "
                    f"prepare.max_rejected_frac = {limit:g} allows; the rows and their reasons are in "
                    f"{self._job.config.data_dir / 'rejected'}: correct the source's declaration or raise the limit"
                    f"{hints}"
                )

    def _rejected_writer(self) -> Callable[[pa.Table], pa.Table]:
        return partial(writing.write_rejected, self._job, writing.first_rows(self._job.plan, self._chunks))

    def _core(self, partitions: Tables) -> Tables:
        """k-core: rounds of dropping until nothing is rare any more."""
        least, round_number, dropped = self._job.config.prepare.min_item_events, 1, True
        while dropped:
            step = self._clock(f"k-core, round {round_number}")
            rare = partial(histories.rare_items, min_events=least)
            counts = partitions.map(histories.count_item_events).gather().map(rare).collect(step)
            items = parcels.unpack(counts, "rare")
            if items is None:
                break
            partitions = partitions.map(partial(histories.drop_rare, self._job, items)).hold(step)
            figures = parcels.figures(partitions.map(_figures).collect(step), "core")
            for rejected in figures:
                self._rows["events"].drop(rejected)
            dropped, round_number = any(figures), round_number + 1
        return partitions

    def _fit(self, partitions: Tables) -> pa.Table:
        """Splits and counts the events, fits the vocabulary, writes its tables; returns figures."""
        fitted = partial(_fitted, self._job, self._rejected_writer())
        counted = partitions.map(partial(_counted, self._job)).gather()
        return counted.map(fitted).collect(self._clock("counting and fitting the vocabulary"))

    def _write(self, partitions: Tables) -> pa.Table:
        data_dir = object_storage.fetch(self._job.config.data_dir)
        object_storage.require_seen(data_dir / "items.parquet", "runs_root")
        indices = writing.Indices.of(data_dir)
        write = partial(_written, self._job, indices, self._rejected_writer())
        step = self._clock("writing sequences and fitting texts")
        texts = self._engine.read(fit_texts, [self._job])  # one long task next to many short ones
        return texts.union(partitions.map(write)).collect(step)

    def _check_sums(self, written: pa.Table, statistics: EventStatistics, sizes: DatasetSizes) -> None:
        """Checks that nothing is lost: rows in = kept + rejected, and both are really there."""
        quarantined: Counter[str] = Counter()
        for one in parcels.figures(written, "quarantine"):
            quarantined.update(one)
        rejected: Counter[str] = Counter()
        for table, counts in self._rows.items():
            rejected.update(counts.rejected)
            _equal(f"rows of {table} read, kept and rejected", counts.read, counts.kept + counts.num_rejected)
        _equal("rows counted as rejected, and written", dict(+rejected), dict(+quarantined))
        kept = {table: counts.kept for table, counts in self._rows.items()}
        events = sum(one["events"] for one in parcels.figures(written, "sequences"))
        _equal("events kept, and counted", kept.get("events", 0), statistics.num_events)
        _equal("events kept, and written", kept.get("events", 0), events)
        _equal("judgments kept, and written", kept.get("judgments", 0), sum(sizes.judgments.values()))
        _equal("rows of users kept, and written", kept.get("users", 0), sizes.num_profiles)

    def _finish(self, statistics: EventStatistics, sizes: DatasetSizes, warnings: Sequence[str]) -> Report:
        job, config = self._job, self._job.config
        timed = job.plan.has_time
        object_storage.fetch(config.data_dir)  # sequences and rejected rows were written by tasks on any machine
        meta = Meta(
            fingerprint=fingerprint(config.prepare, config.text, sources.source_fingerprint(config.data)),
            num_users=statistics.num_users,
            num_events=statistics.num_events,
            num_items=sizes.num_items,
            num_trained_items=sizes.num_trained_items,
            num_queries=sizes.num_queries,
            num_categories=sizes.num_categories,
            num_brands=sizes.num_brands,
            num_price_buckets=sizes.num_price_buckets,
            has_time=timed,
            split_kind=config.prepare.split.kind,
            validation_start_ts=job.windows[0],
            test_start_ts=job.windows[1],
            end_ts=max(one.last_us for one in self._chunks) if timed else 0,
        )
        first_us = min((one.first_us for one in self._chunks if one.last_us), default=0) if timed else 0
        place = object_storage.place_of(config.data_dir)
        report = Report(
            config.name, meta, self._rows, statistics, sizes, first_us, job.plan.empty_files, place,
            Timing(self._clock.seconds(), self._engine.statistics()), (*self._remarks(), *warnings),
        )  # fmt: skip
        figures = {**report.as_json(), "timing": asdict(report.timing) if report.timing else None}
        (config.reports_dir / "data.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
        (config.data_dir / "meta.json").write_text(meta.model_dump_json(indent=2), encoding="utf-8")
        return report

    def _remarks(self) -> list[str]:
        places = {chunk.number: f"data.{chunk.table}.{chunk.source}" for chunk in self._job.plan.chunks}
        ordered = sorted((one for one in self._chunks if one.num_read), key=lambda one: one.chunk)
        return remarks.warnings((places[one.chunk], one) for one in ordered)


def _windows(job: Job, chunks: Iterable[ChunkFigures], times: split.TimeCounts) -> tuple[int, int]:
    timed = [one for one in chunks if one.last_us]
    if job.config.prepare.split.kind != "global_time" or not timed:
        return (0, 0)
    first_us, last_us = min(one.first_us for one in timed), max(one.last_us for one in timed)
    return split.windows(job.config.prepare.split, first_us, last_us, times)


def _figures(partitions: pa.Table) -> pa.Table:
    return parcels.only(partitions, parcels.FIGURES)


def _counted(job: Job, partitions: pa.Table) -> pa.Table:
    """Counts of the events, and the tables that fitting needs as they are."""
    return parcels.together(
        [parcels.only(partitions, "items", "judgments", "users"), histories.count_partition(job, partitions)]
    )


def _fitted(job: Job, write_rejected: Callable[[pa.Table], pa.Table], counted: pa.Table) -> pa.Table:
    made = fitting.fit(job, counted)
    return parcels.together([_figures(made), write_rejected(made), parcels.only(counted, "figures:events")])


def fit_texts(job: Job) -> Iterator[pa.Table]:
    """Fits tokenizer and analyser on texts, as the task of an engine; its result is files."""
    fitting.fit_texts(job)
    yield parcels.PARCELS.empty_table()


def _written(
    job: Job, indices: writing.Indices, write_rejected: Callable[[pa.Table], pa.Table], partitions: pa.Table
) -> pa.Table:
    return parcels.together([writing.write_partition(job, indices, partitions), write_rejected(partitions)])


def _equal(name: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise InvariantError(f"{name}: {expected} and {actual} must be equal; please report this as a bug of txrec")
