"""Character trigrams of normalised texts."""

from functools import lru_cache

from txrec.text.folding import fold
from txrec.text.segmentation import words

TRIGRAM_MARK = "~"
"""Prefix that tells trigrams from the words of an index."""


def trigrams(text: str) -> list[str]:
    """Character trigrams of a normalised text, folded, without its blanks and signs, ends marked.

    >>> trigrams("tv 3")
    ['^tv', 'tv3', 'v3$']
    """
    squeezed = fold("".join(words(text)))
    return _grams(squeezed) if squeezed else []


def word_trigrams(text: str) -> list[str]:
    """Character trigrams of every word of a normalised text, folded, ends marked: tolerant of typos and word order."""
    return [TRIGRAM_MARK + gram for word in words(text) for gram in _grams(fold(word))]


@lru_cache(maxsize=1 << 17)
def _grams(word: str) -> list[str]:
    marked = f"^{word}$"
    return [marked[i : i + 3] for i in range(len(marked) - 2)]
