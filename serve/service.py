"""What the ingress asks for, apart from how it is deployed.

`Service` is the boundary: the ingress knows nothing else, so the same HTTP application runs over deployments of a Ray
cluster (`serve.deployments`) and over a recommender in this process (`LocalService`).
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from txrec.errors import BundleError
from txrec.index.filters import Filters
from txrec.index.source import Mask
from txrec.online.journal import ItemJournal
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender.bundle import Manifest
from txrec.recommender.catalogue import ItemChange
from txrec.recommender.recommender import Recommender
from txrec.recommender.resumable import Resumable
from txrec.recommender.types import Candidates, Event, Request, Slate
from txrec.registry.rollout import Variant

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """Identity of a served bundle.

    Attributes:
        version: of the bundle.
        created: ISO 8601, or None where the bundle does not say.
        num_items: products in the catalogue.
        metrics: name = value on the bundle's test events.
    """

    version: str
    created: str | None = None
    num_items: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request and what else the caller wants to see of the answer.

    Attributes:
        request: the question; its `events` follow the stored history.
        num_candidates: candidates before ranking to return.
        key: decides whether the canary answers: the user, or for somebody anonymous the request.
        request_id: of the answer; ties a shadow's slate to it.
    """

    request: Request
    num_candidates: int = 0
    key: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class Answer:
    """A slate, the version of the model that made it, and what that model is served as.

    Attributes:
        lookups: query texts whose vectors were at hand, and those that had to be encoded, since the answerer's last
            answer; for the figures.
    """

    slate: Slate
    model_version: str
    variant: Variant = "production"
    lookups: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Seen:
    """One event of a stored history with its product's title."""

    event: Event
    title: str | None


@dataclass(frozen=True)
class Product:
    """A product as the model in production knows it.

    Attributes:
        fields: columns of schema.ITEMS.
        on_sale: whether it may be shown.
    """

    fields: Mapping[str, Any]
    on_sale: bool


class Service(Protocol):
    """Everything that the HTTP application needs. Methods raise `txrec.errors.RequestError` and its kinds."""

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds for a user, a query or both."""
        ...

    async def similar(self, item_id: str, top_k: int, filters: Filters | None, key: str = "") -> Answer:
        """Items like this one."""
        ...

    async def rank(self, item_ids: Sequence[str], asked: Asked) -> Answer:
        """Orders the caller's own items."""
        ...

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """A user's stored events (None = nobody's) joined with `live` ones, oldest first."""
        ...

    async def item(self, item_id: str) -> Product | None:
        """A product of the model in production; None for one that it does not know."""
        ...

    async def model(self) -> Model:
        """The bundle that answers."""
        ...


class Products(Protocol):
    """The part of `txrec.recommender.catalogue.Catalogue` that serving uses."""

    @property
    def idx_of(self) -> Mapping[str, int]:
        """item_id -> item_idx."""
        ...

    @property
    def titles(self) -> NDArray[np.object_]:
        """(N + 1,) titles by item_idx."""
        ...

    @property
    def on_sale(self) -> Mask:
        """(N + 1,) products that may be shown; None = all of them."""
        ...

    def row(self, key: str) -> dict[str, Any]:
        """What is known of a product; empty for an unknown one."""
        ...


class SupportsRecommend(Protocol):
    """The part of `txrec.recommender.recommender.Recommender` that serving uses; see there."""

    @property
    def catalogue(self) -> Products:
        """The products."""
        ...

    def retrieve_in_steps(self, requests: Sequence[Request]) -> Resumable[list[Candidates]]:
        """Candidates of every request, step by step."""
        ...

    def shortlist(self, candidates: Sequence[Candidates]) -> list[Candidates]:
        """The candidates that can be in a slate."""
        ...

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        """Slates from candidates; in retrieval order without the ranker."""
        ...

    @property
    def num_encoded_queries(self) -> int:
        """Query texts so far that had to be encoded."""
        ...

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Slates of every request."""
        ...

    def similar(self, item_id: str, top_k: int = 25, filters: Filters | None = None) -> Slate:
        """Items like this one."""
        ...

    def rank_items(self, item_ids: Sequence[str], request: Request) -> Slate:
        """The given items in order."""
        ...

    def history(self, user_id: str) -> tuple[Event, ...]:
        """A known user's stored events, oldest first."""
        ...

    def with_changes(self, changes: Sequence[ItemChange]) -> "SupportsRecommend":
        """A recommender to which changes of products apply."""
        ...


def with_history(recommender: SupportsRecommend, request: Request) -> Request:
    """Puts the stored history before the request's own events; without any the recommender looks it up itself."""
    if request.user_id is None or not request.events:
        return request
    return replace(request, events=follow(recommender.history(request.user_id), request.events))


def follow(stored: tuple[Event, ...], later: Sequence[Event]) -> tuple[Event, ...]:
    """Stored and later events as one history in time order.

    What both hold (the model was trained on an export of the later ones) counts once. Events without a time keep their
    place: after all that is stored.
    """
    known = {(event.ts, event.event, event.item_id) for event in stored if event.ts}
    fresh = tuple(event for event in later if (event.ts, event.event, event.item_id) not in known)
    if not all(event.ts for event in stored):
        return stored + fresh
    return tuple(sorted(stored + fresh, key=lambda event: event.ts or math.inf))


def open_bundle(path: str) -> tuple[Recommender, Model]:
    """Opens a bundle, verifies it, and asks it what everybody may ask before anybody does.

    Raises:
        BundleError: no bundle there, a damaged one, or one that does not answer.
    """
    recommender = Recommender.open(path)
    model = replace(describe(recommender.bundle.manifest), num_items=len(recommender.catalogue))
    try_out(recommender, recommender.config.publish.smoke_queries)
    return recommender, model


def describe(manifest: Manifest) -> Model:
    """A bundle that need not be open; the number of its products is not in its manifest."""
    return Model(manifest.version, manifest.created, 0, _numbers(manifest.metrics))


def try_out(recommender: SupportsRecommend, queries: Sequence[str]) -> None:
    """Checks answers to smoke queries and to somebody unknown.

    Raises:
        BundleError: there is none, or a score is no number.
    """
    requests = [Request(top_k=1), *(Request(query=query, top_k=1) for query in queries)]
    for request, slate in zip(requests, recommender.recommend(requests), strict=True):
        asked = f"the query {request.query!r}" if request.query else "a request of nobody"
        if not slate.items:
            raise BundleError(f"the bundle has no answer to {asked}")
        if not all(math.isfinite(item.score) for item in slate.items):
            raise BundleError(f"the bundle answers {asked} with scores that are no numbers; its weights are damaged")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The test metrics of a report, or a flat mapping of numbers."""
    table = metrics.get("test", metrics)
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}


def trim(slate: Slate, num_candidates: int) -> Slate:
    """Drops the candidates that nobody asked to see: they outweigh the slate many times."""
    return replace(slate, candidates=slate.candidates[:num_candidates])


def seen(recommender: SupportsRecommend, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
    """A user's stored and live events with titles."""
    catalogue = recommender.catalogue
    events = follow(recommender.history(user_id) if user_id is not None else (), live)
    return tuple(Seen(event, catalogue.titles[catalogue.idx_of.get(event.item_id or "", 0)]) for event in events)


def product(recommender: SupportsRecommend, item_id: str) -> Product | None:
    """A product as a recommender knows it."""
    catalogue = recommender.catalogue
    place = catalogue.idx_of.get(item_id)
    if place is None:
        return None
    return Product(catalogue.row(item_id), catalogue.on_sale is None or bool(catalogue.on_sale[place]))


class LocalService:
    """A recommender in this process. One request at a time: for tests, notebooks and small shops without Ray."""

    def __init__(self, recommender: SupportsRecommend, model: Model, journal: ItemJournal | None = None) -> None:
        """Takes what answers, and the changes of products that it is to follow."""
        self._recommender = recommender
        self._model = model
        self._journal = journal or SqliteJournal()
        self._validation_score = 0
        self._busy = asyncio.Lock()

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds."""
        slate = await self._run(lambda known: known.recommend([with_history(known, asked.request)])[0])
        return Answer(trim(slate, asked.num_candidates), self._model.version)

    async def similar(self, item_id: str, top_k: int, filters: Filters | None, key: str = "") -> Answer:  # noqa: ARG002
        """Items like this one."""
        return Answer(await self._run(lambda known: known.similar(item_id, top_k, filters)), self._model.version)

    async def rank(self, item_ids: Sequence[str], asked: Asked) -> Answer:
        """Orders the caller's own items."""
        slate = await self._run(lambda known: known.rank_items(item_ids, with_history(known, asked.request)))
        return Answer(slate, self._model.version)

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        return await self._run(lambda known: seen(known, user_id, live))

    async def item(self, item_id: str) -> Product | None:
        """A product."""
        return await self._run(lambda known: product(known, item_id))

    async def model(self) -> Model:
        """The bundle that answers."""
        return self._model

    async def _run(self, call: Callable[[SupportsRecommend], T]) -> T:
        async with self._busy:
            return await asyncio.to_thread(self._ask, call)

    def _ask(self, call: Callable[[SupportsRecommend], T]) -> T:
        changes = self._journal.since(self._validation_score)
        if changes.items:
            self._recommender = self._recommender.with_changes(changes.items)
            self._validation_score = changes.version
        return call(self._recommender)
