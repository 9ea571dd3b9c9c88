"""Lists that a peer wrote are read back in the order of the cases; what it left out is popular items."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from txrec.config import EvaluateConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.schema import Split

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_lists_follow_the_cases_and_are_filled_with_popular_items(
    tiny: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    script = runpy.run_path(str(BENCH / "peer_quality.py"))
    asked = eval_requests(tiny, Split.TEST, EvaluateConfig()).select(np.arange(3))
    popular = np.tile(np.arange(20, 30, dtype=np.int32), (3, 1))
    rows = [("before test", asked.user[2], 7, 1), ("before test", asked.user[2], 20, 2)]
    rows += [("before test", asked.user[0], item, item) for item in range(1, 11)]
    rows += [("before validation", asked.user[1], 5, 1), ("before test", -7, 1, 1)]
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "lists.csv").write_text(f"trained,user_id,item_id,rank\n{text}\n", encoding="utf-8")
    found = script["peer_lists"](asked, tmp_path / "lists.csv", popular)
    late, early = found["RecTools, before test"], found["RecTools, before validation"]
    assert late.tolist() == [list(range(1, 11)), list(range(20, 30)), [7, *range(20, 29)]]
    assert early.tolist() == [list(range(20, 30)), [5, *range(20, 29)], list(range(20, 30))]
