"""Answers to the requests of an evaluation: by a recommender or by baselines, in this process or spread elsewhere."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.evals import baselines
from txrec.evals.protocol import EvalRequests
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Candidates, Event, Recommender, Request
from txrec.schema import PAD, EventKind, Split

BATCH = 128
"""Requests answered together."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of a recommender for C cases, in the data set's dense indices, PAD where a list ends."""

    retrieved: NDArray[np.int32]  # (C, K) retrieval order
    ranked: NDArray[np.int32]  # (C, K) final order
    scores: NDArray[np.float32]  # (C, K) of the final order: click probabilities where a ranker ran
    by_ranker: NDArray[np.bool_]  # (C,)
    seconds: float


def ask(
    recommender: Recommender, data: PreparedData, requests: EvalRequests, k: int, progress: Progress = silent
) -> Lists:
    """Answers every case.

    A bundle made from other data than `data` gets requests with the shop's ids and texts, as over HTTP, so that
    bundles of different ages can be compared on the same events.
    """
    same = recommender.bundle.manifest.data_fingerprint == data.meta.fingerprint
    requests = requests.with_profiles(data)
    names, own = query_texts(data), dense_indices(recommender, data)
    shape = (len(requests), k)
    lists = Lists(
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.full(shape, -np.inf, np.float32),
        np.zeros(len(requests), bool),
        0.0,
    )
    started = time.monotonic()
    for start in range(0, len(requests), BATCH):
        rows = range(start, min(start + BATCH, len(requests)))
        if same:
            candidates = by_dense_indices(recommender, requests, names, rows, k)
        else:
            candidates = recommender.retrieve([_request(requests, data, names, row, k) for row in rows])
        for row, one, order in zip(rows, candidates, recommender.rank_dense(candidates), strict=True):
            count = min(k, len(one))
            lists.retrieved[row, :count] = own[one.item_idx[:count]]
            lists.ranked[row, :count] = own[one.item_idx[order.order[:count]]]
            lists.scores[row, :count] = order.probabilities[:count]
            lists.by_ranker[row] = order.by_ranker
        progress("answering", rows[-1] + 1, len(requests))
    return Lists(lists.retrieved, lists.ranked, lists.scores, lists.by_ranker, time.monotonic() - started)


def query_texts(data: PreparedData) -> list[str]:
    """Normalised query by query_idx; the empty text at PAD."""
    return ["", *data.queries.column("query").to_pylist()]


def dense_indices(recommender: Recommender, data: PreparedData) -> NDArray[np.int32]:
    """(N + 1,) the data set's dense index of each of the bundle's; PAD, which is never right, where it has none."""
    ids = {key: row for row, key in enumerate(data.items.column("item_id").to_pylist(), start=1)}
    return np.array([ids.get(str(key), PAD) for key in recommender.catalogue.item_ids], np.int32)


def by_dense_indices(
    recommender: Recommender, requests: EvalRequests, names: Sequence[str], rows: range, k: int
) -> list[Candidates]:
    """Candidates of some requests, for a bundle made from the data set that the requests are of.

    Args:
        recommender: of the bundle.
        requests: of a split.
        names: query text by query_idx.
        rows: places of the requests.
        k: candidates that are needed.
    """
    return recommender.retrieve_dense(
        [requests.history(row) for row in rows],
        [names[requests.query_idx[row]] for row in rows],
        requests.now_us[rows.start : rows.stop],
        [np.unique(requests.items(row)).tolist() for row in rows] if requests.filter_seen else None,
        k,
        [requests.profile(row) for row in rows],
    )


def _request(requests: EvalRequests, data: PreparedData, names: Sequence[str], row: int, k: int) -> Request:
    keys = data.items.column("item_id")
    history = requests.history(row)
    columns = (history.item_idx.tolist(), history.query_idx.tolist(), history.event.tolist(), history.ts.tolist())
    events = tuple(
        Event(EventKind(kind).label, keys[item - 1].as_py() if item else None, names[query] or None, ts or None)
        for item, query, kind, ts in zip(*columns, strict=True)
    )
    return Request(
        events=events,
        query=names[requests.query_idx[row]] or None,
        top_k=k,
        exclude_seen=requests.filter_seen,
        properties=requests.profile(row),
        now_us=int(requests.now_us[row]) or None,
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """Lists of several systems for the same C cases."""

    lists: Mapping[str, Lists]
    """By the name of the recommender."""
    baselines: Mapping[str, NDArray[np.int32]]
    """(C, K) by the name of the baseline; empty where none was asked for."""


class Answering(Protocol):
    """A place where requests are answered: this process, or the machines of a cluster."""

    @property
    def progress(self) -> Progress:
        """Called after every batch."""

    def answers(
        self,
        recommenders: Mapping[str, Recommender],
        data: PreparedData,
        requests: EvalRequests,
        k: int,
        split: Split | None = None,
    ) -> Answers:
        """Answers of recommenders, as `ask` gives them, and of every baseline.

        Args:
            recommenders: by any name.
            data: the data set of the requests.
            requests: C cases.
            k: length of the lists.
            split: baselines are fitted on everything before it; None = no baselines.
        """


@dataclass(frozen=True)
class InProcess:
    """Answers in this process."""

    progress: Progress = silent

    def answers(
        self,
        recommenders: Mapping[str, Recommender],
        data: PreparedData,
        requests: EvalRequests,
        k: int,
        split: Split | None = None,
    ) -> Answers:
        """Implements `Answering`."""
        lists = {name: ask(one, data, requests, k, self.progress) for name, one in recommenders.items()}
        if split is None:
            return Answers(lists, {})
        self.progress("fitting the baselines", 0, None)
        fitted = baselines.fit(data, split)
        texts, num_items = query_texts(data)[1:], data.meta.num_items
        return Answers(lists, baselines.answer(fitted, requests, texts, num_items, k, self.progress))
