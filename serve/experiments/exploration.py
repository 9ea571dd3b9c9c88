"""Exploration in served slates: a share of them is drawn within the shop's bounds, and every slate keeps its record."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np

from txrec.config import ExplorationConfig
from txrec.loop import settings
from txrec.loop.exploration.exploration_log import Record, explore
from txrec.recommender.types import Slate


class Explorer:
    """Orders slates of one process; counts how often it has shown each product.

    Args:
        config: bounds.
        seed: of the draws; None = another one each time.
    """

    def __init__(self, config: ExplorationConfig, seed: int | None = None) -> None:
        self._config = config
        self._bounds = cache(settings.bounds)
        self._rng = np.random.default_rng(seed)
        self._views: Counter[str] = Counter()

    def depth(self, config: ExplorationConfig | None = None) -> int:
        """Products that a slate needs for exploration; 0 without it.

        Args:
            config: bounds of its placement; None = those of all slates.
        """
        bounds = config or self._config
        return bounds.first_place + bounds.pool if bounds.share > 0 else 0

    def apply(
        self, slate: Slate, config: ExplorationConfig | None = None, top_k: int | None = None
    ) -> tuple[Slate, Record | None]:
        """The slate in the order to show, and the record to log; None where exploration could not have changed it.

        Args:
            slate: in the order of its scores.
            config: bounds of its placement; None = those of all slates.
            top_k: products to show; None = all.
        """
        bounds = self._bounds(config or self._config)
        if bounds.share <= 0 or slate.rules:  # items placed by rules stay in place
            return replace(slate, items=slate.items[:top_k]), None
        ids = [item.item_id for item in slate.items]
        views = [float(self._views[item_id]) for item_id in ids]
        order, record = explore(_probabilities(slate), views, bounds, self._rng, top_k)
        items = tuple(slate.items[place] for place in order)
        shown, hidden = items[:top_k], items[len(items) if top_k is None else top_k :]
        self._views.update(item.item_id for item in shown)
        if record is not None:
            ids_, scores = tuple(item.item_id for item in hidden), tuple(item.score for item in hidden)
            record = replace(record, hidden=ids_, hidden_scores=scores)
        return replace(slate, items=shown), record


def _probabilities(slate: Slate) -> list[float]:
    """Scores between 0 and 1; of an expected worth, those whose odds are the worth relative to the best one's."""
    scores = [item.score for item in slate.items]
    best = max(scores, default=0.0)
    if best <= 0 or not any(item.estimates for item in slate.items):
        return scores
    return [score / (score + best) for score in scores]
