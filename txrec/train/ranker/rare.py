"""Weights of rare and new products in the ranker's examples, so that it is not behind plain counts on them.

A ranker that minimises its loss over all clicks puts the head of a catalogue first: that is where most clicks are.
Co-visitation and recent popularity then find rare and new products better, which most shops would not accept. So
without a query, right products of a kind that falls behind on the requests that decide weigh more, as little as needed,
and no more than `ranker.max_rare_cost` of the whole allows. Searches are left alone: there the words decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.data.head import head_of
from txrec.model.ranker import HAS_QUERY
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.train.ranker.listwise import Examples, ndcg_at_10

STEP = 1.5
"""Factor on the weight of a kind of product that is behind."""
MAX_STEPS = 3
MIN_CASES = 30
"""Least requests without a query that chose a product of a kind; with fewer its weight stays 1."""
COUNTS = ("covisitation.rank", "popularity.rank", "popularity.fast")
"""Features that order candidates as the baselines do."""


class ItemKind(IntEnum):
    """Kinds of products by what the training of the history model knew of them."""

    HEAD = 0
    TAIL = 1
    NEW = 2


Weights = Mapping[ItemKind, float]
"""Weight of a right product per kind; a kind that is not named weighs 1."""


def item_kinds(features: RankingFeatures) -> NDArray[np.int64]:
    """(N + 1,) kind of each product at the end of the log that the features were fitted on."""
    events = features.activity.plain.astype(np.int64)
    if features.untrained is not None:
        events = np.where(features.untrained, 0, events)
    kinds = np.where(head_of(events), ItemKind.HEAD, ItemKind.TAIL)
    return np.where(events > 0, kinds, ItemKind.NEW)


def weighted(examples: Examples, weights: Weights) -> Examples:
    """The same examples with other weights of right products, in requests without a query."""
    if examples.kind is None or not weights:
        return examples
    factor = torch.tensor([weights.get(kind, 1.0) for kind in ItemKind])[examples.kind.long()]
    factor[examples.batch.request[:, HAS_QUERY] > 0] = 1.0
    return replace(examples, weight=factor if examples.weight is None else examples.weight * factor)


def kinds_behind(scores: torch.Tensor, examples: Examples, names: Sequence[str]) -> list[ItemKind]:
    """Kinds of products on which an order is behind one by counts, by NDCG@10 of requests without a query.

    Args:
        scores: (n, K) of the order.
        examples: the requests.
        names: of the columns of the features.
    """
    if examples.kind is None or examples.num_right_of_kind is None:
        return []
    features, mask = examples.batch.features, examples.batch.mask
    counts = [features[..., names.index(name)].masked_fill(~mask, -torch.inf) for name in COUNTS if name in names]
    home = examples.batch.request[:, HAS_QUERY] == 0
    behind = []
    for kind in (ItemKind.TAIL, ItemKind.NEW):
        num_right = examples.num_right_of_kind[:, kind]
        rows = torch.nonzero(home & (num_right > 0)).ravel()
        if len(rows) < MIN_CASES:
            continue
        right = (examples.positive & (examples.kind == kind))[rows]
        of_kind = replace(examples.select(rows), positive=right, num_right=num_right[rows])
        own, *others = (float(ndcg_at_10(order[rows], of_kind).mean()) for order in (scores, *counts))
        if others and own < max(others):
            behind.append(kind)
    return behind


def raised(weights: Weights, kinds: Sequence[ItemKind]) -> Weights:
    """Weights in which some kinds weigh one step more."""
    return {**weights, **{kind: weights.get(kind, 1.0) * STEP for kind in kinds}}


def described(weights: Weights) -> str:
    """`tail products weigh 1.50, new products weigh 2.25`; empty for no weights."""
    return ", ".join(f"{kind.name.lower()} products weigh {weight:.2f}" for kind, weight in sorted(weights.items()))
