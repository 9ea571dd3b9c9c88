"""Ray Serve deployments: ingress -> retriever -> ranker, thin classes around `txrec.recommender.recommender`.

A hop between processes costs more than the work of one request, so hops carry batches: the ingress gathers the waiting
requests (`serve.batching`), sends them as one call to a retriever, and the retriever sends all candidates as one call
to a ranker. The retriever holds the whole recommender, so it can answer in retrieval order when no ranker does.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve import suggester
from serve.concurrency.circuit_breaker import CircuitBreaker
from serve.concurrency.cooperative import run_cooperatively
from serve.deployment import memory
from serve.deployment.calls import Calls, ModelNotLoadedError, remote
from serve.deployment.deployed_service import DeployedService, timed
from serve.deployment.listener import Listener
from serve.documents import placements, profiles, rules
from serve.documents.live_documents import LiveDocuments
from serve.documents.rules import RuledRequest
from serve.experiments import interleaving
from serve.history.impressions import Impressions
from serve.history.retention import Retention
from serve.history.user_history import history_items, with_history
from serve.http.api_keys import Keys
from serve.ingress import Components, create_app
from serve.local_service import product, trim
from serve.models.replica_models import BundleSource, Models, Served, as_model_source
from serve.models.shadow import Shadow
from serve.models.switch import Switch
from serve.observability import logs
from serve.observability.live_monitor import TrafficProfiles
from serve.observability.metrics import Metrics
from serve.types import Answer, CacheStats, HistoryItem, Model, Product, ProductCheck, ServingRequest
from txrec import object_storage
from txrec.config import ServeConfig
from txrec.data.profiles import StoredProfile
from txrec.errors import RequestError
from txrec.index.suggestions import Suggestion
from txrec.loop.experiments.served_experiments import KIND as EXPERIMENTS
from txrec.loop.judging import JUDGMENTS_KIND
from txrec.online.live_window import LiveStatistics, LiveWindow
from txrec.online.stores import open_documents, open_history, open_journal
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.rules.rule_types import Products
from txrec.recommender.stage_timer import StageTimer
from txrec.recommender.types import Candidates, Event, Request, Slate
from txrec.registry.rollout import Variant

UNAVAILABLE_ERRORS = (RayError, RayServeException, TimeoutError)
"""Errors of a cluster whose replica is unavailable, except RayTaskError: that one, like any other, is a bug."""
RANKER_COOLDOWN_S = 1.0
"""Time without calls of the ranker after a failure, seconds."""


@ray_serve.deployment
class Ranker:
    """Ranks the candidates of a retriever."""

    def __init__(self, source: BundleSource, config: ServeConfig) -> None:
        self._models = started_models(source, config, "ranker")

    @remote
    async def rank(self, version: str, candidates: list[Candidates], catalogue: int = 0) -> list[Slate]:
        """Slates of a batch.

        Args:
            version: of the model that the candidates come from, whose dense indices mean nothing to another one.
            candidates: of the batch.
            catalogue: number of the last change of products that the retriever had applied; indices of new products
                mean the same to all who have applied as many changes, or more.

        Raises:
            ModelNotLoadedError: this replica does not have the model, or cannot apply the changes.
        """
        served = self._models.get(version)
        if served is not None and served.catalogue < catalogue:
            await asyncio.to_thread(self._models.catch_up)
            served = self._models.get(version)
        if served is None or served.catalogue < catalogue:
            have = "no such model" if served is None else f"changes up to {served.catalogue}"
            raise ModelNotLoadedError(f"candidates of {version} with changes up to {catalogue}, here: {have}")
        return served.recommender.rank(candidates)


@ray_serve.deployment
class Retriever:
    """Finds candidates and has them ranked, or ranks them itself where there is no ranker."""

    def __init__(self, source: BundleSource, ranker: DeploymentHandle[Any] | None, config: ServeConfig) -> None:
        self._models = started_models(source, config, "retriever")
        self._ranker = Calls(ranker) if ranker else None
        self._timeout_s = config.ranker_timeout_s
        self._ranker_breaker = CircuitBreaker(RANKER_COOLDOWN_S)
        self._retrieving = asyncio.Lock()
        self._num_ranking = 0  # batches that are at a ranker
        self._query_vectors = CacheStats()  # since the last answer
        impressions = Impressions(open_history(config.state), config.impression_days, time.time)
        self._rules = LiveDocuments(open_documents(config.state, rules.KIND), rules.compile_rules).start()
        self._shadowing = Shadow(self._models, impressions)

    @remote
    async def recommend(self, batch: list[ServingRequest]) -> list[Answer | RequestError]:
        """Answers of a batch; a request that cannot be answered does not spoil the others."""
        answers = await self._answers([part for request in batch for part in interleaving.split(request)])
        return interleaving.joined(batch, answers)

    async def _answers(self, batch: list[ServingRequest]) -> list[Answer | RequestError]:
        assigned = [self._models.choose(request.key, request.version) for request in batch]
        answers: list[Answer | RequestError | None] = [None] * len(batch)
        for served in {id(served): served for _, served in assigned}.values():
            places = [place for place, (_, one) in enumerate(assigned) if one is served]
            slates = await self._slates(served, [batch[place] for place in places])
            for place, slate in zip(places, slates, strict=True):
                answers[place] = self._answer(slate, served, assigned[place][0], batch[place])
        complete = [_present(answer) for answer in answers]
        if isinstance(complete[0], Answer):
            complete[0] = replace(complete[0], query_vectors=self._query_vectors)
            self._query_vectors = CacheStats()
        self._shadowing.compare(batch, complete)
        return complete

    @remote
    async def similar(self, item_id: str, request: ServingRequest) -> Answer:
        """Items similar to one."""
        variant, served = self._models.choose(request.key)
        slate = rules.similar(self._rules.current, request, item_id, served.recommender)
        return Answer(trim(slate, 0), served.model.version, variant)

    @remote
    async def product_list(self, spec: ListRequest, request: ServingRequest) -> Answer:
        """A list such as trending products."""
        variant, served = self._models.choose(request.key)
        complete, book = with_history(served.recommender, request), self._rules.current
        slate = await asyncio.to_thread(rules.product_list, book, request, complete, spec, served.recommender)
        return Answer(trim(slate, 0), served.model.version, variant)

    @remote
    async def rank_items(self, item_ids: Sequence[str], request: ServingRequest) -> Answer:
        """Orders the caller's own items; too few to be worth a hop."""
        variant, served = self._models.choose(request.key)
        complete, book = with_history(served.recommender, request), self._rules.current
        slate = rules.own_list(book, request, complete, item_ids, served.recommender)
        return Answer(trim(slate, 0), served.model.version, variant)

    @remote
    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[HistoryItem, ...]:
        """Stored and live events of a user."""
        return history_items(self._models.production.recommender, user_id, live)

    @remote
    async def profile(self, user_id: str) -> StoredProfile | None:
        """A user's profile in the users table."""
        return self._models.production.recommender.profile(user_id)

    @remote
    async def item(self, item_id: str) -> Product | None:
        """A product."""
        return product(self._models.production.recommender, item_id)

    @remote
    async def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products of the model in production, for completion; or else the live queries."""
        return await asyncio.to_thread(self._models.production.recommender.suggestions, live)

    @remote
    async def audience(self, request: AudienceRequest) -> tuple[AudienceAnswer, str]:
        """The users most likely to want a target, and the version of the model in production."""
        served = self._models.production
        return await asyncio.to_thread(served.recommender.audience, request), served.model.version

    @remote
    async def check_products(self, selections: Sequence[Products]) -> tuple[ProductCheck, ...]:
        """Meaning of selections of products in the catalogue of the model in production."""
        return rules.check_products(self._models.production.recommender, selections)

    @remote
    async def live_counts(self) -> LiveStatistics | None:
        """Size of the live window; None where no live events are counted."""
        return self._models.live_statistics

    @remote
    async def model(self) -> Model:
        """The bundle in production."""
        return self._models.production.model

    def _answer(
        self, slate: Slate | RequestError, served: Served, variant: Variant, request: ServingRequest
    ) -> Answer | RequestError:
        if isinstance(slate, RequestError):
            return slate
        return interleaving.marked(Answer(trim(slate, request.num_candidates), served.model.version, variant), request)

    async def _slates(self, served: Served, requests: Sequence[ServingRequest]) -> Sequence[Slate | RequestError]:
        ruled = [self._ruled(served, request) for request in requests]
        active = [one for one in ruled if isinstance(one, RuledRequest) and one.prepared is not None]
        try:
            candidates = await self._retrieved(served, [one.prepared for one in active if one.prepared is not None])
            slates = iter(await self._rank(served, candidates))
        except RequestError:
            return [await self._single(served, one) if isinstance(one, RuledRequest) else one for one in ruled]
        return [_finished(one, slates) for one in ruled]

    def _ruled(self, served: Served, request: ServingRequest) -> RuledRequest | RequestError:
        complete = with_history(served.recommender, request)
        try:
            return rules.prepare(self._rules.current, request, complete, served.recommender)
        except RequestError as error:
            return error

    async def _single(self, served: Served, ruled: RuledRequest) -> Slate | RequestError:
        try:
            if ruled.prepared is None:
                return ruled.finish(None)
            (slate,) = await self._rank(served, await self._retrieved(served, [ruled.prepared]))
            return ruled.finish(slate)
        except RequestError as error:
            return error

    async def _retrieved(self, served: Served, requests: Sequence[Request]) -> list[Candidates]:
        async with self._retrieving:  # two interleaved batches would both be done later than one after the other
            before = served.recommender.num_encoded_queries
            steps = served.recommender.retrieve_in_steps(requests)
            candidates = await run_cooperatively(steps, lambda: self._num_ranking > 0)
            misses = served.recommender.num_encoded_queries - before
        num_queries = sum(bool(one.query) for one in candidates)
        self._query_vectors += CacheStats(max(0, num_queries - misses), misses)
        return candidates

    async def _rank(self, served: Served, candidates: list[Candidates]) -> list[Slate]:
        if self._ranker is None or not candidates:
            return served.recommender.rank(candidates)
        if not self._ranker_breaker.is_open:
            timer = StageTimer()
            try:
                slates = await self._call_ranker(self._ranker, served, served.recommender.shortlist(candidates))
                timer.end("ranker_call")
                return [timed(slate, "ranker_call", timer) for slate in slates]
            except ModelNotLoadedError as error:  # another replica may have it
                logs.log.warning("serving retrieval order: %s", error)
            except Exception as error:  # whatever is wrong with the ranker, there is an answer without it
                self._ranker_breaker.trip()
                unavailable = isinstance(error, UNAVAILABLE_ERRORS) and not isinstance(error, RayTaskError)
                logs.log.warning(
                    "ranker unavailable (%r), serving retrieval order", error, exc_info=None if unavailable else error
                )
        slates = served.recommender.rank(candidates, use_ranker=False)
        return [replace(slate, fallback=slate.fallback or "ranker_unavailable") for slate in slates]

    async def _call_ranker(self, ranker: Calls, served: Served, candidates: list[Candidates]) -> list[Slate]:
        self._num_ranking += 1
        try:
            slates: list[Slate] = await ranker(
                "rank", self._timeout_s, served.model.version, candidates, served.catalogue
            )
        finally:
            self._num_ranking -= 1
        return slates


def started_models(source: BundleSource, config: ServeConfig, kind: str) -> Models:
    """The models of a new replica of a kind, which follow the rollout from now on; sets up logs, threads and memory."""
    logs.start(kind)
    torch.set_num_threads(1)
    memory.keep_freed()
    models = Models(as_model_source(source), open_journal(config.state), kind, live=open_live_window(config))
    models.follow()
    return models


def open_live_window(config: ServeConfig) -> LiveWindow | None:
    """The events whose live counts are added to the fitted ones; None where the configuration counts none."""
    return LiveWindow(open_history(config.state), config.live_count_days) if config.live_count_days else None


def _finished(ruled: RuledRequest | RequestError, slates: Iterator[Slate]) -> Slate | RequestError:
    """A request's slate or page, made of the next slate where one was retrieved for it."""
    if isinstance(ruled, RequestError):
        return ruled
    return ruled.finish(None if ruled.prepared is None else next(slates))


def _present(answer: Answer | RequestError | None) -> Answer | RequestError:
    if answer is None:
        raise RuntimeError("a request of the batch was left without an answer")
    return answer


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
        self._registry = object_storage.local_path(registry) if registry else None
        self._switch = Switch(self._registry, config)

    def __serve_build_asgi_app__(self) -> FastAPI:
        store = open_history(self._config.state)
        parts = Components(
            store=store,
            journal=open_journal(self._config.state),
            keys=self._keys,
            rules=open_documents(self._config.state, rules.KIND),
            placements=open_documents(self._config.state, placements.KIND),
            suggestions=open_documents(self._config.state, suggester.KIND),
            profiles=open_documents(self._config.state, profiles.KIND),
            judgments=open_documents(self._config.state, JUDGMENTS_KIND),
            experiments=open_documents(self._config.state, EXPERIMENTS),
            switch=self._switch,
            traffic=TrafficProfiles(self._registry),
            metrics=self._metrics,
        )
        app = create_app(self._service, self._config, parts)
        Retention(store, self._config).start()
        if self._config.console and not self._keys.known:  # the console has no key of its own
            from serve.console import main_page  # Gradio takes seconds to import

            main_page.mount(app)
        if not self._config.proxy:
            self._listener = Listener(app, self._config.host, self._config.port)
            self._listener.start()
        return app

    def __del__(self) -> None:
        if self._listener is not None:
            self._listener.stop()
