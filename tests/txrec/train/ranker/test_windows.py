"""The log as it stood before earlier windows: nothing of them is known, and what is hidden is drawn anew."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from txrec.config import EvaluateConfig, ModelConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.index.log import EventLog
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD, Split
from txrec.train.ranker.windows import (
    HIDDEN_FRAC,
    earlier_windows,
    known_vectors,
    searches_for_new,
    simulated_cold_items,
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


def test_a_product_new_to_a_window_has_no_id_in_it(tiny: PreparedData) -> None:
    torch.manual_seed(0)
    model = RetrievalModel.for_data(ModelConfig(dim=16, num_layers=1, num_heads=2), tiny, None).eval()
    vectors = model.item_vectors().detach().numpy()
    log = EventLog.before(tiny, Split.VALIDATION)
    assert known_vectors(model, tiny, log, vectors, None) is vectors
    log = replace(log, item_idx=np.where(log.item_idx == 7, 8, log.item_idx))
    known = known_vectors(model, tiny, log, vectors, None)
    assert np.array_equal(np.delete(known, 7, axis=0), np.delete(vectors, 7, axis=0))
    assert np.allclose(known[7], model.encode_items(tiny.items.slice(6, 1), None).numpy()[0])
    assert not np.allclose(known[7], vectors[7])


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
