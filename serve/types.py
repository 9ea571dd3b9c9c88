"""Value types and protocols of the server: requests, answers and services between the HTTP application and the models.

`Service` is the boundary: the HTTP application knows nothing else, so it runs over the deployments of a Ray cluster
(`serve.deployment.deployed_service.DeployedService`) and over a recommender in this process
(`serve.local_service.LocalService`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from txrec.data.profiles import StoredProfile
from txrec.index.filters.filters import Filters
from txrec.index.live_log import LiveEvent
from txrec.index.source import Mask
from txrec.index.suggestions import Suggestion
from txrec.online.live_window import LiveStatistics
from txrec.recommender.catalogue import ItemChange
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.page_types import PageRequest
from txrec.recommender.resumable import Resumable
from txrec.recommender.rules.rule_types import Products
from txrec.recommender.search.search_page import PagePlan
from txrec.recommender.types import Candidates, Event, Request, Slate
from txrec.registry.rollout import Variant


@dataclass(frozen=True)
class Model:
    """Identity of a served bundle.

    Attributes:
        version: of the bundle.
        created: ISO 8601, or None where the bundle does not say.
        num_items: products in the catalogue.
        last_change: number of the last catalogue change that is applied.
        metrics: name = value on the bundle's test events.
    """

    version: str
    created: str | None = None
    num_items: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    last_change: int = 0


@dataclass(frozen=True)
class ServingRequest:
    """A request as it travels from the ingress to whatever answers it.

    Attributes:
        request: the question; its `events` are those of the session.
        live: the user's logged events; they follow the stored history and come before the session.
        num_candidates: candidates before ranking to return.
        placement: name of the place where the slate is shown, empty = unknown.
        segments: segments of the user, besides those of the users table (see `serve.documents.rules.segments`).
        use_rules: whether merchandising rules act.
        fallback_items: products that fill a slate that is too short.
        depth: products of a slate on which no rule acts, where those are more than `request.top_k`: for exploration.
        key: decides whether the canary answers: the user, or for an anonymous user the request.
        request_id: of the answer; ties a shadow's slate to it.
        page: parts of the answer in addition to the products; None = a plain slate.
        version: that an experiment gave it, empty = production; None = as the rollout says.
        interleaved: versions of the two rankings whose slates become one; None = one ranking.
    """

    request: Request
    live: tuple[Event, ...] = ()
    num_candidates: int = 0
    key: str = ""
    request_id: str = ""
    placement: str = ""
    segments: tuple[str, ...] = ()
    use_rules: bool = True
    fallback_items: tuple[str, ...] = ()
    depth: int = 0
    page: PageRequest | None = None
    version: str | None = None
    interleaved: tuple[str, str] | None = None


@dataclass(frozen=True)
class ProductCheck:
    """Meaning of a selection of products in the catalogue.

    Attributes:
        unknown: item ids that it does not hold.
        num_selected: products that are selected.
        error: why its filters cannot be used; None where they can.
        num_common: named products that fulfil the filters.
    """

    unknown: tuple[str, ...]
    num_selected: int
    error: str | None = None
    num_common: int = 0


@dataclass(frozen=True)
class CacheStats:
    """Lookups in a cache.

    Attributes:
        hits: lookups that were answered from it.
        misses: lookups whose value had to be computed.
    """

    hits: int = 0
    misses: int = 0

    def __add__(self, other: "CacheStats") -> "CacheStats":
        return CacheStats(self.hits + other.hits, self.misses + other.misses)


@dataclass(frozen=True)
class Answer:
    """A slate, the version of the model that made it, and the role of that model.

    Attributes:
        query_vectors: the answering replica's lookups of query vectors since its last answer; for the metrics.
        teams: of the items of an interleaved slate: 0 = the control's, 1 = the other one's, -1 = both had it next.
    """

    slate: Slate
    model_version: str
    variant: Variant = "production"
    query_vectors: CacheStats = CacheStats()
    teams: tuple[int, ...] = ()


@dataclass(frozen=True)
class HistoryItem:
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
    """Boundary of the HTTP application to the models. Methods raise `txrec.errors.RequestError` and its kinds."""

    async def recommend(self, request: ServingRequest) -> Answer:
        """Slate for a user, a query or both."""
        ...

    async def similar(self, item_id: str, request: ServingRequest) -> Answer:
        """Items similar to one; of the request, `top_k`, `filters`, `explain` and the fields of rules count."""
        ...

    async def product_list(self, spec: ListRequest, request: ServingRequest) -> Answer:
        """A list such as trending products."""
        ...

    async def rank(self, item_ids: Sequence[str], request: ServingRequest) -> Answer:
        """Orders the caller's own items."""
        ...

    async def history(self, user_id: str | None, live: Sequence[Event]) -> tuple[HistoryItem, ...]:
        """A user's stored events (None = none) joined with `live` ones, oldest first."""
        ...

    async def profile(self, user_id: str) -> StoredProfile | None:
        """A user's profile in the users table of the model in production."""
        ...

    async def item(self, item_id: str) -> Product | None:
        """A product of the model in production; None for one that it does not know."""
        ...

    async def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products of the model in production, for completion; or else the live queries."""
        ...

    async def audience(self, request: AudienceRequest) -> tuple[AudienceAnswer, str]:
        """The users most likely to want a target, and the version of the model in production."""
        ...

    async def check_products(self, selections: Sequence[Products]) -> tuple[ProductCheck, ...]:
        """Meaning of selections of products in the catalogue of the model in production."""
        ...

    async def live_counts(self) -> LiveStatistics | None:
        """Size of the live window of the replica that answers; None where no live events are counted."""
        ...

    async def model(self) -> Model:
        """The bundle that answers."""
        ...


class ServedCatalogue(Protocol):
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

    def price_of(self, item_idx: int) -> float | None:
        """Price of a product; None where it is unknown."""
        ...

    def at(self, context: Mapping[str, str], now_us: int) -> "ServedCatalogue":
        """The catalogue in the store or country of a context, at a time in microseconds since 1970 UTC."""
        ...

    def mask(self, filters: Filters | None, excluded: Sequence[int] | NDArray[np.int32]) -> Mask:
        """(N + 1,) products that may be shown; None = all of them."""
        ...

    def row(self, key: str) -> dict[str, Any]:
        """Columns of a product; empty for an unknown one."""
        ...


class SupportsRecommend(Protocol):
    """The part of `txrec.recommender.recommender.Recommender` that serving uses; see there."""

    @property
    def catalogue(self) -> ServedCatalogue:
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

    def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products, for completion; or else the queries that live events have taught."""
        ...

    @property
    def num_ranked(self) -> int:
        """Candidates per request that the ranker orders."""
        ...

    @property
    def num_encoded_queries(self) -> int:
        """Query texts so far that had to be encoded."""
        ...

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Slates of every request."""
        ...

    def plan_page(self, request: Request, page: PageRequest) -> PagePlan:
        """A page before its products are ranked."""
        ...

    def similar_to(self, item_id: str, request: Request) -> Slate:
        """Alternatives of a product, under the conditions of a request."""
        ...

    def audience(self, request: AudienceRequest) -> AudienceAnswer:
        """The users most likely to want a target."""
        ...

    def product_list(self, request: Request, spec: ListRequest) -> Slate:
        """A list such as trending products."""
        ...

    def rank_items(self, item_ids: Sequence[str], request: Request) -> Slate:
        """The items of the request in order."""
        ...

    def profile(self, user_id: str | None) -> StoredProfile | None:
        """A user's profile in the users table."""
        ...

    def history(self, user_id: str) -> tuple[Event, ...]:
        """A known user's stored events, oldest first."""
        ...

    def with_live(self, events: Sequence[LiveEvent]) -> "SupportsRecommend":
        """A recommender whose counts include live events, instead of earlier ones."""
        ...

    def with_changes(self, changes: Sequence[ItemChange]) -> "SupportsRecommend":
        """A recommender to which changes of products apply."""
        ...
