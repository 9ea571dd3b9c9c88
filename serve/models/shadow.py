"""Shadow model: it answers the requests that production answered, after their answers are sent, for the log only."""

import asyncio
import time
from collections.abc import Sequence

from serve.history.impressions import Impressions
from serve.history.user_history import with_history
from serve.models.replica_models import Models, Served
from serve.observability.logs import log
from serve.types import Answer, ServingRequest
from txrec.errors import RequestError
from txrec.online.history import Impression


class Shadow:
    """Runs the shadow model, one batch at a time; requests that come while it is busy are not compared."""

    def __init__(self, models: Models, impressions: Impressions) -> None:
        self._models = models
        self._impressions = impressions
        self._running: asyncio.Task[None] | None = None

    def compare(self, batch: Sequence[ServingRequest], answers: Sequence[Answer | RequestError]) -> None:
        """Starts the comparison of answers with those of the shadow model, where there is one."""
        shadow = self._models.shadow
        if shadow is None or (self._running is not None and not self._running.done()):
            return
        pairs = [(request, one) for request, one in zip(batch, answers, strict=True) if isinstance(one, Answer)]
        self._running = asyncio.create_task(self._compare(shadow, pairs))

    async def _compare(self, shadow: Served, pairs: list[tuple[ServingRequest, Answer]]) -> None:
        try:
            impressions = await asyncio.to_thread(_impressions, shadow, pairs)
        except Exception as error:  # a broken shadow model must not affect answers
            log.warning("the shadow model %s failed: %s", shadow.model.version, error)
            return
        for impression in impressions:
            self._impressions.add(impression)


def _impressions(shadow: Served, pairs: list[tuple[ServingRequest, Answer]]) -> list[Impression]:
    requests = [with_history(shadow.recommender, request) for request, _ in pairs]
    slates = shadow.recommender.recommend(requests)
    return [
        Impression(
            request_id=request.request_id,
            ts=time.time_ns() // 1000,
            variant="shadow",
            model_version=shadow.model.version,
            item_ids=tuple(item.item_id for item in slate.items),
            scores=tuple(item.score for item in slate.items),
            user_id=request.request.user_id,
            query=request.request.query,
            fallback=slate.fallback,
            overlap=overlap(
                *([item.item_id for item in one.items[: request.request.top_k]] for one in (slate, answer.slate))
            ),
        )
        for (request, answer), slate in zip(pairs, slates, strict=True)
    ]


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the longer slate that both hold; 1 for two empty ones."""
    return len(set(one) & set(other)) / max(len(one), len(other)) if one or other else 1.0
