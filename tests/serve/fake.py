"""A recommender small enough to know every answer by heart: ten products, newest first, and one user.

Retrieval proposes the products whose title holds a word of the query (all products without one) in catalogue order;
ranking reverses that order, so that a test can tell the two apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from serve.service import Model
from txrec.errors import UnknownItemError
from txrec.features import History
from txrec.index.filters import Filters
from txrec.slate import Candidates, Event, Request, Slate, SlateItem

TITLES = {f"p{n}": f"{('red', 'blue')[n % 2]} {('lamp', 'kettle', 'tent')[n % 3]} {n}" for n in range(1, 11)}
KNOWN = Event("click", "p1", "lamp", 1_000_000)
_KEYS = list(TITLES)


class FakeRecommender:
    """Implements what `serve.service.SupportsRecommend` asks for."""

    catalogue = SimpleNamespace(
        ids={key: place for place, key in enumerate(TITLES, start=1)}, titles=np.array([None, *TITLES.values()], object)
    )

    def retrieve(self, requests: Sequence[Request]) -> list[Candidates]:
        return [self._candidates(request) for request in requests]

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        return [_slate(one, one.ids[::-1] if use_ranker else one.ids, one.fallback) for one in candidates]

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        return self.rank(self.retrieve(requests))

    def similar(self, item_id: str, top_k: int = 25, filters: Filters | None = None) -> Slate:
        if item_id not in TITLES:
            raise UnknownItemError("item_id", f"{item_id!r} is not in the catalogue")
        others = [key for key in TITLES if key != item_id]
        return Slate(tuple(_item(key, 1.0) for key in others[:top_k]))

    def rank_items(self, item_ids: Sequence[str], request: Request) -> Slate:
        known = sorted(key for key in item_ids if key in TITLES)
        notes = tuple(f"{key} is not in the catalogue" for key in item_ids if key not in TITLES)
        return Slate(tuple(_item(key, 1.0) for key in known), notes=notes)

    def history(self, user_id: str) -> tuple[Event, ...]:
        return (KNOWN,) if user_id == "u1" else ()

    def _candidates(self, request: Request) -> Candidates:
        words = (request.query or "").split()
        hidden = request.exclude | set(request.cart)
        keys = [key for key, title in TITLES.items() if not words or any(word in title.split() for word in words)]
        ids = np.array([_KEYS.index(key) + 1 for key in keys if key not in hidden], np.int32)
        anonymous = not words and not request.events and request.user_id != "u1"
        empty = np.zeros(0, np.int32)
        return Candidates(
            request=request,
            history=History(empty, empty, empty.astype(np.int8), empty.astype(np.int64)),
            query=request.query or "",
            query_vector=np.zeros(1, np.float32),
            state=np.zeros(1, np.float32),
            ids=ids,
            fused=np.linspace(1, 0, len(ids), dtype=np.float32),
            scores=np.zeros((len(ids), 1), np.float32),
            ranks=np.zeros((len(ids), 1), np.int32),
            now_us=0,
            fallback="unknown_user" if anonymous else None,
            notes=tuple(f"{len(request.events)} events" for _ in request.events[:1]),
        )


def _slate(one: Candidates, order: np.ndarray, fallback: str | None) -> Slate:
    before = tuple(_item(_KEYS[number - 1], float(score)) for number, score in zip(one.ids, one.fused, strict=True))
    items = tuple(_item(_KEYS[number - 1], 1.0 / place) for place, number in enumerate(order, start=1))
    if one.request.explain:
        items = tuple(replace(item, reasons=("because",)) for item in items)
    return Slate(items[: one.request.top_k], before, fallback, {"retrieve": 1.0, "rank": 1.0}, one.notes)


def _item(key: str, score: float) -> SlateItem:
    return SlateItem(key, score, TITLES[key], "lexical", {"lexical": score})


def open_fake() -> tuple[FakeRecommender, Model]:
    return FakeRecommender(), Model("v1", "2026-01-01T00:00:00Z", len(TITLES), {"ndcg@10": 0.5})
