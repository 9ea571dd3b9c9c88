"""Judging in the server: sampled queries with pooled products for people who grade them, and the grades that they gave.

Grades are documents, one per judge and query, so that they are durable and the same on every replica.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from serve.types import Product, Service, ServingRequest
from txrec.loop.judging import POOL_DEPTH, STRATEGIES, Judgment, Rankings, pool, select
from txrec.online.documents import DocumentStore
from txrec.recommender.types import Request
from txrec.registry.rollout import Rollout

SAMPLE = 8
"""Queries that are answered to choose one of them."""
SECOND_JUDGE_FRAC = 0.3
"""Share of tasks that repeat a query of one other judge, so that agreement can be measured."""
MAX_KEYS = 2_000


class Judging:
    """Tasks for judges, and their judgments.

    Args:
        service: answers the sampled queries.
        store: keeps the judgments.
        canary_share: share of users that a canary answers now, 0 without one; its ranking is pooled too.
        clock: seconds since 1970 UTC.
        rng: samples queries.
    """

    def __init__(
        self,
        service: Service,
        store: DocumentStore,
        canary_share: Callable[[], float],
        clock: Callable[[], float],
        rng: np.random.Generator | None = None,
    ) -> None:
        self._service = service
        self._store = store
        self._canary_share = canary_share
        self._clock = clock
        self._rng = rng or np.random.default_rng()

    async def all(self) -> list[Judgment]:
        """All judgments, by judge and query."""
        documents = await asyncio.to_thread(self._store.all)
        return [Judgment.of(one) for _, one in sorted(documents.by_name.items())]

    async def task(self, judge: str) -> tuple[str, list[Product]] | None:
        """A query that this judge has not graded, with the products to grade; None where no query is left."""
        done = await self.all()
        own = {one.query for one in done if one.judge == judge}
        others = Counter(one.query for one in done if one.query not in own)
        frequency = {
            entry.text: entry.weight
            for entry in await self._service.suggestions()
            if entry.kind == "query" and entry.text not in own
        }
        once = sorted(query for query, judges in others.items() if judges == 1)
        if once and self._rng.random() < SECOND_JUDGE_FRAC:
            query = str(self._rng.choice(once))
            return await self._pooled(await self._rankings(query, frequency.get(query, 0.0)), judge)
        sampled = [await self._rankings(query, frequency[query]) for query in self._sample(frequency)]
        selected = select(sampled, STRATEGIES[int(self._rng.integers(len(STRATEGIES)))])
        return None if selected is None else await self._pooled(selected, judge)

    async def grade(self, judge: str, query: str, grades: Mapping[str, int | None]) -> None:
        """Stores a judge's grades of a query durably; earlier ones of the same products are replaced."""
        name = f"{judge}\n{query}"
        documents = await asyncio.to_thread(self._store.all)
        before = documents.by_name.get(name, {}).get("grades", {})
        judgment = Judgment(judge, query, {**before, **grades}, self._clock())
        await asyncio.to_thread(self._store.put, {name: asdict(judgment)})

    async def forget(self, judge: str) -> int:
        """Removes all judgments of a judge; returns their number."""
        names = [f"{one.judge}\n{one.query}" for one in await self.all() if one.judge == judge]
        for name in names:
            await asyncio.to_thread(self._store.delete, name)
        return len(names)

    def _sample(self, frequency: Mapping[str, float]) -> list[str]:
        """Half of the sample by frequency, half evenly."""
        queries = sorted(frequency)
        if len(queries) <= SAMPLE:
            return queries
        weights = np.array([max(frequency[query], 0.0) for query in queries]) + 1e-9
        head = self._rng.choice(len(queries), SAMPLE // 2, replace=False, p=weights / weights.sum())
        even = self._rng.choice(len(queries), SAMPLE // 2, replace=False)
        return [queries[place] for place in dict.fromkeys([*head.tolist(), *even.tolist()])]

    async def _rankings(self, query: str, frequency: float) -> Rankings:
        orders: list[tuple[str, ...]] = []
        scores: tuple[float, ...] = ()
        for key in self._keys():
            request = Request(query=query, top_k=POOL_DEPTH, with_candidates=True)
            sent = ServingRequest(request, num_candidates=POOL_DEPTH, key=key, use_rules=False)
            slate = (await self._service.recommend(sent)).slate
            orders.append(tuple(item.item_id for item in slate.items))
            orders.append(tuple(item.item_id for item in slate.candidates))
            scores = scores or tuple(item.score for item in slate.items)
        return Rankings(query, frequency, tuple(orders), scores)

    def _keys(self) -> list[str]:
        """Rollout keys: one that production answers and, where there is a canary, one that it answers."""
        rollout = Rollout("production", canary="canary", share=self._canary_share())
        keys: dict[str, str] = {}
        for number in range(MAX_KEYS):
            keys.setdefault(rollout.variant(f"judging {number}"), f"judging {number}")
            if len(keys) == (2 if rollout.share else 1):
                break
        return list(keys.values())

    async def _pooled(self, rankings: Rankings, judge: str) -> tuple[str, list[Product]]:
        products = [await self._service.item(item_id) for item_id in pool(rankings, judge)]
        return rankings.query, [product for product in products if product is not None]
