"""The Ray job that turns raw files into prepared tables: chunks are read, partitions of users cleaned, in a stream.

Ray tasks do the pieces of the work and return their figures; the rows themselves go from worker to worker through the
run's staging folder, dealt by a hash of the user, so that nothing larger than a block or a partition is ever in memory
and nothing but figures reaches this process. Rows of a database come through Ray Data, which is imported for them only:
it costs every worker that loads it more than a second. On a cluster the run's folder must be shared by its machines.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import ray

from pipelines import cluster
from txrec.config import Config
from txrec.data import preparation, sources, staging
from txrec.data.prepared import PreparedData
from txrec.data.report import Report, write_html
from txrec.data.staging import Job, Read
from txrec.errors import TxrecError
from txrec.loop import preparation_check
from txrec.progress import Progress, silent

_LOOK_EVERY_S = 0.2


def run(config: Config, progress: Progress = silent, accept: str = "") -> Report:
    """Reads, validates, cleans, splits and writes `config.data_dir` and the data report; compares it with the last one.

    Args:
        config: of the run.
        progress: told what is done.
        accept: why a preparation that differs from the last one is accepted; empty = it is not.

    Raises:
        DataError: a source cannot be used, too much of it is rejected, or it differs from the last preparation.
    """
    if config.data.shop is not None:
        from txrec import simulator

        progress("generating the shop", 0, None)
        simulator.write(config.data.shop, Path(config.data.root))
    with cluster.connect():
        report = preparation.run(config, OnRay(), progress)
    write_html(report, config.reports_dir / "data.html")
    if config.checks.compare:
        progress("comparing with the last preparation", 0, None)
        preparation_check.run(config, PreparedData.open(config.data_dir), accept)
    return report


class OnRay:
    """Runs the pieces as Ray tasks, one a CPU."""

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any], done: Callable[[int], None]) -> list[Any]:
        """Implements `Executor`."""
        shared, call = ray.put(function), ray.remote(_call)
        running = [call.remote(shared, task) for task in tasks]
        waiting = running
        try:
            while waiting:
                finished, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK_EVERY_S)
                for _, error in ray.get(finished):
                    if error is not None:
                        raise error
                if finished:
                    done(len(running) - len(waiting))
        finally:
            for task in waiting:  # after an error
                ray.cancel(task)
        return [result for result, _ in ray.get(running)]

    def read_sql(self, job: Job, chunk: sources.Chunk) -> Read:
        """Implements `Executor`."""
        import ray.data

        source = sources.sources_of(job.config.data, chunk.table)[chunk.source]
        address = sources.address_of(source)
        context = ray.data.DataContext.get_current()
        kept_order = context.execution_options.preserve_order
        context.execution_options.preserve_order = True
        try:
            rows = ray.data.read_sql(source.sql, partial(sources.connect, address), override_num_blocks=1).map_batches(
                _SqlStager,
                fn_constructor_args=(job, chunk),
                batch_format="pyarrow",
                batch_size=None,
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=0,
            )
            states = [Read(**json.loads(row["read"])) for row in rows.iter_rows()]
        finally:
            context.execution_options.preserve_order = kept_order
        nothing = staging.Stager(job, chunk).result()
        return max(states, key=lambda state: state.num_lines, default=nothing)


def _call(function: Callable[[Any], Any], task: Any) -> tuple[Any, TxrecError | None]:
    """One task; an error of the user's is a result, everything else fails the job."""
    try:
        return function(task), None
    except TxrecError as error:
        return None, error


class _SqlStager:
    """Numbers and stages the rows of one statement; a single actor, so that they keep their order."""

    def __init__(self, job: Job, chunk: sources.Chunk) -> None:
        self._stager = staging.Stager(job, chunk)

    def __call__(self, table: pa.Table) -> pa.Table:
        self._stager.add(sources.block_of(pl.DataFrame(pl.from_arrow(table)), self._stager.num_lines))
        return pa.table({"read": [json.dumps(asdict(self._stager.result()))]})
