"""Folded spellings of words: without case, accents and optional marks, so that `creme` meets `crème`.

Vowel signs of the Indic and South-East Asian scripts and the voicing marks of kana are letters and stay; katakana are
hiragana.
"""

import re
import unicodedata
from functools import lru_cache

_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0x1040, 0x17E0)
"""Digits zero of the Arabic, Persian, Indic and South-East Asian scripts; the others follow them."""
_LETTERS = (
    str.maketrans("łđðøħŧıŋƒ", "lddohtinf")
    | str.maketrans({"œ": "oe", "æ": "ae", "þ": "th", "ĳ": "ij"})
    | str.maketrans("ىیکةٱ", "ييكها", "\u0640\u200c\u200d")  # Arabic and Persian letters written for each other
    | {zero + digit: str(digit) for zero in _ZEROS for digit in range(10)}
    | {katakana: katakana - 0x60 for katakana in range(0x30A1, 0x30F7)}  # `イス` meets `いす`
)
# marks over Latin, Greek and Cyrillic; Hebrew points; Arabic vowel signs; nuktas of the Indic scripts
_MARKS = re.compile(
    "(?<!и)\u0306|[\u0300-\u0305\u0307-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f"
    "\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc]"
)
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})


@lru_cache(maxsize=1 << 16)
def _fold(word: str) -> str:
    plain = unicodedata.normalize("NFD", word.casefold().translate(_LETTERS))
    return unicodedata.normalize("NFC", _MARKS.sub("", plain)).translate(_LETTERS)


def fold(word: str) -> str:
    """A normalised word without accents and optional marks, in the base letters of its script.

    >>> fold("crème"), fold("straße"), fold("łyżka"), fold("साड़ी") == "साडी"
    ('creme', 'strasse', 'lyzka', True)
    """
    return word if word.isascii() else _fold(word)


def two_letter_spelling(word: str) -> str | None:
    """A word with `ae` for `ä`, `oe` for `ö` and `ø`, `ue` for `ü`, `aa` for `å`, folded; None where nothing differs.

    >>> two_letter_spelling("müller")
    'mueller'
    """
    if word.isascii():
        return None
    spelled = word.translate(_TWO_LETTERS)
    return fold(spelled) if spelled != word else None
