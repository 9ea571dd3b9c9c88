"""The log as it stood before earlier windows: nothing of them is known, and what is hidden is drawn anew."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from txrec.config import EvaluateConfig, ModelConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.index.training_log import EventLog
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD, Split
from txrec.train.ranker.windows import (
    HIDDEN_FRAC,
    earlier_windows,
    known_vectors,
    searches_for_new,
    simulated_cold_items,
    trained_before,
    without_few,
    without_id,
)


def test_earlier_windows_end_where_the_next_begins_and_see_nothing_of_it(tiny: PreparedData) -> None:
    windows = earlier_windows(tiny, 3)
    assert [w.meta.test_start_ts for w in windows] == [
        tiny.meta.validation_start_ts,
        *(w.meta.validation_start_ts for w in windows[:-1]),
    ]
    for window in windows:
        assert EventLog.before(window, Split.VALIDATION).end_us < window.meta.validation_start_ts
        inside = window.sequences.ts[window.sequences.split == Split.VALIDATION]
        assert ((inside >= window.meta.validation_start_ts) & (inside < window.meta.test_start_ts)).all()
    assert (tiny.sequences.split == Split.TRAIN).sum() > (windows[-1].sequences.split == Split.TRAIN).sum()


def untrained(data: PreparedData, split: Split, log: EventLog) -> NDArray[np.bool_]:
    return without_id(data, log, trained_before(data, split, log))


def test_a_product_without_an_id_has_the_vector_of_its_texts(tiny: PreparedData) -> None:
    torch.manual_seed(0)
    model = RetrievalModel.for_data(ModelConfig(dim=16, num_layers=1, num_heads=2), tiny, None).eval()
    vectors = model.item_vectors().detach().numpy()
    marks = np.zeros(tiny.meta.num_items + 1, np.bool_)
    assert known_vectors(model, tiny, marks, vectors, None) is vectors
    marks[7] = True
    known = known_vectors(model, tiny, marks, vectors, None)
    assert np.array_equal(np.delete(known, 7, axis=0), np.delete(vectors, 7, axis=0))
    assert np.allclose(known[7], model.encode_items(tiny.items.slice(6, 1), None).numpy()[0])
    assert not np.allclose(known[7], vectors[7])


def test_a_product_new_to_a_window_has_no_id_in_it(tiny: PreparedData) -> None:
    log = EventLog.before(tiny, Split.VALIDATION)
    assert not untrained(tiny, Split.VALIDATION, log)[1 : tiny.meta.num_trained_items + 1].any()
    log = replace(log, item_idx=np.where(log.item_idx == 7, 8, log.item_idx))
    assert np.flatnonzero(untrained(tiny, Split.VALIDATION, log))[0] == 7


def test_products_that_came_out_within_a_validation_length_before_a_window_have_no_id(tiny: PreparedData) -> None:
    """As in a bundle, whose counts know the validation part and whose history model does not."""
    start, length = tiny.meta.validation_start_ts, tiny.meta.test_start_ts - tiny.meta.validation_start_ts
    log = EventLog.before(tiny, Split.VALIDATION)
    late = log.ts >= start - length
    assert 0 < late.sum() < len(log)
    before = log.item_idx[~late]
    item = int(np.intersect1d(log.item_idx[late], before)[0])
    other = int(before[before != item][0])
    young = replace(log, item_idx=np.where(~late & (log.item_idx == item), other, log.item_idx))  # late events alone
    assert not untrained(tiny, Split.VALIDATION, log)[item]
    assert untrained(tiny, Split.VALIDATION, young)[item]
    whole = EventLog.before(tiny, Split.TEST)
    cold = np.arange(tiny.meta.num_items + 1) > tiny.meta.num_trained_items
    assert np.array_equal(untrained(tiny, Split.TEST, whole), cold), "a bundle's model was trained on all others"


def test_a_short_log_makes_no_product_young(tiny: PreparedData) -> None:
    log = EventLog.before(tiny, Split.VALIDATION)
    length = (tiny.meta.validation_start_ts - int(log.ts.min())) // 2
    meta = tiny.meta.model_copy(update={"test_start_ts": tiny.meta.validation_start_ts + length})
    assert trained_before(tiny.altered(meta), Split.VALIDATION, log).all()


def test_without_a_common_cut_the_last_event_of_every_user_was_not_trained_on(tiny: PreparedData) -> None:
    data = tiny.altered(tiny.meta.model_copy(update={"split_kind": "leave_one_out"}))
    log = EventLog.before(data, Split.VALIDATION)
    trained = trained_before(data, Split.VALIDATION, log)
    assert (~trained).sum() == len(np.unique(log.user_idx))
    last = np.flatnonzero(np.append(np.diff(log.user_idx) != 0, True))
    assert np.flatnonzero(~trained).tolist() == last.tolist()


def test_the_products_made_new_to_examples_are_others_in_every_window(tiny: PreparedData) -> None:
    windows = [tiny, *earlier_windows(tiny, 2)]
    drawn = [simulated_cold_items(window, 0) for window in windows]
    assert len({tuple(hidden) for hidden in drawn}) == len(windows)
    assert np.array_equal(drawn[0], simulated_cold_items(tiny, 0))
    assert not any(hidden[PAD] for hidden in drawn)
    many: Any = SimpleNamespace(meta=tiny.meta.model_copy(update={"num_items": 20_000}))
    assert simulated_cold_items(many, 0).mean() == pytest.approx(HIDDEN_FRAC, abs=0.01)


def test_searches_for_what_was_new_are_counted(tiny: PreparedData) -> None:
    asked = eval_requests(tiny, Split.VALIDATION, EvaluateConfig())
    assert searches_for_new(tiny, asked) == 0
    sequences = tiny.sequences
    trained = (sequences.split == Split.TRAIN) & (sequences.item_idx == 7)
    changed = tiny.altered(sequences=replace(sequences, item_idx=np.where(trained, 8, sequences.item_idx)))
    wanted = (asked.truth.items == 7) & (asked.query_idx[asked.truth.case] != PAD)
    assert searches_for_new(changed, asked) == wanted.sum() > 0


@pytest.mark.parametrize(("searches", "others", "kept"), [(3, 60, (0, 60)), (60, 3, (60, 0)), (50, 60, (50, 60)),
                                                          (3, 9, (3, 9)), (3, 0, (3, 0))])  # fmt: skip
def test_requests_of_a_kind_with_too_few_to_learn_from_are_left_out(
    tiny: PreparedData, searches: int, others: int, kept: tuple[int, int]
) -> None:
    found = eval_requests(tiny, Split.VALIDATION, EvaluateConfig())
    one = found.select(np.zeros(searches + others, np.int64))
    query_idx = np.arange(searches + others) < searches
    requests = replace(one, query_idx=np.where(query_idx, 1, PAD).astype(np.int32))
    half = np.arange(len(requests)) % 2 == 0
    own, earlier = without_few(
        requests.select(np.flatnonzero(half)), [(tiny, requests.select(np.flatnonzero(~half)))], 50
    )
    queries = np.concatenate([part.query_idx for part in (own, *(part for _, part in earlier))])
    assert ((queries != PAD).sum(), (queries == PAD).sum()) == kept
