"""Earlier training windows of the ranker: the log cut before each, and simulated cold items."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.log import EventLog
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD, Split

HIDDEN_FRAC = 0.1
"""Share of the products that are made new to a ranker's examples, drawn anew for every window."""
NUM_WINDOWS = 4
"""Windows before the validation part that give examples, each as long as the validation part."""


def earlier_windows(data: PreparedData, count: int) -> list[PreparedData]:
    """The data set as it stood before each of the windows that precede the validation part, latest first.

    In each of them the split says validation for the window, training before it and test after it. Windows that would
    leave less than two window lengths of log before them are not made.
    """
    start, end = data.meta.validation_start_ts, data.meta.test_start_ts
    if data.meta.split_kind != "global_time" or not data.meta.has_time or end <= start:
        return []
    times = data.sequences.ts
    first, length = int(times[times > 0].min(initial=end)), end - start
    starts = [start - (number + 1) * length for number in range(count)]
    return [_recut(data, at, at + length) for at in starts if at - 2 * length >= first]


def _recut(data: PreparedData, start_us: int, end_us: int) -> PreparedData:
    sequences = data.sequences
    split = np.where(
        sequences.ts < start_us, Split.TRAIN, np.where(sequences.ts < end_us, Split.VALIDATION, Split.TEST)
    )
    meta = data.meta.model_copy(update={"validation_start_ts": start_us, "test_start_ts": end_us})
    cut = replace(sequences, split=split.astype(np.int8))
    return data.altered(
        meta, items=data.items, queries=data.queries, sequences=cut, profiles=data.profiles, contexts=data.contexts
    )


def earlier_cases(config: Config, data: PreparedData, limit: int) -> list[tuple[PreparedData, EvalRequests]]:
    """Windows before the validation part with their requests, latest first, at most `limit` in all."""
    windows: list[tuple[PreparedData, EvalRequests]] = []
    for window in earlier_windows(data, NUM_WINDOWS):
        left = limit - sum(len(requests) for _, requests in windows)
        requests = eval_requests(window, Split.VALIDATION, config.evaluate)
        if left <= 0 or not len(requests):
            break
        windows.append((window, requests.sample(left, config.seed).with_profiles(data)))
    return windows


def known_vectors(
    model: RetrievalModel,
    data: PreparedData,
    log: EventLog,
    vectors: NDArray[np.float32],
    item_text: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Item vectors as they would have been when a log ended: products new to it have no id, only what they are.

    Args:
        model: its training saw more than the log.
        data: the catalogue.
        log: what may be known.
        vectors: (N + 1, D) of the model.
        item_text: (N + 1, Dt) text vectors; None without text.
    """
    count = np.bincount(log.item_idx, minlength=data.meta.num_items + 1)
    later = np.flatnonzero(count[1 : data.meta.num_trained_items + 1] == 0) + 1
    if not len(log) or not len(later):
        return vectors
    vectors_before = vectors.copy()
    text = None if item_text is None else item_text[later]
    vectors_before[later] = model.encode_items(data.items.take(pa.array(later - 1)), text).numpy()
    return vectors_before


def searches_for_new(data: PreparedData, requests: EvalRequests) -> int:
    """Right answers of searches that had no event before the validation part."""
    new = np.bincount(EventLog.before(data, Split.VALIDATION).item_idx, minlength=data.meta.num_items + 1) == 0
    return int((new[requests.truth.items] & (requests.query_idx != PAD)[requests.truth.case]).sum())


def simulated_cold_items(data: PreparedData, seed: int) -> NDArray[np.bool_]:
    """(N + 1,) the products made new to the examples of a window, `HIDDEN_FRAC` of all."""
    rng = np.random.default_rng([seed, data.meta.validation_start_ts])
    hidden: NDArray[np.bool_] = rng.random(data.meta.num_items + 1) < HIDDEN_FRAC
    hidden[PAD] = False
    return hidden
