"""Why an item is in the slate, in words a merchandiser understands: which past item, which query word, which source."""

import numpy as np

from txrec import schema
from txrec.index.covisitation import HISTORY, Covisitation
from txrec.index.new_items import NAME as NEW_ITEMS
from txrec.index.query_clicks import QueryClicks
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.retriever import Retriever
from txrec.recommender.types import Candidates

MIN_SIMILARITY = 0.3
"""A past item counts as a reason from this cosine on."""


class Explainer:
    """Reasons for the candidates of one request."""

    def __init__(self, catalogue: Catalogue, retriever: Retriever, candidates: Candidates) -> None:
        self._catalogue = catalogue
        self._retriever = retriever
        self._candidates = candidates
        items = candidates.history.item_idx[candidates.history.item_idx != schema.PAD]
        self._past = list(dict.fromkeys(items[::-1].tolist()))[:HISTORY]

    def __call__(self, place: int) -> tuple[str, ...]:
        """Reasons for the candidate at a place of `Candidates`, strongest kind first."""
        item = int(self._candidates.item_idx[place])
        found = [*self._by_query(item), *self._by_clicks(item), *self._by_history(item)]
        if not found and self._proposed_by(place, "popularity"):
            found = ["popular now"]
        if self._proposed_by(place, NEW_ITEMS):
            found.append("new")
        return tuple(found)

    def _by_query(self, item: int) -> list[str]:
        own, analyser = self._catalogue.title_tokens(item), self._catalogue.analyser
        shared = [
            word
            for word in self._candidates.query.split()
            if any(token in own for term in analyser.terms(word) for token, _ in term)
        ]
        return [f"matches {' '.join(shared)!r}"] if shared else []

    def _by_clicks(self, item: int) -> list[str]:
        source, query = self._retriever.sources.get("query_clicks"), self._candidates.query
        if not query or not isinstance(source, QueryClicks):
            return []
        for row in source.similar(query).rows[:10]:
            if source.clicked(int(row), item):
                return [f"chosen by people who searched for {source.text(int(row))!r}"]
        return []

    def _by_history(self, item: int) -> list[str]:
        together = self._together(item)
        if together:
            return [f"goes with {self._name(together)}"]
        past = [other for other in self._past if other != item]
        if not past:
            return ["seen before"] if item in self._past else []
        vectors = self._retriever.dense.vectors
        likeness = vectors[past] @ vectors[item]
        best = int(likeness.argmax())
        return [f"like {self._name(past[best])}"] if likeness[best] >= MIN_SIMILARITY else []

    def _together(self, item: int) -> int:
        source = self._retriever.sources.get("covisitation")
        if not isinstance(source, Covisitation):
            return schema.PAD
        affinity = [_affinity(source, other, item) for other in self._past]
        return self._past[int(np.argmax(affinity))] if any(affinity) else schema.PAD

    def _proposed_by(self, place: int, name: str) -> bool:
        names = self._retriever.names
        return name in names and bool(self._candidates.ranks[place, names.index(name)])

    def _name(self, item: int) -> str:
        return str(self._catalogue.titles[item] or self._catalogue.item_ids[item])


def _affinity(source: Covisitation, other: int, item: int) -> float:
    ids, scores = source.neighbours(other)
    found = scores[ids == item]
    return float(found[0]) if len(found) else 0.0
