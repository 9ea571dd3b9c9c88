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
