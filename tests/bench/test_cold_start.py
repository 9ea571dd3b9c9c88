"""Which products count as new, and what their order among themselves is worth."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from txrec.config import EvaluateConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.schema import Split

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "cold_start.py"


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_new_are_those_whose_every_event_lies_in_the_test_part(bench: dict[str, Any], tiny: PreparedData) -> None:
    events = tiny.sequences
    moved = int(events.item_idx[np.flatnonzero((events.split == Split.TEST) & (events.item_idx > 0))[-1]])
    assert not bench["new_products"](tiny).any()
    later = replace(events, split=np.where(events.item_idx == moved, Split.TEST, events.split).astype(np.int8))
    found = bench["new_products"](SimpleNamespace(sequences=later, meta=tiny.meta))
    assert np.flatnonzero(found).tolist() == [moved]


def test_the_order_of_new_products_leaves_all_others_out(bench: dict[str, Any], tiny: PreparedData) -> None:
    asked, new = eval_requests(tiny, Split.TEST, EvaluateConfig()), np.zeros(tiny.meta.num_items + 1, np.bool_)
    new[1:21] = True
    asked, count = bench["of_new"](asked, new)
    assert count == asked.truth.counts.sum() > 0
    scores = np.zeros((len(asked), len(new)), np.float32)
    scores[:, 21:] = 9.0
    assert bench["order"](scores, asked, new)["auc"] == 0.5
    for row in range(len(asked)):
        scores[row, asked.truth.of(row)] = 1.0
    assert bench["order"](scores, asked, new) == {"auc": 1.0, "recall@10": 1.0}
