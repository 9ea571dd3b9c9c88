"""`txrec prepare`: the dataflow of `txrec.data.preparation.preparation` as Ray Data operators.

    read       tasks of a Datasource, one per chunk of a file
    exchange   `repartition(keys=...)`: Ray Data's hash shuffle, tasks that can be repeated on any machine
    map        `map_batches` over whole Arrow blocks; the first after an exchange runs inside its reduce tasks
    gather     an exchange into one block
    hold       `materialize`: blocks stay in the object store, which spills to disk

Rows go from machine to machine through Ray's object store alone; machines share the run's storage and nothing else.
A task that is lost with its worker or its machine is repeated and comes to the same rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.exceptions import RayTaskError

from pipelines.distributed import actor_pool, cluster
from txrec import object_storage
from txrec.config import Config
from txrec.data.preparation import parcels, preparation
from txrec.data.preparation.data_report import Report, write_html
from txrec.data.preparation.preparation import Tables
from txrec.data.prepared import PreparedData
from txrec.errors import InvariantError, TxrecError
from txrec.loop.drift import preparation_check
from txrec.progress import Progress, silent

T = TypeVar("T")
BLOCK_BYTES = 32 << 20
"""Blocks of rows before an exchange, and how many bytes of them one of its map tasks partitions."""
_SETTINGS = {
    "target_max_block_size": BLOCK_BYTES,
    "shuffle_input_batch_bytes": BLOCK_BYTES,  # the default, 1 GiB, leaves all but one core idle
    "shuffle_compression": "lz4",  # zstd, the default, takes twice the time of the exchange
    "op_resource_reservation_enabled": False,  # it keeps a core of every two for operators that have no input yet
    "enable_progress_bars": False,
    "print_on_execution_start": False,
}


def run(config: Config, progress: Progress = silent, accept: str = "") -> Report:
    """Reads, validates, cleans, splits and writes `config.data_dir` and the data report; compares it with the last one.

    Args:
        config: of the run.
        progress: receives the current phase.
        accept: why a preparation that differs from the last one is accepted; empty = it is not.

    Raises:
        DataError: a source cannot be used, too much of it is rejected, or it differs from the last preparation.
    """
    if config.data.shop is not None:
        from txrec import simulator

        progress("generating the shop", 0, None)
        root = object_storage.local_path(config.data.root)
        simulator.write(config.data.shop, root)
        object_storage.share(root)
    with cluster.connect():
        _start_workers()
        report = preparation.run(config, RayData(), progress)
    write_html(report, config.reports_dir / "data.html")
    if config.checks.compare:
        progress("comparing with the last preparation", 0, None)
        preparation_check.run(config, PreparedData.open(config.data_dir), accept)
    return report


def _start_workers() -> None:
    """Starts a worker per core while the sources are planned: each needs seconds for its imports."""
    for _ in range(actor_pool.num_cores()):
        _import_preparation.options(scheduling_strategy="SPREAD").remote()


@ray.remote(runtime_env=cluster.EXCHANGE_POOL)
def _import_preparation() -> None:
    """Imports, with its module, the libraries that the tasks of a preparation need."""


@dataclass(frozen=True)
class RayData:
    """Runs a dataflow on the Ray cluster that this process is connected to."""

    _statistics: dict[str, str] = field(default_factory=dict)

    def read(self, function: Callable[[T], Iterator[pa.Table]], parts: Sequence[T]) -> Tables:
        """Implements `preparation.Engine`."""
        with _settings():
            source = PartSource(function, parts)
            read = ray.data.read_datasource(source, override_num_blocks=len(parts), runtime_env=cluster.EXCHANGE_POOL)
            return _Dataset(read, self._statistics)

    def statistics(self) -> dict[str, str]:
        """Implements `preparation.Engine`."""
        return dict(self._statistics)


class PartSource(ray.data.Datasource):
    """Parts of a source as a Ray Data source: a read task for each."""

    def __init__(self, function: Callable[[T], Iterator[pa.Table]], parts: Sequence[T]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tasks = [partial(function, part) for part in parts]
        self._name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)

    def get_name(self) -> str:
        """The function's name, for Ray Data's statistics."""
        return f"({self._name})"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before reading: chunks may be packed files."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002
    ) -> list[ray.data.ReadTask]:
        """One task per part, whatever the parallelism asked for: rows are numbered within chunks."""
        return [
            ray.data.ReadTask(
                task,
                BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None),
                per_task_row_limit=per_task_row_limit,
            )
            for task in self._tasks
        ]


@dataclass(frozen=True, eq=False)
class _Dataset:
    """`preparation.Tables` as a Ray Data dataset."""

    dataset: ray.data.Dataset
    statistics: dict[str, str]
    exchanged: bool = False
    """True where the last operator is an exchange: a map without settings of its own runs inside its reduce tasks."""

    def map(self, function: Callable[[pa.Table], pa.Table]) -> Tables:
        pool: dict[str, Any] = {} if self.exchanged else {"runtime_env": cluster.EXCHANGE_POOL}
        whole: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None, "zero_copy_batch": True}
        return self._like(self.dataset.map_batches(function, **whole, **pool))

    def exchange(self, key: str, num_partitions: int) -> Tables:
        return replace(self, dataset=self.dataset.repartition(num_partitions, keys=[key]), exchanged=True)

    def gather(self) -> Tables:
        return self.exchange("kind", 1)

    def union(self, other: Tables) -> Tables:
        if not isinstance(other, _Dataset):
            raise TypeError(f"tables of two engines: {type(other).__name__}")
        return self._like(self.dataset.union(other.dataset))

    def hold(self, step: str) -> Tables:
        return self._like(self._executed(step))

    def collect(self, step: str) -> pa.Table:
        blocks = ray.get(self._executed(step).to_arrow_refs())
        return parcels.together(block for block in blocks if block.num_rows)

    def _executed(self, step: str) -> ray.data.Dataset:
        try:
            with _settings():
                executed: ray.data.Dataset = self.dataset.materialize()
        except Exception as error:
            raise _cause_of(error) from None
        self._note(step, executed.stats())
        return executed

    def _note(self, step: str, text: str) -> None:
        """Keeps the statistics of the operators of this execution; it repeats those of held datasets before it."""
        known = {operator for noted in self.statistics.values() for operator in noted.split("\n\n")}
        new = [operator.strip() for operator in text.split("\n\n")]
        new = [operator for operator in new if operator not in known and "[execution cached]" not in operator]
        self.statistics[step] = "\n\n".join(filter(None, [self.statistics.get(step), *new]))

    def _like(self, dataset: ray.data.Dataset) -> Tables:
        return _Dataset(dataset, self.statistics)


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data's settings for a preparation; others find theirs unchanged afterwards."""
    context = ray.data.DataContext.get_current()
    before = {name: getattr(context, name) for name in _SETTINGS}
    for name, value in _SETTINGS.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _cause_of(error: BaseException) -> BaseException:
    """The error that a function raised in a worker, out of Ray's wrapping; the same if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RayTaskError):
            seen = seen.cause
        if isinstance(seen, TxrecError | InvariantError) and not isinstance(seen, RayTaskError):
            return seen
        seen = seen.__cause__ or seen.__context__ if seen is not None else None
    return error
