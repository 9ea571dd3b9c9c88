"""Matching products of a query: those that hold all of its words, the nearest ones where none does, and spelling.

Ranked retrieval always finds something; a search page also has to say how many products match and which do not. A
product matches that holds every word of the query in one of its alternatives (spellings, compounds, synonyms), words
such as `for` and `the` aside, or that people chose after the very same query. Where no product does, the page answers
the nearest query that has results and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import bm25s.stopwords
import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

from txrec.index.source import Source
from txrec.recommender.page_types import MatchKind
from txrec.text import Analyser, QueryTerm, normalise
from txrec.text.folding import fold
from txrec.text.keyboard import other_layouts
from txrec.text.segmentation import SIGNED_WORD, clusters, is_unspaced, words

STOP_WORDS: Mapping[str, Sequence[str]] = {
    "da": bm25s.stopwords.STOPWORDS_DANISH,
    "de": bm25s.stopwords.STOPWORDS_GERMAN,
    "en": bm25s.stopwords.STOPWORDS_EN,
    "es": bm25s.stopwords.STOPWORDS_SPANISH,
    "fr": bm25s.stopwords.STOPWORDS_FRENCH,
    "it": bm25s.stopwords.STOPWORDS_ITALIAN,
    "nl": bm25s.stopwords.STOPWORDS_DUTCH,
    "no": bm25s.stopwords.STOPWORDS_NORWEGIAN,
    "pt": bm25s.stopwords.STOPWORDS_PORTUGUESE,
    "ru": bm25s.stopwords.STOPWORDS_RUSSIAN,
    "sv": bm25s.stopwords.STOPWORDS_SWEDISH,
    "tr": bm25s.stopwords.STOPWORDS_TURKISH,
}
"""Words that a product need not hold, by language."""
MIN_CLICKS = 2.0
"""Clicks after the very same query that make a product match without its words; one may be a mistake."""
FEW_MATCHES = 3
"""Another spelling is looked for where fewer products match."""
MIN_CORRECTED, LONG_WORD = 4, 8
"""Letters of the shortest word that is corrected, and of the shortest that may hold two mistakes instead of one."""
MAX_SPELLINGS = 20


@dataclass(frozen=True, eq=False)
class Match:
    """Products that match a query.

    Attributes:
        mask: (N + 1,) the products, whatever a request filters out; None = every product (no query, or nothing near).
        kind: `all`: they hold every word; `corrected`: those of another spelling; `partial`: of most words; `nearest`:
            no product holds any word.
        query: the query that they match.
        did_you_mean: a spelling that finds more; None = none.
    """

    mask: NDArray[np.bool_] | None
    kind: MatchKind
    query: str
    did_you_mean: str | None = None


class Matcher:
    """Matching products of queries over one catalogue.

    Args:
        sources: candidate sources, of which one may read texts and one may count clicks.
        analyser: the shop's text analyser.
        num_items: N, products of the catalogue.
        speller: corrects words.
    """

    def __init__(self, sources: Mapping[str, Source], analyser: Analyser, num_items: int, speller: "Speller") -> None:
        self._sources = sources
        self._analyser = analyser
        self._size = num_items + 1
        self._speller = speller

    def match(self, query: str, variants: Sequence[str] = ()) -> Match:
        """Matching products of a normalised query, or of the nearest one that has some.

        Args:
            query: the query, words of synonyms included.
            variants: texts of the same meaning, normalised; where there are any, products that match one of them match.
        """
        if not query:
            return Match(None, "all", query)
        if variants:
            either = np.logical_or.reduce([self._complete(variant)[0] for variant in variants])
            return Match(either, "all", query) if either.any() else self.match(variants[0])
        mask, rarity = self._complete(query)
        count = int(mask.sum())
        better = self._better_spelling(query, count) if count < FEW_MATCHES else None
        if count:
            return Match(mask, "all", query, better)
        better = self._other_layout(query) or better
        if better is not None:
            return Match(self._complete(better)[0], "corrected", better, better)
        met = self._most_words(query, rarity)
        if met is None:
            return Match(None, "nearest", query)
        kept = [word for word in words(query) if self._has_any(word, met)]
        return Match(met, "partial", " ".join(kept) or query)

    def _complete(self, query: str) -> tuple[NDArray[np.bool_], list[float]]:
        """(N + 1,) products with all terms or enough clicks, and the rarity of each term."""
        mask, rarity = np.ones(self._size, np.bool_), []
        mask[0] = False
        terms = self._required(query)
        for term in terms:
            held = self._held(term)
            rarity.append(float(np.log(self._size / (1.0 + held.sum()))))
            mask &= held
        if not terms:
            mask[:] = False
        for source in self._sources.values():
            clicked = source.clicked_items(query)
            mask[clicked.item_idx[clicked.scores >= MIN_CLICKS]] = True
            named = source.named(query)
            if named:
                mask[list(named)] = True
        return mask, rarity

    def _most_words(self, query: str, rarity: Sequence[float]) -> NDArray[np.bool_] | None:
        """(N + 1,) products with the terms that together are rarest; None where none holds any."""
        total = np.zeros(self._size, np.float32)
        for term, weight in zip(self._required(query), rarity, strict=True):
            total[self._held(term)] += np.float32(weight)
        best = float(total.max(initial=0.0))
        return total >= best * (1 - 1e-5) if best > 0 else None

    def _required(self, query: str) -> list[QueryTerm]:
        terms = self._analyser.terms(query)
        common = _stop_words(self._analyser)
        kept = [term for term in terms if common.isdisjoint(token for token, _ in term)]
        return kept or terms

    def _held(self, term: QueryTerm) -> NDArray[np.bool_]:
        held = np.zeros(self._size, np.bool_)
        for source in self._sources.values():
            for token, _ in term:
                holders = source.holders(token)
                if holders is not None:
                    held[holders] = True
        return held

    def _has_any(self, word: str, mask: NDArray[np.bool_]) -> bool:
        return any(bool((self._held(term) & mask).any()) for term in self._analyser.terms(word))

    def _other_layout(self, query: str) -> str | None:
        """The query as another keyboard layout gives it, where that has most matches; None where none has any."""
        texts = [normalise(text) for text in other_layouts(query)]
        counts = {text: int(self._complete(text)[0].sum()) for text in texts if text}
        best = max(counts, key=lambda text: counts[text], default=None)
        return best if best is not None and counts[best] else None

    def _better_spelling(self, query: str, count: int) -> str | None:
        """The query with its unknown words corrected, where that finds more."""
        known = {word: any(self._held(term).any() for term in self._analyser.terms(word)) for word in words(query)}
        if not known or all(known.values()):
            return None
        corrected = [word if known[word] else self._speller.correct(word) or word for word in words(query)]
        text = " ".join(corrected)
        return text if text != query and int(self._complete(text)[0].sum()) > count else None


@lru_cache(maxsize=8)
def _stop_words(analyser: Analyser) -> frozenset[str]:
    """Index tokens of the words that a product need not hold."""
    listed = (word for language in analyser.languages for word in STOP_WORDS.get(language, ()))
    return frozenset(form for word in listed for form in analyser.tokens(normalise(word)))


class Speller:
    """Corrections of words: the commonest word of the products with the fewest edits between them (OSA distance).

    Args:
        analyser: knows the shop's words.
        sources: know which of them products hold; searches may have others.
    """

    def __init__(self, analyser: Analyser, sources: Mapping[str, Source]) -> None:
        self._analyser = analyser
        self._sources = sources
        self.correct = lru_cache(maxsize=10_000)(self._correct)

    def _correct(self, word: str) -> str | None:
        """The word of a product that is meant by a normalised word; None where none is near."""
        typed = fold(word)
        if len(typed) < MIN_CORRECTED or is_unspaced(word) or typed.isdigit():
            return None
        most = 2 if len(typed) >= LONG_WORD else 1
        near = process.extract(typed, self._words, scorer=OSA.distance, score_cutoff=most, limit=MAX_SPELLINGS)
        counts = self._analyser.vocabulary.counts
        best = min(near, key=lambda one: (one[1], -counts[one[0]], one[0]), default=None)
        return None if best is None else str(best[0])

    @cached_property
    def _words(self) -> list[str]:
        """Words that products hold."""
        readers = [source for source in self._sources.values() if source.holders("") is not None]
        words_of_shop = self._analyser.vocabulary.counts
        return [
            word
            for word in words_of_shop
            if any(source.knows(form) for form in self._analyser.tokens(word)[:1] for source in readers)
        ]


class Highlighter:
    """Marks the words of titles that match a query.

    Args:
        analyser: the shop's.
        query: normalised.
    """

    def __init__(self, analyser: Analyser, query: str) -> None:
        self._analyser = analyser
        self._tokens = frozenset(token for term in analyser.terms(query) for token, _ in term)

    def parts(self, title: str) -> tuple[tuple[str, bool], ...]:
        """The title in parts, each with whether it matches; joined they are the title."""
        parts: list[tuple[str, bool]] = []
        for text, matches in self._pieces(title):
            if parts and parts[-1][1] == matches:
                parts[-1] = (parts[-1][0] + text, matches)
            else:
                parts.append((text, matches))
        return tuple(parts)

    def _pieces(self, title: str) -> Iterator[tuple[str, bool]]:
        end = 0
        for match in SIGNED_WORD.finditer(title):
            if match.start() > end:
                yield title[end : match.start()], False
            word, end = match.group(), match.end()
            if is_unspaced(word):
                yield from self._letters(word)
            else:
                tokens = self._analyser.tokens(normalise(word))
                yield word, not self._tokens.isdisjoint(tokens)
        if end < len(title):
            yield title[end:], False

    def _letters(self, word: str) -> Iterator[tuple[str, bool]]:
        """Letters of a script without separated words; those match that stand in a pair of the query."""
        letters = clusters(word)
        folded = [fold(normalise(letter)) for letter in letters]
        matches = [len(self._tokens) == 1 and letter in self._tokens for letter in folded]
        for place, (first, second) in enumerate(pairwise(folded)):
            if first + second in self._tokens:
                matches[place] = matches[place + 1] = True
        yield from zip(letters, matches, strict=True)
