"""The best possible answer on the generated shop: the ranking by true probability, and the metrics that it reaches.

No recommender can do better on average, so `model / oracle` is its share of what can be learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from txrec.arrays import ndcg
from txrec.simulator import Shop
from txrec.simulator.files import START, user_id
from txrec.simulator.log import DAY_S

BATCH = 512


@dataclass(frozen=True)
class Oracle:
    """Answers by the truth, in raw ids."""

    shop: Shop
    item_ids: tuple[str, ...]
    """Column order of `scores`."""
    user_index: dict[str, int]
    concept_of: dict[tuple[int, int], NDArray[np.int64]]
    """(user, second) of a search -> its concepts."""

    @classmethod
    def of(cls, shop: Shop) -> "Oracle":
        """Knows the truth of a generated shop; `Shop.generate(cfg)` makes it again from the settings."""
        actions = shop.actions
        rows = np.flatnonzero(actions.searched)
        keys = zip(actions.user[rows].tolist(), actions.second[rows].tolist(), strict=True)
        return cls(
            shop=shop,
            item_ids=tuple(product.item_id for product in shop.catalogue.products),
            user_index={user_id(user): user for user in range(shop.cfg.num_users)},
            concept_of=dict(zip(keys, actions.concept[rows], strict=True)),
        )

    def searches(self, users: Sequence[str], times_us: Sequence[int]) -> NDArray[np.float32]:
        """True click probabilities for searches of the log.

        Args:
            users: B user ids.
            times_us: the B searches' times, microseconds UTC.

        Returns:
            (B, N) float32 in the order of `item_ids`.

        Raises:
            KeyError: the log has no search of that user at that time.
        """
        indexes = [self.user_index[user] for user in users]
        seconds = [_second(time) for time in times_us]
        concepts = np.stack([self.concept_of[key] for key in zip(indexes, seconds, strict=True)])
        return self.shop.preference.clicks(np.array(indexes), concepts, np.array(seconds) / DAY_S)

    def has_search(self, user: str, time_us: int) -> bool:
        """True where the log has a search of that user at that time, microseconds UTC."""
        return (self.user_index.get(user, -1), _second(time_us)) in self.concept_of

    def window(self, users: Sequence[str], start_us: int) -> NDArray[np.float32]:
        """Expected share of every item among each user's events after a time, (B, N); it ranks set-valued truths."""
        indexes = np.array([self.user_index[user] for user in users])
        second = _second(start_us)
        return self.shop.preference.window(indexes, self._last(indexes, second), second / DAY_S)

    def ndcg(self, test_days: float = 7.0, k: int = 10) -> dict[str, float]:
        """NDCG@k of the true ranking on the last days of the log.

        Returns:
            `search`: clicks of each search; `browse`: each user's distinct items without a query; `popularity`:
            the ranking by event count before the window, on both kinds of cases; `all`: the oracle on both.
        """
        cases = _cases(self.shop, test_days)
        start = (self.shop.cfg.days - test_days) * DAY_S
        popular = _counts(self.shop, start)
        search = [self._search_batch(batch, k) for batch in _batches(cases.search)]
        browse = [self._browse_batch(batch, start, k) for batch in _batches(cases.browse)]
        by_count = [_ndcg(popular[None, :], [truth], k) for _, truth in (*cases.search, *cases.browse)]
        figures = {"search": np.concatenate(search), "browse": np.concatenate(browse)}
        return {
            **{name: float(values.mean()) for name, values in figures.items()},
            "all": float(np.concatenate(list(figures.values())).mean()),
            "popularity": float(np.concatenate(by_count).mean()),
        }

    def _search_batch(self, batch: "list[Case]", k: int) -> NDArray[np.float64]:
        rows = np.array([row for row, _ in batch])
        actions = self.shop.actions
        probabilities = self.shop.preference.clicks(
            actions.user[rows], actions.concept[rows], actions.second[rows] / DAY_S
        )
        return _ndcg(probabilities, [truth for _, truth in batch], k)

    def _browse_batch(self, batch: "list[Case]", start: float, k: int) -> NDArray[np.float64]:
        users = np.array([user for user, _ in batch])
        probabilities = self.shop.preference.window(users, self._last(users, start), start / DAY_S)
        return _ndcg(probabilities, [truth for _, truth in batch], k)

    def _last(self, users: NDArray[np.int64], second: float) -> NDArray[np.int64]:
        """Item that each user engaged with last before a time, -1 = none."""
        actions = self.shop.actions
        after = np.flatnonzero(actions.second >= second)
        first_after = np.full(self.shop.cfg.num_users, -1)
        first_after[actions.user[after[::-1]]] = after[::-1]
        rows = first_after[users]
        return np.where(rows >= 0, actions.last[rows], -1)


Case = tuple[int, NDArray[np.int64]]
"""(action row of a search | user, true items)."""


@dataclass(frozen=True)
class _Cases:
    search: list[Case]
    browse: list[Case]


def _cases(shop: Shop, test_days: float) -> _Cases:
    actions = shop.actions
    late = actions.second >= (shop.cfg.days - test_days) * DAY_S
    clicked = np.flatnonzero(late & actions.searched & (actions.item >= 0))
    both = np.stack([actions.item, actions.also], axis=1)
    viewed = np.flatnonzero(late & ~actions.searched)
    users, first = np.unique(actions.user[viewed], return_index=True)
    groups = np.split(actions.item[viewed], first[1:])
    return _Cases(
        search=[(int(row), both[row][both[row] >= 0]) for row in clicked],
        browse=[(int(user), np.unique(items)) for user, items in zip(users, groups, strict=True)],
    )


def _counts(shop: Shop, before: float) -> NDArray[np.float64]:
    items = shop.log.item[(shop.log.second < before) & (shop.log.item >= 0)]
    return np.bincount(items, minlength=len(shop.catalogue)).astype(float)


def _ndcg(scores: NDArray[np.floating], truths: list[NDArray[np.int64]], k: int) -> NDArray[np.float64]:
    """NDCG@k with binary relevance, one value per row."""
    top = np.argsort(-scores, axis=1)[:, :k]
    hit = np.array([np.isin(row, truth) for row, truth in zip(top, truths, strict=True)])
    return ndcg(hit, np.array([len(truth) for truth in truths]), k)


def _batches(cases: list[Case]) -> list[list[Case]]:
    return [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]


def _second(time_us: int) -> int:
    return round((datetime.fromtimestamp(time_us / 1e6, UTC) - START).total_seconds())
