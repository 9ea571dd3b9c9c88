"""Reasons for recommended items in plain words: the matching query words, past items, and candidate sources."""

from txrec import schema
from txrec.index.sources.covisitation import HISTORY
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.retrieval.retriever import Retriever
from txrec.recommender.types import Candidates

MIN_SIMILARITY = 0.3
"""Least cosine from which a past item counts as a reason."""


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
        reasons = [*self._by_query(item), *self._by_clicks(item), *self._by_history(item)]
        proposing = [
            source
            for source, rank in zip(
                self._retriever.sources.values(), self._candidates.ranks[place].tolist(), strict=True
            )
            if rank
        ]
        if not reasons:
            reasons = [source.fallback_reason for source in proposing if source.fallback_reason]
        return (*reasons, *(source.proposal_reason for source in proposing if source.proposal_reason))

    def _by_query(self, item: int) -> list[str]:
        own, analyser = self._catalogue.title_tokens(item), self._catalogue.analyser
        shared = [
            word
            for word in self._candidates.query.split()
            if any(token in own for term in analyser.terms(word) for token, _ in term)
        ]
        return [f"matches {' '.join(shared)!r}"] if shared else []

    def _by_clicks(self, item: int) -> list[str]:
        query = self._candidates.query
        reasons = (source.query_reason(query, item) for source in self._retriever.sources.values()) if query else ()
        return [reason for reason in reasons if reason]

    def _by_history(self, item: int) -> list[str]:
        by_source = [source.history_reason(self._past, item, self._name) for source in self._retriever.sources.values()]
        reasons = [reason for reason in by_source if reason]
        if reasons:
            return reasons
        past = [other for other in self._past if other != item]
        if not past:
            return ["seen before"] if item in self._past else []
        vectors = self._retriever.dense.vectors
        similarity = vectors[past] @ vectors[item]
        best = int(similarity.argmax())
        return [f"like {self._name(past[best])}"] if similarity[best] >= MIN_SIMILARITY else []

    def _name(self, item: int) -> str:
        return str(self._catalogue.titles[item] or self._catalogue.item_ids[item])
