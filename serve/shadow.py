"""A shadow model: it answers what production answered, after the answer has gone, and only the log sees it."""

import asyncio
import time
from collections.abc import Sequence

from serve.impressions import Impressions
from serve.logs import log
from serve.models import Models, Served
from serve.service import Answer, Asked, with_history
from txrec.errors import RequestError
from txrec.online.history import Impression


class Shadow:
    """Asks the shadow model, one batch at a time; what comes while it is busy is not compared."""

    def __init__(self, models: Models, impressions: Impressions) -> None:
        self._models = models
        self._impressions = impressions
        self._running: asyncio.Task[None] | None = None

    def follow(self, batch: Sequence[Asked], answers: Sequence[Answer | RequestError]) -> None:
        """Compares answers that are about to go with those of the shadow, where there is one."""
        shadow = self._models.shadow
        if shadow is None or (self._running is not None and not self._running.done()):
            return
        pairs = [(asked, one) for asked, one in zip(batch, answers, strict=True) if isinstance(one, Answer)]
        self._running = asyncio.create_task(self._compare(shadow, pairs))

    async def _compare(self, shadow: Served, pairs: list[tuple[Asked, Answer]]) -> None:
        try:
            found = await asyncio.to_thread(_answers, shadow, pairs)
        except Exception as error:  # a shadow may break without anybody noticing but the log
            log.warning("the shadow %s gives no answer: %s", shadow.model.version, error)
            return
        for impression in found:
            self._impressions.add(impression)


def _answers(shadow: Served, pairs: list[tuple[Asked, Answer]]) -> list[Impression]:
    requests = [with_history(shadow.recommender, asked.request) for asked, _ in pairs]
    slates = shadow.recommender.recommend(requests)
    return [
        Impression(
            request_id=asked.request_id,
            ts=time.time_ns() // 1000,
            variant="shadow",
            model_version=shadow.model.version,
            item_ids=tuple(item.item_id for item in slate.items),
            scores=tuple(item.score for item in slate.items),
            user_id=asked.request.user_id,
            query=asked.request.query,
            fallback=slate.fallback,
            overlap=overlap([item.item_id for item in slate.items], [item.item_id for item in answer.slate.items]),
        )
        for (asked, answer), slate in zip(pairs, slates, strict=True)
    ]


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the longer slate that both hold; 1 for two empty ones."""
    return len(set(one) & set(other)) / max(len(one), len(other)) if one or other else 1.0
