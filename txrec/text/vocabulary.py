"""The words of a shop: which spellings exist, joined or apart, parts of compounds, words by beginning or end."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice, pairwise
from typing import Any

MAX_WORDS, MAX_PAIRS = 300_000, 200_000
"""The most frequent ones are kept."""
MIN_PART = 2
"""Shortest part of a joined spelling: `tv-stand` has one, `a-b` does not."""
MIN_COMPOUND, MAX_COMPOUND, MIN_COMPOUND_PART, MAX_COMPOUND_PARTS = 8, 64, 4, 3
MIN_COMPOUND_COUNT = 2
"""Texts that hold a part of a compound; a word of one text may be a mistake."""
LINKS = ("", "s", "es", "n", "en", "er", "e")
"""Sounds between the parts of a compound in the Germanic languages."""
MAX_COMPLETIONS = 16


class Vocabulary:
    """Folded words of a shop's texts and neighbours in its titles."""

    def __init__(self, counts: Mapping[str, int], pairs: Mapping[str, int], varied: Iterable[str] = ()) -> None:
        """Takes the results of `fit`.

        Args:
            counts: word -> texts that hold it.
            pairs: two neighbouring words of a title written as one -> length of the first.
            varied: folded words that titles spell in more than one way.
        """
        self.counts = dict(counts)
        self.pairs = dict(pairs)
        self.varied = frozenset(varied)
        self.compound_parts = lru_cache(maxsize=1 << 15)(self._compound_parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """State without caches, so that it can be sent to other processes."""
        return type(self), (self.counts, self.pairs, self.varied)

    @classmethod
    def fit(
        cls, texts: Iterable[Iterable[str]], titles: Iterable[Sequence[str]], varied: Iterable[str]
    ) -> "Vocabulary":
        """Counts words and neighbours.

        Args:
            texts: folded words of every text.
            titles: folded words of every title, in reading order.
            varied: folded words that titles spell in more than one way.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(set(text))
        pairs: Counter[tuple[str, str]] = Counter()
        for title in titles:
            pairs.update(pairwise(title))
        joined: dict[str, int] = {}
        for (first, second), _ in pairs.most_common(MAX_PAIRS):
            if not (first.isdigit() and second.isdigit()):
                joined.setdefault(first + second, len(first))
        return cls(dict(counts.most_common(MAX_WORDS)), joined, varied)

    def __contains__(self, word: str) -> bool:
        return word in self.counts

    def split(self, word: str) -> tuple[str, str] | None:
        """The two words that titles write apart where a text has one: `earbuds` -> ear, buds; None where none do."""
        length = self.pairs.get(word)
        return None if length is None else (word[:length], word[length:])

    def _compound_parts(self, word: str) -> tuple[str, ...]:
        """Words of the shop that a compound is made of, linking sounds left out; empty where it is none.

        The fewest parts win, then the longest last one, which names the thing.
        """
        if not MIN_COMPOUND <= len(word) <= MAX_COMPOUND or not word.isalpha():
            return ()
        return self._parts(word, MAX_COMPOUND_PARTS) or ()

    def _parts(self, word: str, most: int) -> tuple[str, ...] | None:
        best: tuple[str, ...] | None = None
        for cut in range(MIN_COMPOUND_PART, len(word) - MIN_COMPOUND_PART + 1):
            first = self._part(word[:cut])
            if first is None:
                continue
            rest = word[cut:]
            if self._is_part(rest):
                return (first, rest)
            if most > 2 and best is None:
                more = self._parts(rest, most - 1)
                best = None if more is None else (first, *more)
        return best

    def _part(self, beginning: str) -> str | None:
        """The shop's word of a part with its linking sound."""
        for link in LINKS:
            word = beginning.removesuffix(link) if link else beginning
            if len(word) + len(link) == len(beginning) and len(word) >= MIN_COMPOUND_PART and self._is_part(word):
                return word
        return None

    def _is_part(self, word: str) -> bool:
        return self.counts.get(word, 0) >= MIN_COMPOUND_COUNT

    def completions(self, beginning: str) -> list[str]:
        """Up to `MAX_COMPLETIONS` words that begin so, in alphabetical order, the word itself left out."""
        return _beginning_so(self._sorted, beginning)

    def ending(self, end: str) -> list[str]:
        """Up to `MAX_COMPLETIONS` words that end so, the word itself left out."""
        return [word[::-1] for word in _beginning_so(self._reversed, end[::-1])]

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.counts)

    @cached_property
    def _reversed(self) -> list[str]:
        return sorted(word[::-1] for word in self.counts)

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes."""
        return {"counts": self.counts, "pairs": self.pairs, "varied": sorted(self.varied)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Vocabulary":
        """The inverse of `to_json`."""
        return cls(plain["counts"], plain["pairs"], plain["varied"])


def _beginning_so(words: Sequence[str], beginning: str) -> list[str]:
    following = islice(words, bisect_left(words, beginning), None)
    result: list[str] = []
    for word in following:
        if not word.startswith(beginning) or len(result) == MAX_COMPLETIONS:
            break
        if word != beginning:
            result.append(word)
    return result
