"""Answers to the requests of an evaluation by Ray Data actors on every machine of the cluster.

Requests are cut into parts. An actor opens a bundle (or fits a baseline) once and turns parts into one row per
request. The requests themselves are put into the object store once and read from there without copying.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from pipelines.distributed import actor_pool, cluster
from txrec import object_storage
from txrec.data.prepared import PreparedData
from txrec.evals import baselines
from txrec.evals.answering import Answers, InProcess, Lists, ask, query_texts
from txrec.evals.protocol import EvalRequests
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.registry import bundle_cache
from txrec.schema import Split

PART = 1_024
"""Requests per part; a multiple of the batches that recommender and baselines answer together."""
BASELINE_PARTS = 16
"""Parts per task of a baseline: every actor that shares one has to fit it."""


class OnRayData:
    """`txrec.evals.answering.Answering` on a Ray cluster, which is joined or started when there is more than one part.

    A single part is answered in this process: it takes less time than starting an actor. One pool of actors answers for
    all recommenders and baselines, as each needs seconds for its imports.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self.progress = progress
        self._connection = ExitStack()
        self._connected = False

    def __enter__(self) -> "OnRayData":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def answers(
        self,
        recommenders: Mapping[str, Recommender],
        data: PreparedData,
        requests: EvalRequests,
        k: int,
        split: Split | None = None,
    ) -> Answers:
        """Implements `Answering`."""
        if len(requests) <= PART:
            return InProcess(self.progress).answers(recommenders, data, requests, k, split)
        self._connect()
        bundles = {name: object_storage.place_of(one.bundle.path) for name, one in recommenders.items()}
        settings = (bundles, object_storage.place_of(data.path), split, ray.put(requests), k)
        shape = (len(requests), k)
        lists = {
            name: Lists(
                np.zeros(shape, np.int32),
                np.zeros(shape, np.int32),
                np.zeros(shape, np.float32),
                np.zeros(len(requests), bool),
                0.0,
            )
            for name in bundles
        }
        others = {} if split is None else {name: np.zeros(shape, np.int32) for name in baselines.names(data)}
        seconds = dict.fromkeys(bundles, 0.0)
        for name, rows, table in self._answered(settings, [*bundles], [*others], len(requests)):
            if name in others:
                others[name][rows] = _matrix(table["ranked"], k)
                continue
            one = lists[name]
            one.retrieved[rows] = _matrix(table["retrieved"], k)
            one.ranked[rows] = _matrix(table["ranked"], k)
            one.scores[rows] = _matrix(table["scores"], k)
            one.by_ranker[rows] = np.asarray(table["by_ranker"])
            seconds[name] += float(np.asarray(table["seconds"]).sum())
        actors = actor_pool.num_actors(-(-len(requests) // PART))
        return Answers({name: replace(one, seconds=seconds[name] / actors) for name, one in lists.items()}, others)

    def _answered(
        self, settings: tuple[Any, ...], bundles: Sequence[str], others: Sequence[str], num_requests: int
    ) -> Iterator[tuple[str, NDArray[np.int64], pa.Table]]:
        """Name of a system, rows of the requests and their answers, part by part as they come.

        Recommenders come first: their parts take longest, and those of baselines fill up the time of idle actors.
        """
        parts = _parts(bundles, num_requests, PART) + _parts(others, num_requests, BASELINE_PARTS * PART)
        done = {False: 0, True: 0}  # answers of recommenders, and of baselines
        self.progress("answering", 0, len(bundles) * num_requests)
        answered = actor_pool.answers(SystemsActor, settings, parts, batch_format="pyarrow")
        tables: Iterable[pa.Table] = answered.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in tables:
            by, rows = np.asarray(table["system"].to_pylist()), np.asarray(table["request"])
            for name in np.unique(by).tolist():
                own = np.flatnonzero(by == name)
                yield name, rows[own], table.take(pa.array(own))
                done[name in others] += len(own)
            if done[False] < len(bundles) * num_requests:
                self.progress("answering", done[False], len(bundles) * num_requests)
            else:
                self.progress("baselines", done[True], len(others) * num_requests)

    def _connect(self) -> None:
        if not self._connected:
            self._connection.enter_context(cluster.connect())
            self._connected = True


def _parts(systems: Sequence[str], num_requests: int, size: int) -> list[dict[str, Any]]:
    starts = range(0, num_requests, size)
    return [
        {"system": name, "start": start, "end": min(start + size, num_requests)} for name in systems for start in starts
    ]


class SystemsActor:
    """A Ray Data actor that answers parts of the requests, each by one recommender or baseline.

    A bundle is opened, and a baseline fitted, when the actor first needs it.
    """

    def __init__(self, bundles: Mapping[str, str], data: str, split: Split | None, requests: Any, k: int) -> None:
        self._requests: EvalRequests = _in_actor(requests)
        self._bundles, self._split, self._k = bundles, split, k
        self._data = PreparedData.open(object_storage.fetch(object_storage.local_path(data)))
        self._recommenders: dict[str, Recommender] = {}
        self._baselines: dict[str, baselines.Answers] = {}

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Answers one part [start, end) by the system `system`, one row per request."""
        name, start, end = (parts[column][0].as_py() for column in ("system", "start", "end"))
        rows = np.arange(start, end)
        requests = self._requests.select(rows)
        lists = self._lists(name, requests) if name in self._bundles else self._of_baseline(name, requests)
        return pa.table(
            {
                "system": [name] * len(rows),
                "request": rows,
                "retrieved": _column(lists.retrieved),
                "ranked": _column(lists.ranked),
                "scores": _column(lists.scores),
                "by_ranker": lists.by_ranker,
                "seconds": np.full(len(rows), lists.seconds / len(rows)),
            }
        )

    def _lists(self, name: str, requests: EvalRequests) -> Lists:
        if name not in self._recommenders:
            folder = bundle_cache.bring(object_storage.local_path(self._bundles[name]))
            self._recommenders[name] = Recommender.open(folder)
        return ask(self._recommenders[name], self._data, requests, self._k)

    def _of_baseline(self, name: str, requests: EvalRequests) -> Lists:
        if self._split is not None and name not in self._baselines:
            self._baselines |= baselines.fit(self._data, self._split, only=[name])
        systems = {one: self._baselines[one] for one in {name, baselines.FILLER}}
        num_items, texts = self._data.meta.num_items, query_texts(self._data)[1:]
        ids = baselines.answer(systems, requests, texts, num_items, self._k)[name]
        return Lists(ids[:, :0], ids, np.zeros((len(ids), 0), np.float32), np.zeros(len(ids), bool), 0.0)


def _in_actor(requests: Any) -> Any:
    """The shared requests, in an actor that computes on one core."""
    import torch

    torch.set_num_threads(1)
    return ray.get(requests)


def _column(matrix: NDArray[Any]) -> pa.Array:
    """(C, K) as a column of lists."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def _matrix(column: pa.ChunkedArray, k: int) -> NDArray[Any]:
    """(C, K) from a column of lists."""
    return np.asarray(column.combine_chunks().flatten()).reshape(-1, k)
