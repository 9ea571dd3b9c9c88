"""Service over the deployments of a Ray cluster: batches of requests in one call to a retriever."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve.concurrency.batching import Batcher
from serve.deployment.calls import Calls
from serve.observability import logs
from serve.observability.metrics import Metrics
from serve.types import Answer, HistoryItem, Model, Product, ProductCheck, ServingRequest
from txrec.config import ServeConfig
from txrec.data.profiles import StoredProfile
from txrec.errors import UnavailableError
from txrec.index.suggestions import Suggestion
from txrec.online.live_window import LiveStatistics
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.rules.rule_types import Products
from txrec.recommender.stage_timer import StageTimer
from txrec.recommender.types import Event, Slate

AUDIENCE_TIMEOUT_S = 60.0
"""Longest wait for an audience, which reads thousands of histories."""


def timed(slate: Slate, stage: str, timer: StageTimer) -> Slate:
    """The slate with the duration of a call, everything behind it included, among its timings."""
    return replace(slate, timings_ms={**slate.timings_ms, stage: timer.timings_ms[stage]})


class DeployedService:
    """`serve.types.Service` over the deployments of a cluster."""

    def __init__(self, retriever: DeploymentHandle[Any], config: ServeConfig, metrics: Metrics | None = None) -> None:
        self._retriever = Calls(retriever)
        self._timeout_s = config.request_timeout_s
        self._recommend: Batcher[ServingRequest, Answer] = Batcher(
            self._recommend_batch,
            config.max_batch_size,
            2 * config.num_retrievers,
            config.max_waiting,
            partial((metrics or Metrics()).batch, "slates"),
        )

    async def recommend(self, request: ServingRequest) -> Answer:
        """Ranks the candidates of retrieval."""
        return await self._recommend(request)

    async def similar(self, item_id: str, request: ServingRequest) -> Answer:
        """Items similar to one."""
        answer: Answer = await self._call("similar", item_id, request)
        return answer

    async def product_list(self, spec: ListRequest, request: ServingRequest) -> Answer:
        """A list such as trending products."""
        answer: Answer = await self._call("product_list", spec, request)
        return answer

    async def rank(self, item_ids: Sequence[str], request: ServingRequest) -> Answer:
        """Orders the caller's own items."""
        answer: Answer = await self._call("rank_items", item_ids, request)
        return answer

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[HistoryItem, ...]:
        """Stored and live events of a user."""
        events: tuple[HistoryItem, ...] = await self._call("history", user_id, live)
        return events

    async def profile(self, user_id: str) -> StoredProfile | None:
        """A user's profile in the users table."""
        profile: StoredProfile | None = await self._call("profile", user_id)
        return profile

    async def item(self, item_id: str) -> Product | None:
        """A product."""
        product: Product | None = await self._call("item", item_id)
        return product

    async def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products, for completion; or else the live queries."""
        entries: list[Suggestion] = await self._call("suggestions", live)
        return entries

    async def audience(self, request: AudienceRequest) -> tuple[AudienceAnswer, str]:
        """The users most likely to want a target, and the model's version."""
        answer: tuple[AudienceAnswer, str] = await self._call("audience", request, timeout_s=AUDIENCE_TIMEOUT_S)
        return answer

    async def check_products(self, selections: Sequence[Products]) -> tuple[ProductCheck, ...]:
        """Meaning of selections of products."""
        checks: tuple[ProductCheck, ...] = await self._call("check_products", selections)
        return checks

    async def live_counts(self) -> LiveStatistics | None:
        """Size of the live window of one retriever."""
        statistics: LiveStatistics | None = await self._call("live_counts")
        return statistics

    async def model(self) -> Model:
        """The bundle that answers."""
        model: Model = await self._call("model")
        return model

    async def _recommend_batch(self, batch: list[ServingRequest]) -> list[Answer | BaseException]:
        timer = StageTimer()
        logs.bind_request_ids(request.request_id for request in batch)
        answers: list[Answer | BaseException] = await self._call("recommend", batch)
        timer.end("retriever_call")
        return [
            replace(answer, slate=timed(answer.slate, "retriever_call", timer))
            if isinstance(answer, Answer)
            else answer
            for answer in answers
        ]

    async def _call(self, method: str, *args: Any, timeout_s: float = 0.0) -> Any:
        """Awaits a retriever's answer; unavailability of the cluster becomes an `UnavailableError`."""
        timeout_s = max(timeout_s, self._timeout_s)
        try:
            return await self._retriever(method, timeout_s, *args)
        except RayTaskError:  # a bug of the replica
            raise
        except TimeoutError:
            raise UnavailableError("", f"no answer within {timeout_s:g} s; try again in a moment") from None
        except (RayError, RayServeException) as error:
            logs.log.warning("retriever unavailable: %s", type(error).__name__)
            raise UnavailableError("", "the recommender is restarting; try again in a moment") from None
