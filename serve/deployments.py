"""The deployments: thin classes around `txrec.recommender.recommender`, composed as ingress -> retriever -> ranker.

A hop between processes costs more than the work of one request, so hops carry batches: the ingress gathers what waits
(`serve.batching`), sends it as one call to a retriever, and the retriever sends all candidates as one call to a ranker.
The retriever keeps the recommender's catalogue at hand, so it can answer in retrieval order when no ranker does.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve import logs, memory
from serve.batching import Batcher
from serve.calls import Calls, NotHereError, remote
from serve.impressions import Impressions
from serve.ingress import create_app
from serve.keys import Keys
from serve.listener import Listener
from serve.metrics import Metrics
from serve.models import Models, Served, Source, as_shelf
from serve.service import Answer, Asked, Model, Product, Seen, product, seen, trim, with_history
from serve.shadow import Shadow
from serve.switch import Switch
from serve.turns import in_turns
from txrec.config import ServeConfig
from txrec.errors import RequestError, UnavailableError
from txrec.index.filters import Filters
from txrec.online.stores import open_history, open_journal
from txrec.recommender.types import Candidates, Event, Request, Slate
from txrec.registry.rollout import Variant

AWAY = (RayError, RayServeException, TimeoutError)
"""What a cluster reports of a replica that is away, but for RayTaskError: a defect, as is anything else."""
RANKER_PAUSE_S = 1.0
"""After a failure the ranker is left alone for so long, seconds: requests do not queue up behind a dead one."""


@ray_serve.deployment
class Ranker:
    """Ranks candidates that a retriever found."""

    def __init__(self, source: Source, config: ServeConfig) -> None:
        logs.start("ranker")
        torch.set_num_threads(1)
        memory.keep_freed()
        self._models = Models(as_shelf(source), open_journal(config.state), "ranker")
        self._models.follow()

    @remote
    async def rank(self, version: str, candidates: list[Candidates], catalogue: int = 0) -> list[Slate]:
        """Slates of a batch.

        Args:
            version: of the model that the candidates come from, whose dense indices mean nothing to another one.
            candidates: of the batch.
            catalogue: number of the last change of products that the retriever had applied; indices of new products
                mean the same to all who have applied as many changes, or more.

        Raises:
            NotHereError: this replica does not have the model, or cannot apply the changes.
        """
        served = self._models.get(version)
        if served is not None and served.catalogue < catalogue:
            await asyncio.to_thread(self._models.catch_up)
            served = self._models.get(version)
        if served is None or served.catalogue < catalogue:
            have = "no such model" if served is None else f"changes up to {served.catalogue}"
            raise NotHereError(f"candidates of {version} with changes up to {catalogue}, here: {have}")
        return served.recommender.rank(candidates)


@ray_serve.deployment
class Retriever:
    """Finds candidates and has them ranked, or ranks them itself where there is no ranker."""

    def __init__(self, source: Source, ranker: DeploymentHandle[Any] | None, config: ServeConfig) -> None:
        logs.start("retriever")
        torch.set_num_threads(1)
        memory.keep_freed()
        self._models = Models(as_shelf(source), open_journal(config.state), "retriever")
        self._models.follow()
        self._ranker = Calls(ranker) if ranker else None
        self._timeout_s = config.ranker_timeout_s
        self._ranker_rests_until = 0.0
        self._retrieving = asyncio.Lock()
        self._ranking = 0  # batches that a ranker is asked for
        self._at_hand = self._encoded = 0  # query vectors, since they were last told
        impressions = Impressions(open_history(config.state), config.impression_days, time.time)
        self._shadowing = Shadow(self._models, impressions)

    @remote
    async def recommend(self, batch: list[Asked]) -> list[Answer | RequestError]:
        """Answers of a batch; a request that cannot be answered does not spoil the others."""
        chosen = [self._models.choose(asked.key) for asked in batch]
        answers: list[Answer | RequestError | None] = [None] * len(batch)
        for served in {id(served): served for _, served in chosen}.values():
            places = [place for place, (_, one) in enumerate(chosen) if one is served]
            slates = await self._slates(served, [batch[place].request for place in places])
            for place, slate in zip(places, slates, strict=True):
                answers[place] = self._answer(slate, served, chosen[place][0], batch[place].num_candidates)
        found = [answer for answer in answers if answer is not None]
        if isinstance(found[0], Answer):
            found[0] = replace(found[0], lookups=(self._at_hand, self._encoded))
            self._at_hand = self._encoded = 0
        self._shadowing.follow(batch, found)
        return found

    @remote
    async def similar(self, item_id: str, top_k: int, filters: Filters | None, key: str = "") -> Answer:
        """Items like this one."""
        variant, served = self._models.choose(key)
        return Answer(trim(served.recommender.similar(item_id, top_k, filters), 0), served.model.version, variant)

    @remote
    async def rank_items(self, item_ids: Sequence[str], asked: Asked) -> Answer:
        """Orders the caller's own items; too few to be worth a hop."""
        variant, served = self._models.choose(asked.key)
        request = with_history(served.recommender, asked.request)
        return Answer(trim(served.recommender.rank_items(item_ids, request), 0), served.model.version, variant)

    @remote
    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        return seen(self._models.production.recommender, user_id, live)

    @remote
    async def item(self, item_id: str) -> Product | None:
        """A product."""
        return product(self._models.production.recommender, item_id)

    @remote
    async def model(self) -> Model:
        """The bundle in production."""
        return self._models.production.model

    def _answer(
        self, slate: Slate | RequestError, served: Served, variant: Variant, num_candidates: int
    ) -> Answer | RequestError:
        if isinstance(slate, RequestError):
            return slate
        return Answer(trim(slate, num_candidates), served.model.version, variant)

    async def _slates(self, served: Served, requests: Sequence[Request]) -> Sequence[Slate | RequestError]:
        complete = [with_history(served.recommender, request) for request in requests]
        try:
            return await self._rank(served, await self._retrieved(served, complete))
        except RequestError:
            return [await self._alone(served, request) for request in complete]

    async def _alone(self, served: Served, request: Request) -> Slate | RequestError:
        try:
            return (await self._rank(served, await self._retrieved(served, [request])))[0]
        except RequestError as error:
            return error

    async def _retrieved(self, served: Served, requests: Sequence[Request]) -> list[Candidates]:
        async with self._retrieving:  # two half-done batches would be done later than one after the other
            before = served.recommender.num_encoded_queries
            found = await in_turns(served.recommender.retrieve_in_steps(requests), lambda: self._ranking > 0)
            encoded = served.recommender.num_encoded_queries - before
        self._at_hand += max(0, sum(bool(one.query) for one in found) - encoded)
        self._encoded += encoded
        return found

    async def _rank(self, served: Served, candidates: list[Candidates]) -> list[Slate]:
        if self._ranker is None:
            return served.recommender.rank(candidates)
        if time.monotonic() >= self._ranker_rests_until:
            started = time.perf_counter()
            try:
                sent = served.recommender.shortlist(candidates)
                slates = await self._ranked(self._ranker, served, sent)
                return [_timed(slate, "ranker_call", started) for slate in slates]
            except NotHereError as error:  # another replica may have it
                logs.log.warning("serving retrieval order: %s", error)
            except Exception as error:  # whatever is wrong with the ranker, there is an answer without it
                self._ranker_rests_until = time.monotonic() + RANKER_PAUSE_S
                away = isinstance(error, AWAY) and not isinstance(error, RayTaskError)
                logs.log.warning(
                    "ranker unavailable (%r), serving retrieval order", error, exc_info=None if away else error
                )
        slates = served.recommender.rank(candidates, use_ranker=False)
        return [replace(slate, fallback=slate.fallback or "ranker_unavailable") for slate in slates]

    async def _ranked(self, ranker: Calls, served: Served, candidates: list[Candidates]) -> list[Slate]:
        self._ranking += 1
        try:
            slates: list[Slate] = await ranker(
                "rank", self._timeout_s, served.model.version, candidates, served.catalogue
            )
        finally:
            self._ranking -= 1
        return slates


def _timed(slate: Slate, stage: str, started: float) -> Slate:
    """A slate that also tells how long a call took, with all that happened behind it."""
    return replace(slate, timings_ms={**slate.timings_ms, stage: 1e3 * (time.perf_counter() - started)})


class DeployedService:
    """`serve.service.Service` over the deployments of a cluster."""

    def __init__(self, retriever: DeploymentHandle[Any], config: ServeConfig, metrics: Metrics | None = None) -> None:
        self._retriever = Calls(retriever)
        self._timeout_s = config.request_timeout_s
        self._recommend: Batcher[Asked, Answer] = Batcher(
            self._ask,
            config.max_batch_size,
            2 * config.num_retrievers,
            config.max_waiting,
            partial((metrics or Metrics()).batch, "slates"),
        )

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds."""
        return await self._recommend(asked)

    async def similar(self, item_id: str, top_k: int, filters: Filters | None, key: str = "") -> Answer:
        """Items like this one."""
        answer: Answer = await self._call("similar", item_id, top_k, filters, key)
        return answer

    async def rank(self, item_ids: Sequence[str], asked: Asked) -> Answer:
        """Orders the caller's own items."""
        answer: Answer = await self._call("rank_items", item_ids, asked)
        return answer

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        events: tuple[Seen, ...] = await self._call("history", user_id, live)
        return events

    async def item(self, item_id: str) -> Product | None:
        """A product."""
        found: Product | None = await self._call("item", item_id)
        return found

    async def model(self) -> Model:
        """The bundle that answers."""
        model: Model = await self._call("model")
        return model

    async def _ask(self, batch: list[Asked]) -> list[Answer | BaseException]:
        started = time.perf_counter()
        logs.concern(asked.request_id for asked in batch)
        answers: list[Answer | BaseException] = await self._call("recommend", batch)
        return [
            replace(answer, slate=_timed(answer.slate, "retriever_call", started))
            if isinstance(answer, Answer)
            else answer
            for answer in answers
        ]

    async def _call(self, method: str, *args: Any) -> Any:
        """Awaits a retriever's answer; what the cluster reports becomes an error of the domain."""
        try:
            return await self._retriever(method, self._timeout_s, *args)
        except RayTaskError:  # a defect
            raise
        except TimeoutError:
            raise UnavailableError("", f"no answer within {self._timeout_s:g} s; try again in a moment") from None
        except (RayError, RayServeException) as error:
            logs.log.warning("retriever unavailable: %s", type(error).__name__)
            raise UnavailableError("", "the recommender is restarting; try again in a moment") from None


@ray_serve.deployment
@ray_serve.ingress()
class Ingress:
    """Speaks HTTP."""

    def __init__(
        self, retriever: DeploymentHandle[Any], config: ServeConfig, registry: str = "", keys: Keys | None = None
    ) -> None:
        logs.start("ingress")
        self._config = config
        self._keys = keys or Keys()
        self._listener: Listener | None = None
        self._metrics = Metrics()
        self._service = DeployedService(retriever, config, self._metrics)
        self._switch = Switch(Path(registry) if registry else None, config)

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = create_app(
            self._service,
            self._config,
            open_history(self._config.state),
            self._keys,
            journal=open_journal(self._config.state),
            switch=self._switch,
            metrics=self._metrics,
        )
        if self._config.console and not self._keys.known:  # the console asks on behalf of whoever looks at it
            from serve import console  # Gradio takes seconds to import

            console.mount(app)
        if not self._config.proxy:
            self._listener = Listener(app, self._config.host, self._config.port)
            self._listener.start()
        return app

    def __del__(self) -> None:
        if self._listener is not None:
            self._listener.stop()
