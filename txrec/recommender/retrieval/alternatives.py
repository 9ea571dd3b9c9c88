"""Alternatives of a product: which other products are of the same kind, so that one can be bought instead of it."""

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from txrec.index.rank_fusion import Fusion
from txrec.index.sources.co_purchases import MIN_STRICT, CoPurchases
from txrec.model.history_features import History
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.retrieval.request_history import HISTORY_TYPES
from txrec.schema import PAD, EventKind

FUSION = Fusion(without_query={"dense": 1.0, "covisitation": 1.0, "popularity": 0.0, "new_items": 0.0})
"""Weights of the sources of alternatives: how popular or new a product is does not make it more alike."""
MIN_TEXT_COSINE = 0.5
"""Least similarity of texts of one kind of product, where a product has no category."""
_SEPARATOR = "\x1f"


class Kind(NamedTuple):
    """The products of one kind."""

    members: NDArray[np.bool_]
    """(N + 1,)"""
    reason: str
    """Reason that they are of the same kind, in plain words."""

    def within(self, allowed: NDArray[np.bool_] | None, blocked: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """(N + 1,) members that are allowed and not blocked; None = no such condition."""
        mask = self.members if allowed is None else self.members & allowed
        return mask if blocked is None else mask & ~blocked[: len(mask)]


def kind_of(
    catalogue: Catalogue, item_text: NDArray[np.float32] | None, co_purchases: CoPurchases, item_idx: int
) -> Kind:
    """Products of the same kind as one: of its category or, without one, with a similar text.

    Products without a category that are bought together with it are complements, not of its kind. Where texts have no
    vectors, all other products are of one kind.

    Args:
        catalogue: the products.
        item_text: (N + 1, Dt) L2-normalised text vectors, None without a text encoder.
        co_purchases: products bought together.
        item_idx: the product.
    """
    path = catalogue.items.column("category")[item_idx - 1].as_py()
    if path:
        return Kind(_same_category(catalogue, item_idx, path), f"also in {path[-1]}")
    members, reason = np.ones(len(catalogue) + 1, dtype=np.bool_), "bought by the same users"
    if item_text is not None:
        members, reason = item_text @ item_text[item_idx] >= MIN_TEXT_COSINE, "similar description"
    bought_with, _ = co_purchases.together(item_idx, MIN_STRICT)
    members[bought_with.item_idx] = False
    members[PAD] = False
    return Kind(members, reason)


def view_of(item_idx: int) -> History:
    """A history of one view of the product, at no time."""
    values = (item_idx, PAD, EventKind.VIEW, 0)
    return History(*(np.array([value], kind) for value, kind in zip(values, HISTORY_TYPES, strict=True)))


def _same_category(catalogue: Catalogue, item_idx: int, path: list[str]) -> NDArray[np.bool_]:
    known = catalogue.categories[item_idx]
    if known != PAD:
        return np.asarray(catalogue.categories == known)
    paths = pc.binary_join(catalogue.items.column("category"), _SEPARATOR)
    same = pc.fill_null(pc.equal(paths, _SEPARATOR.join(path)), False)
    return np.append(False, np.asarray(same))
