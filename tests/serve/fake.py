"""A recommender small enough to know every answer by heart: ten products, newest first, and one user.

Retrieval proposes the products whose title holds a word of the query (all products without one) in catalogue order;
ranking reverses that order, so that a test can tell the two apart. The ranker breaks at the query BREAKING.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.types import Model
from txrec.data.profiles import StoredProfile
from txrec.errors import RequestError, UnknownItemError
from txrec.index.filters.filters import Filters
from txrec.index.live_log import LiveEvent
from txrec.index.suggestions import Suggestion
from txrec.model.history_features import History
from txrec.recommender.catalogue import ItemChange
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest, Member
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.page_types import PageRequest
from txrec.recommender.resumable import Resumable, run_to_completion
from txrec.recommender.search.search_page import PagePlan
from txrec.recommender.types import Candidates, Event, Request, Slate, SlateItem

TITLES = {f"p{n}": f"{('red', 'blue')[n % 2]} {('lamp', 'kettle', 'tent')[n % 3]} {n}" for n in range(1, 11)}
BREAKING = "defect"
KNOWN = Event("click", "p1", "lamp", 1_000_000)


class FakeCatalogue:
    """Titles by item_id, in the order of item_idx."""

    def __init__(self, titles: Mapping[str, str | None], retired: frozenset[int] = frozenset()) -> None:
        self.item_ids = ["", *titles]
        self.idx_of = {key: place for place, key in enumerate(titles, start=1)}
        self.titles = np.array([None, *titles.values()], object)
        self.retired = retired

    @property
    def on_sale(self) -> NDArray[np.bool_]:
        return np.array([place not in self.retired for place in range(len(self.item_ids))])

    def price_of(self, item_idx: int) -> float | None:
        return None

    def at(self, context: Mapping[str, str], now_us: int) -> "FakeCatalogue":
        return self

    def mask(self, filters: Filters | None, excluded: Sequence[int] | NDArray[np.int32]) -> NDArray[np.bool_] | None:
        return self.on_sale if self.retired else None

    def row(self, key: str) -> dict[str, Any]:
        if key not in self.idx_of:
            return {}
        blank = dict.fromkeys(("description", "category", "brand", "price", "available"))
        return {"item_id": key, "title": self.titles[self.idx_of[key]], **blank, "attributes": {}}


class FakeRecommender:
    """Implements what `serve.types.SupportsRecommend` asks for."""

    def __init__(self, catalogue: FakeCatalogue | None = None) -> None:
        self.catalogue = catalogue or FakeCatalogue(TITLES)

    def retrieve_in_steps(self, requests: Sequence[Request]) -> Resumable[list[Candidates]]:
        found = []
        for request in requests:
            found.append(self._candidates(request))
            yield
        return found

    def suggestions(self, live: bool = False) -> list[Suggestion]:
        if live:
            return []
        kinds = [Suggestion("red lamp", "query", 5.0), Suggestion("kettles", "category", 2.0)]
        titles = zip(self.catalogue.idx_of, self.catalogue.titles[1:], strict=True)
        return [*kinds, *(Suggestion(str(title), "product", 1.0, key) for key, title in titles)]

    def plan_page(self, request: Request, page: PageRequest) -> PagePlan:
        raise RequestError("facets", "the fake recommender has no pages")

    def with_live(self, events: Sequence[LiveEvent]) -> "FakeRecommender":
        return self

    num_encoded_queries = 0
    num_ranked = 10

    def shortlist(self, candidates: Sequence[Candidates]) -> list[Candidates]:
        return list(candidates)

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        if use_ranker and any(one.query == BREAKING for one in candidates):
            raise ZeroDivisionError("inner detail")
        return [self._slate(one, one.item_idx[::-1] if use_ranker else one.item_idx) for one in candidates]

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        return self.rank(run_to_completion(self.retrieve_in_steps(requests)))

    def similar(
        self,
        item_id: str,
        top_k: int = 25,
        filters: Filters | None = None,
        context: Mapping[str, str] | None = None,
        explain: bool = False,
    ) -> Slate:
        if item_id not in self.catalogue.idx_of:
            raise UnknownItemError.of("item_id", item_id)
        others = [key for key in self.catalogue.idx_of if key != item_id]
        return Slate(tuple(self._item(key, 1.0) for key in others[:top_k]))

    def similar_to(self, item_id: str, request: Request) -> Slate:
        return self.similar(item_id, request.top_k, request.filters, request.context, request.explain)

    def audience(self, request: AudienceRequest) -> AudienceAnswer:
        if any(item_id not in self.catalogue.idx_of for item_id in request.items):
            raise UnknownItemError("items", "not in the catalogue")
        members = tuple(Member(f"u{n}", 1.0 / n, 0, 0) for n in range(1, 61))
        return AudienceAnswer(members[: request.top_n], 60, 60, 1)

    def product_list(self, request: Request, spec: ListRequest) -> Slate:
        return self.similar("p1", request.top_k)

    def rank_items(self, item_ids: Sequence[str], request: Request) -> Slate:
        known = sorted(key for key in item_ids if key in self.catalogue.idx_of)
        notes = tuple(f"{key} is not in the catalogue" for key in item_ids if key not in self.catalogue.idx_of)
        return Slate(tuple(self._item(key, 1.0) for key in known), notes=notes)

    def history(self, user_id: str) -> tuple[Event, ...]:
        return (KNOWN,) if user_id == "u1" else ()

    def profile(self, user_id: str | None) -> StoredProfile | None:
        return StoredProfile({"tier": "silver"}, ("club",)) if user_id == "u1" else None

    def with_changes(self, changes: Sequence[ItemChange]) -> "FakeRecommender":
        titles = dict(zip(self.catalogue.idx_of, self.catalogue.titles[1:], strict=True))
        gone = {self.catalogue.item_ids[place] for place in self.catalogue.retired}
        for change in sorted(changes, key=lambda change: change.first_seq):
            if change.first_seq:
                titles[change.item_id] = change.fields.get("title", titles.get(change.item_id))
            out = change.retired or change.fields.get("available") is False
            gone = gone | {change.item_id} if out else gone - {change.item_id}
        places = {key: place for place, key in enumerate(titles, start=1)}
        return FakeRecommender(FakeCatalogue(titles, frozenset(places[key] for key in gone if key in places)))

    def _candidates(self, request: Request) -> Candidates:
        words = (request.query or "").split()
        retired = {self.catalogue.item_ids[place] for place in self.catalogue.retired}
        hidden = request.exclude | set(request.cart) | retired
        ids = [
            place
            for key, place in self.catalogue.idx_of.items()
            if key not in hidden
            and (not words or any(word in (self.catalogue.titles[place] or "").split() for word in words))
        ]
        anonymous = not words and not request.events and request.user_id != "u1"
        empty = np.zeros(0, np.int32)
        return Candidates(
            request=request,
            history=History(empty, empty, empty.astype(np.int8), empty.astype(np.int64)),
            query=request.query or "",
            query_vector=np.zeros(1, np.float32),
            state=np.zeros(1, np.float32),
            item_idx=np.array(ids, np.int32),
            fused=np.linspace(1, 0, len(ids), dtype=np.float32),
            scores=np.zeros((len(ids), 1), np.float32),
            ranks=np.zeros((len(ids), 1), np.int32),
            now_us=0,
            fallback="unknown_user" if anonymous else None,
            notes=tuple(f"{len(request.events)} events" for _ in request.events[:1]),
        )

    def _slate(self, one: Candidates, order: np.ndarray) -> Slate:
        keys = self.catalogue.item_ids
        before = tuple(
            self._item(keys[place], float(score)) for place, score in zip(one.item_idx, one.fused, strict=True)
        )
        items = tuple(self._item(keys[place], 1.0 / rank) for rank, place in enumerate(order, start=1))
        if one.request.explain:
            items = tuple(replace(item, reasons=("because",)) for item in items)
        return Slate(items[: one.request.top_k], before, one.fallback, {"retrieve": 1.0, "rank": 1.0}, one.notes)

    def _item(self, key: str, score: float) -> SlateItem:
        return SlateItem(key, score, self.catalogue.titles[self.catalogue.idx_of[key]], "lexical", {"lexical": score})


def open_fake() -> tuple[FakeRecommender, Model]:
    return FakeRecommender(), Model("v1", "2026-01-01T00:00:00Z", len(TITLES), {"ndcg@10": 0.5})
