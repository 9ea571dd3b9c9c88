"""Consonant skeletons of Hebrew and Arabic words: spellings with and without letters for vowels meet in them.

Hebrew writes many words with or without vav and yod (`שולחן`, `שלחן`); Arabic forms many plurals by other long vowels
inside the word (`كتاب`, `كتب`), but others by other consonants (`قميص`, `قمصان`), which need a dictionary. Different
words may share a skeleton, so it counts less than a word as it is spelled.
"""

import re

MIN_LETTERS = 3
"""Letters that a skeleton keeps; Semitic roots have three."""
_HEBREW, _ARABIC = re.compile("[\u05d0-\u05ea]+"), re.compile("[\u0621-\u064a]+")
_FINAL_LETTERS = str.maketrans("ךםןףץ", "כמנפצ")
_HEBREW_ENDINGS = ("ים", "ות", "ה")
_ARABIC_ENDINGS = ("ات", "ه", "ة")
_HEBREW_VOWELS, _ARABIC_VOWELS = re.compile("[וי]"), re.compile("[اويىئءؤ]")
_ARABIC_ARTICLE = "ال"
_BROKEN_PLURAL = re.compile("ا([^ل].)ا(.)")  # `اولاد` of `ولد`


def skeleton(word: str) -> str | None:
    """The skeleton of a folded word; None in other scripts and where too few letters are left.

    >>> skeleton("שולחן") == skeleton("שלחנות"), skeleton("كتاب") == skeleton("كتب"), skeleton("table")
    (True, True, None)
    """
    if word.isascii():
        return None
    if _HEBREW.fullmatch(word):
        word = _without_ending(word, _HEBREW_ENDINGS).translate(_FINAL_LETTERS)
        return _bones(word[:1], word[1:-1], word[-1:], _HEBREW_VOWELS)
    if _ARABIC.fullmatch(word):
        plural = _BROKEN_PLURAL.fullmatch(word)
        if plural:
            return plural[1] + plural[2]
        if word.startswith(_ARABIC_ARTICLE) and len(word) >= len(_ARABIC_ARTICLE) + MIN_LETTERS:
            word = word.removeprefix(_ARABIC_ARTICLE)
        word = _without_ending(word, _ARABIC_ENDINGS)
        if word.startswith("ا") and len(_ARABIC_VOWELS.sub("", word)) >= MIN_LETTERS:
            word = word[1:]  # `اقلام` of `قلم`
        return _bones(word[:1], word[1:-1], word[-1:], _ARABIC_VOWELS)
    return None


def _without_ending(word: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if word.endswith(ending) and len(word) >= len(ending) + MIN_LETTERS:
            return word.removesuffix(ending)
    return word


def _bones(first: str, inner: str, last: str, vowels: re.Pattern[str]) -> str | None:
    bones = first + vowels.sub("", inner) + last
    return bones if len(bones) >= MIN_LETTERS else None
