"""Which way a batch is answered: by cells where vectors have clusters, by a scan where they have none."""

import numpy as np
import pytest

from txrec.index import dense
from txrec.index.dense import Dense


def vectors(spread: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 32))
    found = centres[rng.integers(0, 100, 20_001)] + spread * rng.normal(size=(20_001, 32))
    found[0] = 0
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were scanned."""
    sizes: list[int] = []
    products = dense._products

    def counted(states: np.ndarray, items: np.ndarray) -> np.ndarray:
        sizes.append(len(states))
        return products(states, items)

    monkeypatch.setattr(dense, "_products", counted)
    return sizes


def test_without_clusters_a_batch_is_scanned_and_exact(scans: list[int]) -> None:
    items = vectors(spread=10.0)
    source, scan = Dense.fit(items, exact_limit=10), Dense.fit(items)
    found, right = (one.nearest(items[5:13], 100, [None] * 8) for one in (source, scan))
    assert scans == [8, 8]
    assert (found.ids == right.ids).all()
    source.nearest(items[[5]], 100, [None])
    assert scans == [8, 8]


def test_with_clusters_a_batch_goes_to_the_cells(scans: list[int]) -> None:
    items = vectors(spread=0.1)
    found = Dense.fit(items, exact_limit=10).nearest(items[5:13], 1, [None] * 8)
    assert scans == []
    assert found.ids[:, 0].tolist() == [*range(5, 13)]


def test_a_batch_under_one_mask_is_answered_together_and_as_one_by_one(scans: list[int]) -> None:
    items = vectors(spread=0.1)
    source, scan = Dense.fit(items, exact_limit=10), Dense.fit(items)
    for left_out in (0.02, 0.9):
        mask = np.random.default_rng(1).random(len(items)) >= left_out
        found = source.nearest(items[5:13], 50, [mask] * 8)
        alone = [source.nearest(items[[row]], 50, [mask]).ids[0] for row in range(5, 13)]
        assert (found.ids == np.stack(alone)).all()
        assert mask[found.ids].all()
        right = scan.nearest(items[5:13], 50, [mask] * 8).ids
        assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.ids, right, strict=True)]) > 49
    assert scans == [8, 8]  # of the exact one


def test_without_clusters_a_batch_under_a_mask_that_leaves_most_is_scanned(scans: list[int]) -> None:
    items = vectors(spread=10.0)
    source = Dense.fit(items, exact_limit=10)
    mask = np.arange(len(items)) % 50 > 0
    found = source.nearest(items[5:13], 100, [mask] * 8)
    assert scans == [8]
    assert mask[found.ids].all()
    source.nearest(items[5:13], 100, [np.arange(len(items)) % 5 == 1] * 8)
    assert scans == [8]
