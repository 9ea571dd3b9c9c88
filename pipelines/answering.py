"""Answers to the requests of an evaluation by Ray Data actors on every machine of the cluster.

Requests are cut into parts. An actor opens the bundle (or fits a baseline) once and turns parts into one row per
request. The requests themselves are put into the object store once and read from there without copying.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from pipelines import actor_pool, cluster
from txrec import object_storage
from txrec.data.prepared import PreparedData
from txrec.evals import baselines
from txrec.evals.answering import InProcess, Lists, ask, query_texts
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

    A single part is answered in this process: it takes less time than starting an actor.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self.progress = progress
        self._connection = ExitStack()
        self._connected = False

    def __enter__(self) -> "OnRayData":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def lists(self, recommender: Recommender, data: PreparedData, requests: EvalRequests, k: int) -> Lists:
        """Implements `Answering`."""
        if len(requests) <= PART:
            return InProcess(self.progress).lists(recommender, data, requests, k)
        started = time.monotonic()
        self._connect()
        settings = (
            object_storage.place_of(recommender.bundle.path),
            object_storage.place_of(data.path),
            ray.put(requests),
            k,
        )
        shape = (len(requests), k)
        lists = Lists(
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(len(requests), bool),
            0.0,
        )
        for rows, table in self._answered("answering", ListsActor, settings, _parts(len(requests), PART)):
            lists.retrieved[rows] = _matrix(table["retrieved"], k)
            lists.ranked[rows] = _matrix(table["ranked"], k)
            lists.scores[rows] = _matrix(table["scores"], k)
            lists.by_ranker[rows] = np.asarray(table["by_ranker"])
        return replace(lists, seconds=time.monotonic() - started)

    def baselines(
        self, data: PreparedData, split: Split, requests: EvalRequests, k: int
    ) -> dict[str, NDArray[np.int32]]:
        """Implements `Answering`."""
        if len(requests) <= PART:
            return InProcess(self.progress).baselines(data, split, requests, k)
        self._connect()
        settings = (object_storage.place_of(data.path), int(split), ray.put(requests), k)
        lists = {name: np.zeros((len(requests), k), np.int32) for name in baselines.names(data)}
        parts = [{"name": name, **part} for name in lists for part in _parts(len(requests), BASELINE_PARTS * PART)]
        for rows, table in self._answered("baselines", BaselinesActor, settings, parts):
            by, ids = np.asarray(table["name"].to_pylist()), _matrix(table["ids"], k)
            for name in np.unique(by):
                lists[str(name)][rows[by == name]] = ids[by == name]
        return lists

    def _connect(self) -> None:
        if not self._connected:
            self._connection.enter_context(cluster.connect())
            self._connected = True

    def _answered(
        self, phase: str, actor: type, settings: tuple[Any, ...], parts: list[dict[str, Any]]
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """The answers of every part as they come: rows of the requests, and the actor's table."""
        total = sum(part["end"] - part["start"] for part in parts)
        answered = actor_pool.answers(actor, settings, parts, batch_format="pyarrow")
        done = 0
        self.progress(phase, 0, total)
        for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            rows = np.asarray(table["request"])
            yield rows, table
            done += len(rows)
            self.progress(phase, done, total)


def _parts(num_requests: int, size: int) -> list[dict[str, int]]:
    return [{"start": start, "end": min(start + size, num_requests)} for start in range(0, num_requests, size)]


class ListsActor:
    """A Ray Data actor that answers parts of the requests by a bundle."""

    def __init__(self, bundle: str, data: str, requests: Any, k: int) -> None:
        self._requests: EvalRequests = _in_actor(requests)
        self._k = k
        self._recommender = Recommender.open(bundle_cache.bring(object_storage.local_path(bundle)))
        self._data = PreparedData.open(object_storage.fetch(object_storage.local_path(data)))

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Answers the parts [start, end) of a table, one row per request."""
        rows = _rows(parts)
        lists = ask(self._recommender, self._data, self._requests.select(rows), self._k)
        return pa.table(
            {
                "request": rows,
                "retrieved": _lists(lists.retrieved),
                "ranked": _lists(lists.ranked),
                "scores": _lists(lists.scores),
                "by_ranker": lists.by_ranker,
            }
        )


class BaselinesActor:
    """A Ray Data actor that answers parts of the requests by one baseline each, fitted when it first needs it."""

    def __init__(self, data: str, split: int, requests: Any, k: int) -> None:
        self._requests: EvalRequests = _in_actor(requests)
        self._split, self._k = Split(split), k
        self._data = PreparedData.open(object_storage.fetch(object_storage.local_path(data)))
        self._texts = query_texts(self._data)[1:]
        self._fitted: dict[str, baselines.Answers] = {}

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Answers one part [start, end) by the baseline `name`, one row per request."""
        name, rows = parts["name"][0].as_py(), _rows(parts)
        if name not in self._fitted:
            self._fitted |= baselines.fit(self._data, self._split, only=[name])
        systems = {one: self._fitted[one] for one in {name, baselines.FILLER}}
        num_items = self._data.meta.num_items
        ids = baselines.answer(systems, self._requests.select(rows), self._texts, num_items, self._k)[name]
        return pa.table({"name": [name] * len(rows), "request": rows, "ids": _lists(ids)})


def _in_actor(requests: Any) -> Any:
    """The shared requests, in an actor that computes on one core."""
    import torch

    torch.set_num_threads(1)
    return ray.get(requests)


def _rows(parts: pa.Table) -> NDArray[np.int64]:
    bounds = zip(parts["start"].to_pylist(), parts["end"].to_pylist(), strict=True)
    return np.concatenate([np.arange(start, end) for start, end in bounds])


def _lists(matrix: NDArray[Any]) -> pa.Array:
    """(C, K) as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _matrix(column: pa.ChunkedArray, k: int) -> NDArray[Any]:
    """(C, K) from a column of lists."""
    return np.asarray(column.combine_chunks().flatten()).reshape(-1, k)
