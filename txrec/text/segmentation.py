"""Word segmentation of normalised texts: words with their combining marks, and runs of words joined by signs.

A run is a sequence of words without a blank between them: `t-shirt`, `l'oréal`, `wd-1234/ab`, `13,3`. Scripts that
separate no words (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese, Tibetan) are cut into clusters, a letter with
its marks each, and indexed by n-grams of clusters.
"""

import re
import unicodedata
from itertools import chain, pairwise
from typing import NamedTuple

_PLANES_WITH_MARKS = (range(0x2_0000), range(0xE_0000, 0xE_1000))
"""Code points that may be combining marks; looking through all 1.1 million takes every process 0.15 s."""


def _mark_ranges() -> str:
    """All combining marks of Unicode, as ranges of a regular expression's character class."""
    codes = chain.from_iterable(_PLANES_WITH_MARKS)
    marks = [code for code in codes if unicodedata.category(chr(code))[0] == "M"]
    starts = [marks[0], *(later for earlier, later in pairwise(marks) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(marks) if later != earlier + 1), marks[-1]]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


_MARKS = _mark_ranges()
_JOINERS = "\u200c\u200d"  # zero-width, inside words of Persian and the Indic scripts
WORD_CHARS = rf"[\w{_MARKS}{_JOINERS}]"
_SIGNS = "-\u2010\u2011\u2013./:+&'\u2019\u00b7"
WORD = re.compile(rf"{WORD_CHARS}+")
"""A word in a text of any case, marks included."""
_RUN = re.compile(rf"{WORD_CHARS}+(?:(?:[{_SIGNS}]|(?<=\d),(?=\d)){WORD_CHARS}+)*")
_ASCII_RUN = re.compile(r"[a-z0-9]+(?:(?:[-./:+&']|(?<=\d),(?=\d))[a-z0-9]+)*")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_SIGNED = re.compile(r"\w(?:\+\+|[+#](?![\w+#]))|(?:^|[ (])\.[a-z]{2}")
"""A sign that is a part of a word: at its end (`c++`, `c#`, `s10+`), or a full stop before it (`.net`)."""
_BEFORE, _AFTER = r"(?:(?<![^ (])\.(?=[a-z]{2}))?", r"(?:\+\+(?![a-z+#])|[+#](?![\w+#]))?"
SIGNED_WORD = re.compile(f"{_BEFORE}{WORD_CHARS}+{_AFTER}", re.IGNORECASE)
"""The same with signs of its own: `C++`, `.NET`."""
_SIGNED_RUN = re.compile(f"{_BEFORE}{WORD_CHARS}+(?:(?:[{_SIGNS}]|(?<=\\d),(?=\\d)){WORD_CHARS}+)*{_AFTER}")
UNSPACED_CHARS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{UNSPACED_CHARS}]")
_STRETCH = re.compile(f"[{UNSPACED_CHARS}{_MARKS}{_JOINERS}]+|[^{UNSPACED_CHARS}]+")
_CLUSTER = re.compile(rf".[{_MARKS}{_JOINERS}]*", re.DOTALL)
_SYLLABLES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_DIGITS = re.compile(r"\d")
_GLUED = re.compile(r"\d+|\D+")
MAX_RUN_WORDS, MAX_JOINED_CHARS = 5, 40
"""Longer runs, and longer words that they would make, are addresses and file names, not spellings of one word."""


class Word(NamedTuple):
    """A word of a text with its place."""

    surface: str
    start: int
    end: int


class Run(NamedTuple):
    """Words without a blank between them."""

    words: tuple[Word, ...]
    joined: tuple[str, ...]
    """Spellings of the whole run as one word; empty for a single word."""


def runs(text: str) -> list[Run]:
    """Runs of a normalised text in reading order.

    >>> [run.joined for run in runs("t-shirt, 13,3 zoll")]
    [('tshirt',), ('13.3',), ()]
    """
    if "_" in text:
        text = text.replace("_", "-")
    pattern, word = _patterns(text)
    result = []
    for match in pattern.finditer(text):
        run, start = match.group(), match.start()
        if word.fullmatch(run):
            result.append(Run((Word(run, start, match.end()),), ()))
            continue
        parts = [Word(m.group(), start + m.start(), start + m.end()) for m in word.finditer(run)]
        result.append(Run(_without_possessive(parts, text), _joined(run, [part.surface for part in parts])))
    return result


def words(text: str) -> list[str]:
    """Words of a normalised text, combining marks kept, nothing joined.

    >>> words("थैला and t-shirt")
    ['थैला', 'and', 't', 'shirt']
    """
    surfaces: list[str] = []
    for piece in pieces(text):
        if piece.isalnum():
            surfaces.append(piece)
        else:
            surfaces += [word.surface for run in runs(piece) for word in run.words]
    return surfaces


def pieces(text: str) -> list[str]:
    """Runs of a normalised text as they stand, sooner than `runs`; those of letters and digits alone are words."""
    if "_" in text:
        text = text.replace("_", "-")
    return _patterns(text)[0].findall(text)


def _patterns(text: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of the runs and of the words of a text; the simplest that do, because they are the fastest."""
    if ("+" in text or "#" in text or " ." in text or "(." in text or text[:1] == ".") and _SIGNED.search(text):
        return _SIGNED_RUN, SIGNED_WORD
    return (_ASCII_RUN, _ASCII_WORD) if text.isascii() else (_RUN, WORD)


def is_signed(word: str) -> bool:
    """True for a word with a sign of its own: `c++`, `c#`, `.net`."""
    return word[-1:] in ("+", "#") or word[:1] == "."


def unsigned(word: str) -> str:
    """A word without the signs at its ends: `notepad++` -> notepad."""
    return word.strip(".+#")


def is_unspaced(word: str) -> bool:
    """True where a word holds letters of a script that separates no words."""
    return not word.isascii() and _UNSPACED.search(word) is not None


def stretches(word: str) -> list[str]:
    """A word cut where it changes between scripts with and without separated words: `iphone手机` -> iphone, 手机."""
    return _STRETCH.findall(word)


def clusters(word: str) -> list[str]:
    """Letters of a word, each with its combining marks."""
    return _CLUSTER.findall(word)


def is_syllabic(cluster: str) -> bool:
    """True for a cluster with a meaning of its own: ideographs, kana and Hangul syllables, not letters of Thai."""
    return _SYLLABLES.match(cluster) is not None


def glued_parts(word: str) -> list[str]:
    """Letters and digits of a word apart, where it has both: `xbox360` -> xbox, 360; empty elsewhere."""
    word = unsigned(word)
    if word.isalpha() or word.isdigit():
        return []
    parts = _GLUED.findall(word)
    return parts if len(parts) > 1 else []


def has_digit(word: str) -> bool:
    """True where there is a digit in a word."""
    return _DIGITS.search(word) is not None


def _without_possessive(parts: list[Word], text: str) -> tuple[Word, ...]:
    """Words of a run without an English possessive s: `levi's` -> levi."""
    last = parts[-1]
    if last.surface == "s" and text[last.start - 1] in "'\u2019":
        return tuple(parts[:-1])
    return tuple(parts)


def _joined(run: str, parts: list[str]) -> tuple[str, ...]:
    if len(parts) > MAX_RUN_WORDS or len(run) > MAX_JOINED_CHARS:
        return ()
    if len(parts) == 2 and parts[0].isdigit() and parts[1].isdigit() and ("." in run or "," in run):
        decimal = f"{parts[0]}.{parts[1]}"
        return (decimal, "".join(parts)) if len(parts[1]) == 3 else (decimal,)  # 1,000 is read both ways
    if ("." in run or ":" in run) and not has_digit(run) and max(map(len, parts)) > 2:
        return ()  # a full stop without its blank
    return ("".join(parts),)
