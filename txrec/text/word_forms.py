"""Word forms: index tokens of single words in the languages of a shop, as stems, compound parts and n-grams."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from txrec.text.chinese import simplified
from txrec.text.folding import fold, two_letter_spelling
from txrec.text.segmentation import (
    clusters,
    glued_parts,
    is_signed,
    is_syllabic,
    is_unspaced,
    stretches,
    unsigned,
)
from txrec.text.skeletons import skeleton
from txrec.text.stemming import COMPOUNDING, HEAD_LAST, Stems
from txrec.text.vocabulary import Vocabulary

ONE_CHARACTER_WEIGHT = 0.25
"""Weight of a single ideograph or syllable, relative to a pair of them."""

NEAR_WEIGHT = 0.6
"""Weight of a near form, relative to the word in any spelling."""
SKELETON_MARK = "*"
"""Prefix that tells consonant skeletons from the words of an index."""
_NO_SKELETONS = frozenset({"fa", "ur", "ps", "ckb", "ug", "yi"})
"""Languages in Arabic and Hebrew letters whose vowels are letters like others."""

QueryTerm = tuple[tuple[str, float], ...]
"""Alternative tokens of one term with their weights; a document scores by the best one that it holds."""


class WordForms:
    """Index tokens of words. Read-only; words come in normal form."""

    def __init__(self, languages: Sequence[str], vocabulary: Vocabulary) -> None:
        """Takes the shop's languages (ISO 639-1) and words."""
        self.vocabulary = vocabulary
        self.compounding = not COMPOUNDING.isdisjoint(languages)
        """True where a language writes compounds as one word."""
        self.head_last = not HEAD_LAST.isdisjoint(languages)
        """True where a language puts the head of a phrase last."""
        self.is_chinese = "zh" in languages or "ja" not in languages
        """True where ideographs are Chinese: traditional and simplified ones then meet. Those of Japanese stay."""
        self._has_skeletons = _NO_SKELETONS.isdisjoint(languages) or not {"ar", "he"}.isdisjoint(languages)
        self._stems = Stems(languages)
        self.forms = lru_cache(maxsize=1 << 17)(self._forms)
        self.document_forms = lru_cache(maxsize=1 << 17)(self._document_forms)

    def _forms(self, surface: str) -> tuple[str, ...]:
        """Alternative tokens of a word in scripts that separate words: its stems, in every folded spelling."""
        folded = fold(surface)
        if not folded:
            return ()
        if folded.isdigit() or is_signed(folded):
            return (folded,)
        tokens = list(self._stems(folded))
        if not surface.isascii():
            tokens += [fold(stem) for stem in self._stems(surface)]
            spelled = two_letter_spelling(surface)
            if spelled:
                tokens += self._stems(spelled)
        return tuple(dict.fromkeys(tokens))

    def near_forms(self, surface: str) -> tuple[str, ...]:
        """Tokens of a word that are less than its spelling: without its signs (`s10+`), and its consonant skeleton.

        A single letter with a sign has none: `c++` and `c` are two languages.
        """
        if surface.isascii():
            plain = unsigned(surface) if is_signed(surface) else ""
            return self.forms(plain) if len(plain) > 1 else ()
        bones = skeleton(fold(surface)) if self._has_skeletons else None
        return () if bones is None else (SKELETON_MARK + bones,)

    def spelled_units(self, surfaces: Iterable[str]) -> list[tuple[str, str]]:
        """Words, and pairs of clusters in scripts without separated words.

        Returns:
            Each as spelled and as any spelling of it is indexed: `手機` and `手机`.
        """
        units: list[tuple[str, str]] = []
        for word in surfaces:
            if not is_unspaced(word):
                units.append((word, fold(word)))
                continue
            for stretch in stretches(word):
                letters = clusters(stretch) if is_unspaced(stretch) else [stretch]
                spelled = [one + other for one, other in pairwise(letters)] or letters
                units += [(unit, self.plain(unit)) for unit in spelled]
        return units

    def plain(self, text: str) -> str:
        """A word without accents, case and, where ideographs are Chinese, without their traditional forms."""
        return simplified(fold(text)) if self.is_chinese else fold(text)

    def _document_forms(self, surface: str) -> tuple[str, ...]:
        """All index tokens of a word: every alternative, letters and digits apart, parts of a compound."""
        if is_unspaced(surface):
            return tuple(token for term in self.unspaced_terms(surface, as_query=False) for token, _ in term)
        tokens = [*self.forms(surface), *self.near_forms(surface)]
        for part in glued_parts(surface):
            tokens += self.forms(part)
        for part in self.compound_parts(surface):
            tokens += self.forms(part)
        return tuple(tokens)

    def compound_parts(self, surface: str) -> tuple[str, ...]:
        """Words of the shop that a word is made of; empty where the shop's languages write no compounds."""
        return self.vocabulary.compound_parts(fold(surface)) if self.compounding else ()

    def unspaced_terms(self, word: str, as_query: bool) -> list[QueryTerm]:
        """Terms of a word that holds letters of a script without separated words."""
        terms: list[QueryTerm] = []
        for stretch in stretches(word):
            if not is_unspaced(stretch):
                terms += [((form, 1.0),) for form in self.forms(stretch)[:1]]
                continue
            letters = clusters(self.plain(stretch))
            pairs = [first + second for first, second in pairwise(letters)]
            single = 1.0 if not as_query or len(letters) == 1 else ONE_CHARACTER_WEIGHT
            singles = [letter for letter in letters if len(letters) == 1 or is_syllabic(letter)]
            terms += [((letter, single),) for letter in singles]
            terms += [((pair, 1.0),) for pair in pairs]
        return terms
