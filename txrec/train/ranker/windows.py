"""Windows of the ranker's examples: the log cut before each, requests held out, products without ids, cold items."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.training_log import EventLog
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD, Split

HIDDEN_FRAC = 0.1
"""Share of the products that are made new to a ranker's examples, drawn anew for every window."""
HELD_OUT_FRAC = 0.4
"""Share of the validation requests, the latest ones, that choose the epoch, calibrate and decide."""
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


def without_few(
    requests: EvalRequests, earlier: Sequence[tuple[PreparedData, EvalRequests]], least: int
) -> tuple[EvalRequests, list[tuple[PreparedData, EvalRequests]]]:
    """Requests without their searches, or without the others, where these are too few to learn from.

    A ranker that saw a handful of searches would order all searches by what it learned from the other requests.

    Args:
        requests: of the validation part.
        earlier: windows before it with their requests.
        least: requests of a kind that are enough.
    """
    every = [requests, *(one for _, one in earlier)]
    searches = sum(int((one.query_idx != PAD).sum()) for one in every)
    others = sum(len(one) for one in every) - searches
    if min(searches, others) == 0 or min(searches, others) >= least or max(searches, others) < least:
        return requests, list(earlier)
    kept = [one.select(np.flatnonzero((one.query_idx != PAD) == (searches > others))) for one in every]
    windows = [(window, one) for (window, _), one in zip(earlier, kept[1:], strict=True) if len(one)]
    return kept[0], windows


def trained_before(data: PreparedData, split: Split, log: EventLog) -> NDArray[np.bool_]:
    """(E,) events of a log before a split that the history model of such a split would have been trained on.

    The log of a bundle ends where the test part begins, the training of its model where the validation part does. So
    examples at an earlier cut stand for a model that was trained on the log up to one validation length before it.
    Where that leaves less than two such lengths, or there are no times and no last events, everything counts.

    Args:
        data: the data set, cut where the examples need it.
        split: validation or test: the log ends where it begins.
        log: the events before it.
    """
    everything = np.ones(len(log), np.bool_)
    if data.meta.split_kind == "leave_one_out":
        goes_on = log.user_idx[1:] == log.user_idx[:-1]
        return np.append(goes_on, np.zeros(min(len(log), 1), np.bool_))
    start, end = data.meta.validation_start_ts, data.meta.test_start_ts
    length = end - start
    at = (start if split == Split.VALIDATION else end) - length
    times = log.ts[log.ts > 0]
    if not data.meta.has_time or length <= 0 or not len(times) or at - 2 * length < int(times.min()):
        return everything
    return log.ts < at


def without_id(data: PreparedData, log: EventLog, trained: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N + 1,) products that a history model knows by their text, category, brand and price alone.

    Args:
        data: the catalogue.
        log: E events.
        trained: (E,) those that the model was trained on.
    """
    marks: NDArray[np.bool_] = np.bincount(log.item_idx[trained], minlength=data.meta.num_items + 1) == 0
    marks[data.meta.num_trained_items + 1 :] = True
    marks[PAD] = False
    return marks


def known_vectors(
    model: RetrievalModel,
    data: PreparedData,
    untrained: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    item_text: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Item vectors as they would have been of a model that never saw some products: made from what these are.

    Args:
        model: its training saw more.
        data: the catalogue.
        untrained: (N + 1,) the products.
        vectors: (N + 1, D) of the model.
        item_text: (N + 1, Dt) text vectors; None without text.
    """
    later = np.flatnonzero(untrained[1 : data.meta.num_trained_items + 1]) + 1
    if not len(later) or len(later) == data.meta.num_trained_items:
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


def latest_requests(requests: EvalRequests, seed: int) -> NDArray[np.bool_]:
    """(n,) marks of the latest requests; of those at the first instant or without time, of a random share of users."""
    users, place = np.unique(requests.user, return_inverse=True)
    drawn = (np.random.default_rng(seed).random(len(users)) < HELD_OUT_FRAC)[place]
    first = requests.now_us == requests.now_us.min(initial=np.iinfo(np.int64).max)
    cut = np.quantile(requests.now_us[~first], 1 - HELD_OUT_FRAC) if not first.all() else 0
    marked: NDArray[np.bool_] = np.where(first, drawn, requests.now_us > cut)
    return marked
