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

from txrec.index.filters import Filters
from txrec.recommend import Recommender
from txrec.slate import Candidates, Event, Request, Slate

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
    """

    request: Request
    num_candidates: int = 0


@dataclass(frozen=True)
class Answer:
    """A slate and the version of the model that made it."""

    slate: Slate
    model_version: str


@dataclass(frozen=True)
class Seen:
    """One event of a stored history with its product's title."""

    event: Event
    title: str | None


class Service(Protocol):
    """Everything that the HTTP application needs. Methods raise `txrec.errors.RequestError` and its kinds."""

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds for a user, a query or both."""
        ...

    async def similar(self, item_id: str, top_k: int, filters: Filters | None) -> Answer:
        """Items like this one."""
        ...

    async def rank(self, item_ids: Sequence[str], request: Request) -> Answer:
        """Orders the caller's own items."""
        ...

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """A user's stored events (None = nobody's) joined with `live` ones, oldest first."""
        ...

    async def model(self) -> Model:
        """The bundle that answers."""
        ...


class Titles(Protocol):
    """The part of `txrec.catalogue.Catalogue` that serving uses."""

    @property
    def ids(self) -> Mapping[str, int]:
        """Raw id -> dense id."""
        ...

    @property
    def titles(self) -> NDArray[np.object_]:
        """(N + 1,) titles by dense id."""
        ...


class SupportsRecommend(Protocol):
    """The part of `txrec.recommend.Recommender` that serving uses; see there."""

    @property
    def catalogue(self) -> Titles:
        """The products."""
        ...

    def retrieve(self, requests: Sequence[Request]) -> list[Candidates]:
        """Candidates of every request."""
        ...

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        """Slates from candidates; in retrieval order without the ranker."""
        ...

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """`rank` after `retrieve`."""
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
    """Opens and verifies a bundle.

    Raises:
        BundleError: no bundle there, or a damaged one.
    """
    recommender = Recommender.open(path)
    manifest = recommender.bundle.manifest
    model = Model(manifest.version, manifest.created, len(recommender.catalogue), _numbers(manifest.metrics))
    return recommender, model


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
    return tuple(Seen(event, catalogue.titles[catalogue.ids.get(event.item_id or "", 0)]) for event in events)


class LocalService:
    """A recommender in this process. One request at a time: for tests, notebooks and small shops without Ray."""

    def __init__(self, recommender: SupportsRecommend, model: Model) -> None:
        self._recommender = recommender
        self._model = model
        self._busy = asyncio.Lock()

    async def recommend(self, asked: Asked) -> Answer:
        """Ranks what retrieval finds."""
        request = with_history(self._recommender, asked.request)
        slate = await self._run(lambda: self._recommender.recommend([request])[0])
        return Answer(trim(slate, asked.num_candidates), self._model.version)

    async def similar(self, item_id: str, top_k: int, filters: Filters | None) -> Answer:
        """Items like this one."""
        return Answer(await self._run(lambda: self._recommender.similar(item_id, top_k, filters)), self._model.version)

    async def rank(self, item_ids: Sequence[str], request: Request) -> Answer:
        """Orders the caller's own items."""
        request = with_history(self._recommender, request)
        return Answer(await self._run(lambda: self._recommender.rank_items(item_ids, request)), self._model.version)

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[Seen, ...]:
        """Stored and live events of a user."""
        return seen(self._recommender, user_id, live)

    async def model(self) -> Model:
        """The bundle that answers."""
        return self._model

    async def _run(self, call: Callable[[], T]) -> T:
        async with self._busy:
            return await asyncio.to_thread(call)
