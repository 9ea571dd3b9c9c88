"""How the lexical sources cut a text: words that survive plurals and model numbers, characters that survive typos."""

import re

_WORD = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"\d+|[^\W\d_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
MAX_CHARS = 512
"""A query longer than this is cut: nobody types it, and its cost must stay bounded."""


def words(text: str) -> list[str]:
    """Words of a normalised text.

    Letters and digits glued together are also given apart (`xbox360` -> xbox360, xbox, 360), a plural s is dropped, and
    scripts written without spaces become single characters and pairs.

    >>> words("2 red lamps for xbox360")
    ['2', 'red', 'lamp', 'for', 'xbox360', 'xbox', '360']
    """
    found: list[str] = []
    for word in _WORD.findall(text):
        if _UNSPACED.search(word):
            found.extend(word)
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
            continue
        found.append(_singular(word))
        parts = _PARTS.findall(word)
        if len(parts) > 1:
            found.extend(_singular(part) for part in parts)
    return found


def trigrams(text: str) -> list[str]:
    """Character trigrams of a normalised text without its spaces, ends marked, so that spacing does not matter.

    >>> trigrams("tv 3")
    ['^tv', 'tv3', 'v3$']
    """
    squeezed = "".join(_WORD.findall(text))
    if not squeezed:
        return []
    marked = f"^{squeezed}$"
    return [marked[i : i + 3] for i in range(len(marked) - 2)]


def word_trigrams(text: str) -> list[str]:
    """Character trigrams of every word, ends marked: tolerant of typos and of word order."""
    return [f"~{gram}" for word in _WORD.findall(text) for gram in trigrams(word)]


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word
