"""The future leaks into nothing: not into training rows, not into baselines, not into what is asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from txrec.config import EvaluateConfig, ModelConfig, TrainConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals import baselines, metrics
from txrec.evals.protocol import cases
from txrec.features import collate
from txrec.index.log import EventLog
from txrec.schema import Split
from txrec.train.examples import Examples


class _Altered:
    """A data set with other events."""

    def __init__(self, data: PreparedData, sequences: Sequences) -> None:
        self.sequences, self.meta, self.items, self.queries, self.path = (
            sequences,
            data.meta,
            data.items,
            data.queries,
            data.path,
        )


def with_other_future(data: PreparedData, split: Split, seed: int = 5) -> PreparedData:
    """The same data set, but what users did from `split` on is shuffled among all of them."""
    events = data.sequences
    late = np.flatnonzero(events.split >= split)
    order = np.random.default_rng(seed).permutation(late)
    changed = {}
    for name in ("item", "query", "event", "value"):
        values = getattr(events, name).copy()
        values[late] = values[order]
        changed[name] = values
    return _Altered(data, replace(events, **changed))  # type: ignore[return-value]


def training_rows(data: PreparedData) -> list[NDArray[np.int64]]:
    """Everything that an epoch of training sees."""
    examples = Examples.of(data.sequences, None, ModelConfig(max_length=32), TrainConfig(batch_size=16))
    tensors = [
        getattr(batch, name) for batch in examples.epoch(0, 0) for name in ("item", "query", "event", "ts", "target")
    ]
    return [tensor.numpy() for tensor in tensors]


def test_shuffling_the_future_changes_no_training_row(tiny: PreparedData) -> None:
    ours, theirs = training_rows(tiny), training_rows(with_other_future(tiny, Split.VALIDATION))
    assert len(ours) == len(theirs)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_shuffling_the_future_is_noticed_where_it_is_asked_for(tiny: PreparedData) -> None:
    settings = EvaluateConfig()
    ours = cases(tiny, Split.TEST, settings)
    theirs = cases(with_other_future(tiny, Split.TEST), Split.TEST, settings)
    assert not np.array_equal(ours.truth.items, theirs.truth.items)


def test_shuffling_the_test_window_changes_no_baseline(tiny: PreparedData) -> None:
    ours, theirs = (EventLog.before(data, Split.TEST) for data in (tiny, with_other_future(tiny, Split.TEST)))
    for name in ("user", "item", "query", "kind", "ts"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_shuffling_what_comes_after_a_request_changes_no_model_input(tiny: PreparedData) -> None:
    settings, model = EvaluateConfig(), ModelConfig(max_length=32)
    asked = cases(tiny, Split.TEST, settings)
    browsing = asked.select(np.flatnonzero(asked.query == 0))
    changed = replace(browsing, events=_events(with_other_future(tiny, Split.TEST)))
    ours, theirs = (collate(part.histories(), None, model, part.query, part.now_us) for part in (browsing, changed))
    assert torch.equal(ours.item, theirs.item)
    assert torch.equal(ours.ts, theirs.ts)


def test_a_planted_feature_of_the_future_is_caught(tiny: PreparedData) -> None:
    """A history that reaches one event too far holds the answer: the guard that every case passes must fail then."""
    honest = cases(tiny, Split.TEST, EvaluateConfig())
    assert not any(reaches_into_truth(honest.histories(), honest.now_us))
    planted = replace(honest, end=honest.end + 1)
    assert all(reaches_into_truth(planted.histories(), honest.now_us))


def test_a_baseline_fitted_on_the_future_is_caught_by_its_impossible_figure(tiny: PreparedData) -> None:
    """Counting the test window too makes popularity better than popularity can be: this is how a leak looks."""
    asked = cases(tiny, Split.TEST, EvaluateConfig())
    honest, leaking = (
        baselines.Popularity.fit(log, tiny.meta.num_items, baselines.RECENT_DAYS / 30)
        for log in (EventLog.before(tiny, Split.TEST), EventLog.select(tiny, tiny.sequences.split >= Split.TRAIN))
    )
    figures = []
    for popularity in (honest, leaking):
        top = popularity._order[None, :10].repeat(len(asked), axis=0)
        figures.append(metrics.means(metrics.per_case(top, asked.truth, (10,)))["ndcg@10"])
    assert figures[1] > figures[0]


def test_windows_of_time_do_not_overlap(tiny: PreparedData) -> None:
    events, meta = tiny.sequences, tiny.meta
    assert events.ts[events.split == Split.TRAIN].max() < meta.validation_start_ts
    assert events.ts[events.split == Split.VALIDATION].min() >= meta.validation_start_ts
    assert events.ts[events.split == Split.VALIDATION].max() < meta.test_start_ts
    assert events.ts[events.split == Split.TEST].min() >= meta.test_start_ts


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_no_request_is_made_after_its_own_answer(tiny: PreparedData, split: Split) -> None:
    asked = cases(tiny, split, EvaluateConfig())
    events = tiny.sequences
    for case in range(len(asked)):
        own = slice(int(asked.end[case]), int(events.offsets[asked.user[case] + 1]))
        answered = events.ts[own][np.isin(events.item[own], asked.truth.of(case))]
        assert len(answered)
        assert answered.min() >= asked.now_us[case]


def reaches_into_truth(histories: list, now_us: NDArray[np.int64]) -> list[bool]:
    """Whether each history holds an event that is not older than its request."""
    return [bool((history.ts >= now).any()) for history, now in zip(histories, now_us, strict=True)]


def _events(data: PreparedData) -> object:
    from txrec.features import History

    events = data.sequences
    return History(events.item, events.query, events.event, events.ts)
