"""The deployments: thin classes around `txrec.recommend`, composed as ingress -> retriever -> ranker.

A hop between processes costs more than the work of one request, so hops carry batches: the ingress gathers what waits
(`serve.batching`), sends it as one call to a retriever, and the retriever sends all candidates as one call to a ranker.
The retriever keeps the recommender's catalogue at hand, so it can answer in retrieval order when no ranker does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve.batching import Batcher
from serve.ingress import create_app
from serve.keys import Keys
from serve.service import Answer, Asked, Model, Seen, SupportsRecommend, seen, trim, with_history
from txrec.config import ServeConfig
from txrec.errors import RequestError, UnavailableError
from txrec.index.filters import Filters
from txrec.online.history import open_history
from txrec.slate import Candidates, Event, Request, Slate

Opener = Callable[[], tuple[SupportsRecommend, Model]]
"""Opens the recommender of a replica; importable, so that replicas can do it themselves."""

RANKER_PAUSE_S = 1.0
"""After a failure the ranker is left alone for so long, seconds: requests do not queue up behind a dead one."""

_log = logging.getLogger("ray.serve")


@ray_serve.deployment
class Ranker:
    """Ranks candidates that a retriever found."""

    def __init__(self, opener: Opener) -> None:
        torch.set_num_threads(1)
        self._recommender, self._model = opener()

    async def rank(self, version: str, candidates: list[Candidates]) -> list[Slate]:
        """Slates of a batch.

        Raises:
            ValueError: the candidates come from another bundle, whose dense ids mean other items.
        """
        if version != self._model.version:
            raise ValueError(f"candidates of bundle {version}, this ranker serves {self._model.version}")
        return self._recommender.rank(candidates)


@ray_serve.deployment
class Retriever:
    """Finds candidates and has them ranked."""

    def __init__(self, opener: Opener, ranker: DeploymentHandle[Any], ranker_timeout_s: float) -> None:
        torch.set_num_threads(1)
        self._recommender, self._model = opener()
        self._ranker = ranker
        self._timeout_s = ranker_timeout_s
        self._ranker_rests_until = 0.0

    async def recommend(self, batch: list[Asked]) -> list[Answer | RequestError]:
        """Answers of a batch; a request that cannot be answered does not spoil the others."""
        requests = [with_history(self._recommender, asked.request) for asked in batch]
        try:
            slates: Sequence[Slate | RequestError] = await self._rank(self._recommender.retrieve(requests))
        except RequestError:
            slates = [await self._alone(request) for request in requests]
        return [
            slate if isinstance(slate, RequestError) else Answer(trim(slate, asked.num_candidates), self._model.version)
            for asked, slate in zip(batch, slates, strict=True)
        ]

    async def similar(self, item_id: str, top_k: int, filters: Filters | None) -> Answer:
        """Items like this one."""
        return Answer(trim(self._recommender.similar(item_id, top_k, filters), 0), self._model.version)

    async def rank_items(self, item_ids: Sequence[str], request: Request) -> Answer:
        """Orders the caller's own items; too few to be worth a hop."""
        asked = with_history(self._recommender, request)
        return Answer(trim(self._recommender.rank_items(item_ids, asked), 0), self._model.version)

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        return seen(self._recommender, user_id, live)

    async def model(self) -> Model:
        """The bundle that answers."""
        return self._model

    async def _alone(self, request: Request) -> Slate | RequestError:
        try:
            return (await self._rank(self._recommender.retrieve([request])))[0]
        except RequestError as error:
            return error

    async def _rank(self, candidates: list[Candidates]) -> list[Slate]:
        if time.monotonic() >= self._ranker_rests_until:
            try:
                call = self._ranker.rank.remote(self._model.version, candidates)
                slates: list[Slate] = await asyncio.wait_for(call, self._timeout_s)
                return slates
            except (RayError, RayServeException, TimeoutError) as error:
                self._ranker_rests_until = time.monotonic() + RANKER_PAUSE_S
                _log.warning("ranker unavailable (%s), serving retrieval order", type(error).__name__)
        slates = self._recommender.rank(candidates, use_ranker=False)
        return [replace(slate, fallback=slate.fallback or "ranker_unavailable") for slate in slates]


class DeployedService:
    """`serve.service.Service` over the deployments of a cluster."""

    def __init__(self, retriever: DeploymentHandle[Any], config: ServeConfig) -> None:
        self._retriever = retriever
        self._timeout_s = config.request_timeout_s
        self._recommend: Batcher[Asked, Answer] = Batcher(
            self._ask, config.max_batch_size, 2 * config.num_retrievers, config.max_waiting
        )

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds."""
        return await self._recommend(asked)

    async def similar(self, item_id: str, top_k: int, filters: Filters | None) -> Answer:
        """Items like this one."""
        answer: Answer = await self._call(self._retriever.similar.remote(item_id, top_k, filters))
        return answer

    async def rank(self, item_ids: Sequence[str], request: Request) -> Answer:
        """Orders the caller's own items."""
        answer: Answer = await self._call(self._retriever.rank_items.remote(item_ids, request))
        return answer

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        events: tuple[Seen, ...] = await self._call(self._retriever.history.remote(user_id, live))
        return events

    async def model(self) -> Model:
        """The bundle that answers."""
        model: Model = await self._call(self._retriever.model.remote())
        return model

    async def _ask(self, batch: list[Asked]) -> list[Answer | BaseException]:
        answers: list[Answer | BaseException] = await self._call(self._retriever.recommend.remote(batch))
        return answers

    async def _call(self, response: Any) -> Any:
        """Awaits a retriever's answer; what the cluster reports becomes an error of the domain."""
        try:
            return await asyncio.wait_for(response, self._timeout_s)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RequestError):
                raise cause from None
            raise
        except TimeoutError:
            raise UnavailableError("", f"no answer within {self._timeout_s:g} s; try again in a moment") from None
        except (RayError, RayServeException) as error:
            _log.warning("retriever unavailable: %s", type(error).__name__)
            raise UnavailableError("", "the recommender is restarting; try again in a moment") from None


@ray_serve.deployment
@ray_serve.ingress()
class Ingress:
    """Speaks HTTP."""

    def __init__(self, retriever: DeploymentHandle[Any], config: ServeConfig) -> None:
        self._config = config
        self._service = DeployedService(retriever, config)

    def __serve_build_asgi_app__(self) -> FastAPI:
        keys = Keys.read(self._config.keys_file)
        app = create_app(self._service, self._config, open_history(self._config.state), keys)
        if self._config.console and not keys.hashes:  # the console asks on behalf of whoever looks at it
            from serve import console  # Gradio takes seconds to import

            console.mount(app)
        return app
