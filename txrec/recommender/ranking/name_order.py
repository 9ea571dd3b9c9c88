"""Order of a search's candidates by their names: article numbers, and products with hardly any events."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.types import Candidates
from txrec.text import normalise, word_trigrams
from txrec.text.article_numbers import Match

MAX_LEXICAL_RANK = 10
"""Products with hardly any events keep the lexical ranks down to this one."""
FEW_EVENTS = 2
"""Events of a product up to which its clicks tell less than its name."""
SPELLED_ALIKE = 0.6
"""Share of the trigrams of a word that no product has, from which on a title with them is taken to have the word."""
PROVEN_CLICKS = 1.0
"""Clicks after the query and like ones, from which on a product is not overtaken by a rare one, unless that has half
as many. Chosen with `FEW_EVENTS` on four weeks of Best Buy's log before the test (docs/experiments)."""

MIN_LIVE_CLICKS = 2.0
"""Decayed clicks that bring a product to the front of a query that is new; one may be a mistake."""


class _Term(NamedTuple):
    """A term of a query."""

    word: str
    """Its first token."""
    tokens: frozenset[str]
    """Alternatives of which a title has one."""
    unknown_grams: frozenset[str]
    """Trigrams of the word where no product has any of the tokens; else none."""


class NameOrder:
    """Orders of the candidates of one search."""

    def __init__(self, ranking_features: RankingFeatures, candidates: Candidates) -> None:
        """Takes the request's candidates and the fitted sources."""
        self._features = ranking_features
        self._candidates = candidates
        sources = ranking_features.sources
        self._sources = tuple(sources.values())
        self._lexical = sources.get("lexical")
        self._every_term: dict[int, bool] = {}
        self._column = list(sources).index("lexical") if "lexical" in sources else -1

    def named_first(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """(K,) places in `Candidates`: those named by article number before all others, the closest match first."""
        named = [source.named(self._candidates.query) for source in self._features.sources.values()]
        whole = {idx: match for one in named for idx, match in one.items() if match >= Match.SQUEEZED}
        if not whole:
            return order
        match = np.array([whole.get(idx, 0) for idx in self._candidates.item_idx[order].tolist()])
        moved: NDArray[np.int64] = order[np.argsort(-match, kind="stable")]
        return moved

    def learned_first(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """(K,) places in `Candidates`: of a query that is new, with words that no product holds, clicked ones first.

        Nothing that the ranker was trained on says anything about such a query; the latest clicks do.
        """
        clicks_by_source = [
            source.live_clicks(self._candidates.query, self._candidates.item_idx) for source in self._sources
        ]
        clicks = next((one for one in clicks_by_source if one is not None), None)
        if clicks is None or any(not term.unknown_grams for term in self._terms):
            return order
        counted = np.where(clicks >= MIN_LIVE_CLICKS, clicks, 0)[order]
        moved: NDArray[np.int64] = order[np.argsort(-counted, kind="stable")]
        return moved

    def rare_by_lexical_rank(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """(K,) places in `Candidates`: products with few events that have all terms, no later than lexical rank."""
        if self._column < 0:
            return order
        ranks = self._candidates.ranks[order, self._column]
        rare = self._features.activity.plain[self._candidates.item_idx[order]] <= FEW_EVENTS
        late = np.flatnonzero(rare & (ranks > 0) & (ranks <= MAX_LEXICAL_RANK) & (ranks <= np.arange(len(order))))
        late = late[[self._has_every_term(int(order[place])) for place in late.tolist()]] if len(late) else late
        if not len(late):
            return order
        moved, (same, like) = order.tolist(), self._clicks()
        for place in late[np.argsort(ranks[late], kind="stable")].tolist():
            candidate = int(order[place])
            proven = max(PROVEN_CLICKS, 2 * float(like[candidate]))
            at, first = moved.index(candidate), int(ranks[place]) - 1
            while at > first and not self._is_proven(moved[at - 1], same, like, proven):
                at -= 1
            moved.remove(candidate)
            moved.insert(at, candidate)
        return np.array(moved, np.int64)

    def _is_proven(self, candidate: int, same: NDArray[np.float32], like: NDArray[np.float32], clicks: float) -> bool:
        """True where people chose a product for the query, or for like ones that it meets as well as this one."""
        return bool(same[candidate] > clicks) or (bool(like[candidate] > clicks) and self._has_every_term(candidate))

    def _has_every_term(self, candidate: int) -> bool:
        """True where a title has all terms of the query but generic ones; of unknown ones, words spelled alike."""
        known = self._every_term.get(candidate)
        if known is None:
            known = self._every_term[candidate] = self._meets(int(self._candidates.item_idx[candidate]))
        return known

    def _meets(self, item_idx: int) -> bool:
        catalogue = self._features.catalogue
        title = catalogue.title_tokens(item_idx)
        required = [term for term in self._terms if term.word not in self._features.generic_words]
        for term in required:
            if not term.tokens.isdisjoint(title):
                continue
            grams = term.unknown_grams
            spelled = set(word_trigrams(normalise(catalogue.titles[item_idx] or ""))) if grams else set()
            if not grams or len(grams & spelled) < SPELLED_ALIKE * len(grams):
                return False
        return bool(required)

    @cached_property
    def _terms(self) -> list["_Term"]:
        """Terms of the query in reading order."""
        lexical, terms = self._lexical, []
        for term in self._features.catalogue.analyser.terms(self._candidates.query):
            tokens = frozenset(token for token, _ in term)
            unknown = lexical is not None and not any(lexical.knows(token) for token in tokens)
            word = term[0][0]
            terms.append(_Term(word, tokens, frozenset(word_trigrams(word)) if unknown else frozenset()))
        return terms

    def _clicks(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(K,) clicks of each candidate after the query, and (K,) after it and like ones."""
        clicks = self._features.sources.get("query_clicks")
        counts = clicks.click_counts(self._candidates.query, self._candidates.item_idx) if clicks else None
        if counts is None:
            nothing = np.zeros(len(self._candidates), np.float32)
            return nothing, nothing
        return counts.own[:, -1], counts.votes[:, -1]
