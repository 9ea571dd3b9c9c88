"""Service over a recommender in this process, without Ray, and the lookups that every service shares."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from serve.concurrency.circuit_breaker import CircuitBreaker
from serve.documents import rules
from serve.documents.live_documents import LiveDocuments
from serve.experiments import interleaving
from serve.history.user_history import history_items, with_history
from serve.observability.logs import log
from serve.types import Answer, HistoryItem, Model, Product, ProductCheck, ServingRequest, SupportsRecommend
from txrec.data.profiles import StoredProfile
from txrec.errors import RequestError, UnavailableError
from txrec.index.suggestions import Suggestion
from txrec.online.documents import DocumentStore
from txrec.online.journal import ItemJournal
from txrec.online.live_window import LiveStatistics, LiveWindow
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.rules.rule_types import Products
from txrec.recommender.types import Event, Slate
from txrec.registry.rollout import Variant

T = TypeVar("T")
STORE_COOLDOWN_S = 1.0
"""Time without looks at live products, rules and events after a failure of their store, seconds."""


def trim(slate: Slate, num_candidates: int) -> Slate:
    """The slate with at most `num_candidates` candidates: they outweigh the items many times."""
    return replace(slate, candidates=slate.candidates[:num_candidates])


def product(recommender: SupportsRecommend, item_id: str) -> Product | None:
    """A product as a recommender knows it."""
    catalogue = recommender.catalogue
    item_idx = catalogue.idx_of.get(item_id)
    if item_idx is None:
        return None
    on_sale = catalogue.at({}, int(time.time() * 1e6)).on_sale
    return Product(catalogue.row(item_id), on_sale is None or bool(on_sale[item_idx]))


class LocalService:
    """A recommender in this process. One request at a time: for tests, notebooks and small shops without Ray."""

    def __init__(
        self,
        recommender: SupportsRecommend,
        model: Model,
        journal: ItemJournal | None = None,
        documents: DocumentStore | None = None,
        others: Mapping[str, SupportsRecommend] | None = None,
        live: LiveWindow | None = None,
    ) -> None:
        """Takes the recommender and its identity, live products, rules, other versions by name, and live events."""
        self._others = dict(others or {})
        self._rules = LiveDocuments(documents or SqliteDocuments(kind=rules.KIND), rules.compile_rules)
        self._recommender = recommender
        self._model = model
        self._journal = journal or SqliteJournal()
        self._journal_version = 0
        self._live = live
        self._live_version = 0
        self._store = CircuitBreaker(STORE_COOLDOWN_S)
        self._busy = asyncio.Lock()

    async def recommend(self, request: ServingRequest) -> Answer:
        """Ranks the candidates of retrieval."""
        parts = interleaving.split(request)
        answers = [await self._run(partial(self._recommend, request=part)) for part in parts]
        (answer,) = interleaving.joined([request], answers)
        if isinstance(answer, RequestError):
            raise answer
        return answer

    async def similar(self, item_id: str, request: ServingRequest) -> Answer:
        """Items similar to one."""
        slate = await self._run(lambda recommender: rules.similar(self._rules.current, request, item_id, recommender))
        return Answer(slate, self._model.version)

    async def product_list(self, spec: ListRequest, request: ServingRequest) -> Answer:
        """A list such as trending products."""
        slate = await self._run(
            lambda recommender: rules.product_list(
                self._rules.current, request, with_history(recommender, request), spec, recommender
            )
        )
        return Answer(slate, self._model.version)

    async def rank(self, item_ids: Sequence[str], request: ServingRequest) -> Answer:
        """Orders the caller's own items."""
        slate = await self._run(
            lambda recommender: rules.own_list(
                self._rules.current, request, with_history(recommender, request), item_ids, recommender
            )
        )
        return Answer(slate, self._model.version)

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[HistoryItem, ...]:
        """Stored and live events of a user."""
        return await self._run(lambda recommender: history_items(recommender, user_id, live))

    async def profile(self, user_id: str) -> StoredProfile | None:
        """A user's profile in the users table."""
        return await self._run(lambda recommender: recommender.profile(user_id))

    async def item(self, item_id: str) -> Product | None:
        """A product."""
        return await self._run(lambda recommender: product(recommender, item_id))

    async def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products, for completion; or else the live queries."""
        return await self._run(lambda recommender: recommender.suggestions(live))

    async def audience(self, request: AudienceRequest) -> tuple[AudienceAnswer, str]:
        """The users most likely to want a target, and the model's version."""
        return await self._run(lambda known: known.audience(request)), self._model.version

    async def check_products(self, selections: Sequence[Products]) -> tuple[ProductCheck, ...]:
        """Meaning of selections of products."""
        return await self._run(lambda recommender: rules.check_products(recommender, selections))

    async def live_counts(self) -> LiveStatistics | None:
        """Size of the live window."""
        return await self._run(lambda _: None if self._live is None else self._live.statistics)

    async def model(self) -> Model:
        """The bundle that answers."""
        return await self._run(lambda _: self._model)

    def _recommend(self, recommender: SupportsRecommend, request: ServingRequest) -> Answer:
        other = self._others.get(request.version or "")
        variant: Variant = "production" if other is None else "experiment"
        known, version = (recommender, self._model.version) if other is None else (other, str(request.version))
        ruled = rules.prepare(self._rules.current, request, with_history(known, request), known)
        slate = ruled.finish(None if ruled.prepared is None else known.recommend([ruled.prepared])[0])
        return interleaving.marked(Answer(trim(slate, request.num_candidates), version, variant), request)

    async def _run(self, call: Callable[[SupportsRecommend], T]) -> T:
        async with self._busy:
            return await asyncio.to_thread(self._ask, call)

    def _ask(self, call: Callable[[SupportsRecommend], T]) -> T:
        if not self._store.is_open:
            try:
                self._refresh()
            except UnavailableError as error:
                log.warning("products, rules and counts stay as they are: %s", error)
                self._store.trip()
        return call(self._recommender)

    def _refresh(self) -> None:
        changes = self._journal.since(self._journal_version)
        if changes.items:
            self._recommender = self._recommender.with_changes(changes.items)
            self._journal_version = changes.version
            self._model = replace(self._model, last_change=changes.version)
        if self._live is not None:
            self._live.refresh()
            if changes.items or self._live.version != self._live_version:
                self._live_version = self._live.version
                self._recommender = self._recommender.with_live(self._live.events())
        self._rules.refresh()
