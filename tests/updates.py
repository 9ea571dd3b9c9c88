"""Catalogue updates as candidate sources receive them, for tests of single sources."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec import schema
from txrec.index.source import CatalogueUpdate


def update(
    item_idx: Sequence[int] | NDArray[np.int32],
    vectors: NDArray[np.float32] | None = None,
    item_text: NDArray[np.float32] | None = None,
    items: pa.Table | None = None,
) -> CatalogueUpdate:
    """An update in which texts and vectors of all products changed."""
    ids = np.asarray(item_idx, np.int32)
    every = np.ones(len(ids), np.bool_)
    return CatalogueUpdate(
        num_items=int(ids.max()) if vectors is None else len(vectors) - 1,
        item_idx=ids,
        items=schema.PREPARED_ITEMS.empty_table() if items is None else items,
        text_changed=every,
        vector_changed=every,
        vectors=np.zeros((int(ids.max()) + 1, 1), np.float32) if vectors is None else vectors,
        item_text=item_text,
    )
