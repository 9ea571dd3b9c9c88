"""The dense source answers batches by cells where vectors have clusters, and by a scan where they have none."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from txrec.index.source import Mask
from txrec.index.sources.dense import Dense
from txrec.index.sources.quantized_scan import QuantizedScan


@cache
def vectors(spread: float, dim: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, dim))
    found = centres[rng.integers(0, 100, 20_001)] + spread * rng.normal(size=(20_001, dim))
    found[0] = 0
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@cache
def fitted(spread: float, exact_limit: int = 10) -> Dense:
    """The source over `vectors`, divided into cells once per test run; do not write into it."""
    return Dense.fit(vectors(spread), exact_limit)


def right(items: np.ndarray, states: np.ndarray, k: int, mask: np.ndarray | None = None) -> np.ndarray:
    """(B, k) the nearest allowed ids by the exact products."""
    scores = states @ items.T
    scores[:, 0] = -np.inf
    if mask is not None:
        scores[:, ~mask] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were scanned."""
    sizes: list[int] = []
    scan = QuantizedScan.search

    def counted(self: QuantizedScan, states: np.ndarray, k: int, allowed: Sequence[Mask]) -> list[Any]:
        sizes.append(len(states))
        return scan(self, states, k, allowed)

    monkeypatch.setattr(QuantizedScan, "search", counted)
    return sizes


def test_without_clusters_everything_is_scanned_and_exact(scans: list[int]) -> None:
    items = vectors(spread=10.0)
    source = fitted(10.0)
    states = items[5:13] + np.float32(0.7) * items[105:113]
    for batch in (states, states[:1]):
        assert (source.nearest(batch, 100, [None] * len(batch)).item_idx == right(items, batch, 100)).all()
    assert scans == [8, 1]


def test_with_clusters_the_cells_are_asked(scans: list[int]) -> None:
    items = vectors(spread=0.1)
    found = fitted(0.1).nearest(items[5:13], 1, [None] * 8)
    assert scans == []
    assert found.item_idx[:, 0].tolist() == [*range(5, 13)]


def test_a_batch_under_one_mask_is_answered_together_and_as_one_by_one(scans: list[int]) -> None:
    items = vectors(spread=0.1)
    source = fitted(0.1)
    for left_out in (0.02, 0.9):
        mask = np.random.default_rng(1).random(len(items)) >= left_out
        found = source.nearest(items[5:13], 50, [mask] * 8)
        alone = [source.nearest(items[[row]], 50, [mask]).item_idx[0] for row in range(5, 13)]
        assert (found.item_idx == np.stack(alone)).all()
        assert mask[found.item_idx].all()
        exact = right(items, items[5:13], 50, mask)
        assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.item_idx, exact, strict=True)]) > 49
    assert scans == []


@pytest.mark.parametrize("exact_limit", [10, 50_000], ids=["cells", "no cells"])
@pytest.mark.parametrize("spread", [0.1, 10.0], ids=["clusters", "none"])
def test_every_request_of_a_batch_keeps_its_own_mask(spread: float, exact_limit: int) -> None:
    items = vectors(spread)
    source = fitted(spread, exact_limit)
    rng = np.random.default_rng(2)
    most, few = rng.random(len(items)) > 0.02, rng.random(len(items)) > 0.995
    masks: list[Mask] = [None, most, few, None, most]
    found = source.nearest(items[5:10], 50, masks)
    for row, mask in enumerate(masks):
        exact = right(items, items[[5 + row]], 50, mask)[0]
        assert len(np.intersect1d(found.item_idx[row], exact)) >= 49


def test_without_clusters_a_mask_that_leaves_most_is_scanned(scans: list[int]) -> None:
    items = vectors(spread=10.0)
    source = fitted(10.0)
    mask = np.arange(len(items)) % 50 > 0
    found = source.nearest(items[5:13], 100, [mask] * 8)
    assert scans == [8]
    assert (found.item_idx == right(items, items[5:13], 100, mask)).all()
    source.nearest(items[5:13], 100, [np.arange(len(items)) % 5 == 1] * 8)
    assert scans == [8]


def test_a_scan_fills_up_with_what_there_is() -> None:
    items = vectors(spread=10.0)[:60]
    source = Dense.fit(items)
    assert sorted(source.nearest(items[[5]], 100, [None]).item_idx[0].tolist()) == [0] * 41 + [*range(1, 60)]
    mask = np.arange(60) % 10 == 3
    assert sorted(source.nearest(items[[5]], 20, [mask]).item_idx[0].tolist()) == [0] * 14 + [3, 13, 23, 33, 43, 53]
    assert source.nearest(items[:0], 20, []).item_idx.shape == (0, 20)


@pytest.mark.parametrize("dim", [8, 64, 130])
def test_a_scan_finds_what_is_nearest_among_vectors_that_hardly_differ(dim: int) -> None:
    items = vectors(spread=0.01, dim=dim)
    states = items[5:37]
    found = Dense.fit(items).nearest(states, 100, [None] * 32)
    exact = states @ items.T
    worst = np.sort(exact[:, 1:], axis=1)[:, -100]
    assert (found.scores[:, -1] >= worst - 1e-5).mean() > 0.99


@pytest.mark.parametrize("dim", [2, 16, 64, 256])
@pytest.mark.parametrize("spread", [0.1, 10.0], ids=["clusters", "none"])
def test_integer_products_differ_from_exact_ones_by_the_margin_at_most(dim: int, spread: float) -> None:
    items = vectors(spread, dim)[:4_000]
    states = items[5:69]
    coarse, margin = QuantizedScan(items).coarse(states)
    unit = float(np.abs(states).max() / 127 * np.abs(items).max() / 63)
    error = np.abs(coarse - states @ items.T / unit)
    assert (error > margin).mean() < 1e-4
    assert (error > margin / 8).mean() > 0.1, "the margin is far wider than the error"


PLAIN = """
import numpy as np
from tests.txrec.index.sources.test_dense import right, vectors
from txrec.index.sources.dense import Dense

items = vectors(spread=10.0)
items[5:9] = np.eye(4, 32, 2) / 10
items[5:9, :2] = 0.7  # two great numbers side by side, in the states too
found = Dense.fit(items).nearest(items[5:13], 100, [None] * 8)
assert (found.item_idx == right(items, items[5:13], 100)).all()
"""


@pytest.mark.slow
def test_a_scan_is_right_on_processors_whose_sums_of_bytes_saturate() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PLAIN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
