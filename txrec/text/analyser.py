"""Text analyser of a shop: index tokens of a document, and search terms of a query that meet them.

A document is indexed by the stems of its words, by runs as one word (`t-shirt` -> tshirt), by quantities and by the
parts of compounds. A query becomes a list of terms, each a set of alternative tokens with weights, of which the best
one counts: other spellings, words that the shop joins or splits, compounds, synonyms. Where titles spell a word in more
than one way (`crème`, `creme`), a small weight on the exact spelling brings it to the front.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from txrec.config import TextConfig
from txrec.errors import BundleError
from txrec.text.folding import fold, two_letter_spelling
from txrec.text.languages import shop_languages
from txrec.text.normal_form import normalise
from txrec.text.quantities import quantities
from txrec.text.segmentation import (
    Run,
    clusters,
    glued_parts,
    has_digit,
    is_syllabic,
    is_unspaced,
    pieces,
    runs,
    stretches,
    words,
)
from txrec.text.stemming import COMPOUNDING, HEAD_LAST, Stems
from txrec.text.synonyms import Synonyms
from txrec.text.vocabulary import MIN_PART, Vocabulary

MAX_CHARS = 512
"""A query longer than this is cut: nobody types it, and its cost must stay bounded."""
FILE = "analyser.json"
FORMAT = 1

EXACT_WEIGHT = 0.15
"""Beside a word in any spelling: the same spelling."""
TRIGRAM_WEIGHT = 0.2
"""A trigram beside a word: a word has as many trigrams as letters, which together should not outweigh it."""
ONE_CHARACTER_WEIGHT = 0.25
"""A single ideograph or syllable beside a pair of them."""
JOINED_WEIGHT, PART_WEIGHT, SYNONYM_WEIGHT, COMPLETED_WEIGHT = 0.95, 0.8, 0.9, 0.7
"""Alternatives beside the word as it was typed: joined or split, parts of a compound, synonyms, longer words."""
HEAD_WEIGHT = 0.5
"""Beside a word anywhere: the last word of a query as the last word of a title's first phrase."""
BARE_WEIGHT = 0.6
"""Number and unit as words of their own, beside the quantity that they make."""
EXACT_MARK, TRIGRAM_MARK, HEAD_MARK = "=", "~", "$"
_PHRASE_END = re.compile(r"[,;:(\[|\u2013\u2014]| - ")
MIN_COMPLETED = 4

QueryTerm = tuple[tuple[str, float], ...]
"""Alternative tokens of one term with their weights; a document scores by the best one that it holds."""


class Analyser:
    """Analysis with a shop's languages, words and synonyms. Read-only; texts come in normal form."""

    def __init__(
        self,
        languages: Sequence[str] = ("en",),
        vocabulary: Vocabulary | None = None,
        synonyms: Synonyms | None = None,
    ) -> None:
        """Takes what `fit` learned; without it, English without a vocabulary.

        Args:
            languages: ISO 639-1 codes.
            vocabulary: the shop's words; None = none are known.
            synonyms: phrases that find each other; None = none.
        """
        self.languages = tuple(languages)
        self.vocabulary = vocabulary or Vocabulary({}, {})
        self.synonyms = synonyms or Synonyms()
        self._stems = Stems(self.languages)
        self._compounding = not COMPOUNDING.isdisjoint(self.languages)
        self._head_last = not HEAD_LAST.isdisjoint(self.languages)
        self._phrases = _by_first_word(self.synonyms)
        self.forms = lru_cache(maxsize=1 << 17)(self._forms)
        self.title_tokens = lru_cache(maxsize=200_000)(self._title_tokens)
        self._word_tokens = lru_cache(maxsize=1 << 17)(self._document_forms)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without its caches, so that it can be sent to other processes."""
        return type(self), (self.languages, self.vocabulary, self.synonyms)

    @classmethod
    def fit(cls, cfg: TextConfig, titles: Iterable[str], texts: Iterable[str], queries: Iterable[str]) -> "Analyser":
        """Learns languages and words from a shop's normalised texts and reads its synonyms.

        Args:
            cfg: `languages`, `synonyms`.
            titles: of all products.
            texts: of all products, titles included.
            queries: of the training part.

        Raises:
            DataError: the file of synonyms cannot be read; names file and line.
        """
        titles = [title for title in titles if title]
        languages = cfg.languages or shop_languages(titles)
        spellings: defaultdict[str, set[str]] = defaultdict(set)
        folded_titles = []
        for title in titles:
            surfaces = words(title)
            folded_titles.append([fold(surface) for surface in surfaces])
            for surface, folded in zip(surfaces, folded_titles[-1], strict=True):
                spellings[folded].add(surface)
        varied = [folded for folded, surfaces in spellings.items() if len(surfaces) > 1]
        documents = (_folded(text) for source in (texts, queries) for text in source if text)
        vocabulary = Vocabulary.fit(documents, folded_titles, varied)
        synonyms = Synonyms.read(Path(cfg.synonyms)) if cfg.synonyms else None
        return cls(languages, vocabulary, synonyms)

    @classmethod
    def of_catalogue(cls, cfg: TextConfig, items: pa.Table, queries: Iterable[str] = ()) -> "Analyser":
        """The analyser of a catalogue.

        Args:
            cfg: languages and synonyms.
            items: `title`, `text` like schema.PREPARED_ITEMS.
            queries: normalised queries of the training part.

        Raises:
            DataError: the file of synonyms cannot be read.
        """
        titles = [normalise(title or "") for title in items.column("title").to_pylist()]
        return cls.fit(cfg, titles, (text or "" for text in items.column("text").to_pylist()), queries)

    def with_synonyms(self, synonyms: Synonyms) -> "Analyser":
        """The same with other synonyms; indexes stay valid, for only queries are read with them."""
        return Analyser(self.languages, self.vocabulary, synonyms)

    def document_tokens(self, text: str, title: str = "") -> list[str]:
        """Index tokens of a product, repeated as often as they occur.

        Args:
            text: normalised title, brand, category and description together.
            title: normalised title; its trigrams, exact spellings and last word are indexed beside the words.
        """
        found = self.tokens(text)
        found += word_trigrams(title)
        found += self._head(_PHRASE_END.split(title, 1)[0])
        varied = self.vocabulary.varied
        if varied:
            found += [EXACT_MARK + word for word in words(title) if fold(word) in varied]
        return found

    def tokens(self, text: str) -> list[str]:
        """Index tokens of a normalised text: words, runs, quantities, parts of compounds; no trigrams.

        >>> Analyser().tokens("2 red lamps for xbox360")
        ['2', 'red', 'lamp', 'for', 'xbox360', 'xbox', '360']
        """
        found: list[str] = []
        for piece in pieces(text):
            if piece.isalnum():
                found += self._word_tokens(piece)
                continue
            for run in runs(piece):
                for word in run.words:
                    found += self._word_tokens(word.surface)
                for joined in run.joined:
                    found += self.forms(joined)
        if has_digit(text):
            found += [quantity.token for quantity in quantities(text)]
        return found

    def _title_tokens(self, title: str) -> frozenset[str]:
        """Distinct index tokens of a title as the shop wrote it."""
        return frozenset(self.tokens(normalise(title)))

    def terms(self, text: str) -> list[QueryTerm]:
        """Search terms of a normalised query in reading order, its words alone.

        >>> Analyser().terms("red lamps")
        [(('red', 1.0),), (('lamp', 1.0),)]
        """
        return [term for term in _Query(self, text[:MAX_CHARS]).terms() if term]

    def query_terms(self, text: str) -> list[QueryTerm]:
        """Everything that a normalised query searches for: terms of its words, exact spellings, trigrams."""
        text = text[:MAX_CHARS]
        found = dict.fromkeys(self.terms(text))
        varied = self.vocabulary.varied
        if varied:
            exact = [word for word in words(text) if fold(word) in varied]
            found |= dict.fromkeys(((EXACT_MARK + word, EXACT_WEIGHT),) for word in exact)
        head = tuple((token, HEAD_WEIGHT) for token in self._head(text))
        if head:
            found[head] = None
        found |= dict.fromkeys(((gram, TRIGRAM_WEIGHT),) for gram in word_trigrams(text))
        return list(found)

    def _head(self, phrase: str) -> list[str]:
        """Tokens of the word that names the kind of thing, where the shop's languages put it last."""
        typed = words(phrase) if self._head_last else []
        if not typed or is_unspaced(typed[-1]):
            return []
        return [HEAD_MARK + form for form in self.forms(typed[-1])]

    def _forms(self, surface: str) -> tuple[str, ...]:
        """Alternative tokens of a word in scripts that separate words: its stems, in every folded spelling."""
        folded = fold(surface)
        if not folded:
            return ()
        if folded.isdigit():
            return (folded,)
        found = list(self._stems(folded))
        if not surface.isascii():
            found += [fold(stem) for stem in self._stems(surface)]
            spelled = two_letter_spelling(surface)
            if spelled:
                found += self._stems(spelled)
        return tuple(dict.fromkeys(found))

    def _document_forms(self, surface: str) -> tuple[str, ...]:
        """All index tokens of a word: every alternative, letters and digits apart, parts of a compound."""
        if is_unspaced(surface):
            return tuple(token for term in self._unspaced(surface, as_query=False) for token, _ in term)
        found = list(self.forms(surface))
        for part in glued_parts(surface):
            found += self.forms(part)
        for part in self.compound_parts(surface):
            found += self.forms(part)
        return tuple(found)

    def compound_parts(self, surface: str) -> tuple[str, ...]:
        """Words of the shop that a word is made of; empty where the shop's languages write no compounds."""
        return self.vocabulary.compound_parts(fold(surface)) if self._compounding else ()

    def _unspaced(self, word: str, as_query: bool) -> list[QueryTerm]:
        """Terms of a word that holds letters of a script without separated words."""
        found: list[QueryTerm] = []
        for stretch in stretches(word):
            if not is_unspaced(stretch):
                found += [((form, 1.0),) for form in self.forms(stretch)[:1]]
                continue
            letters = clusters(fold(stretch))
            pairs = [first + second for first, second in pairwise(letters)]
            single = 1.0 if not as_query or len(letters) == 1 else ONE_CHARACTER_WEIGHT
            singles = [letter for letter in letters if len(letters) == 1 or is_syllabic(letter)]
            found += [((letter, single),) for letter in singles]
            found += [((pair, 1.0),) for pair in pairs]
        return found

    def save(self, path: Path) -> None:
        """Writes languages, words and synonyms to one JSON file."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "languages": self.languages,
            "vocabulary": self.vocabulary.to_json(),
            "synonyms": dict(self.synonyms.phrases),
        }
        path.write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, path: Path) -> "Analyser":
        """Reads what `save` wrote.

        Raises:
            BundleError: no such file, or one of another version.
        """
        if not path.is_file():
            raise BundleError(f"{path}: the text analyser is missing; run `txrec prepare CONFIG` again")
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.get("format") != FORMAT:
            raise BundleError(
                f"{path}: format {plain.get('format')!r}, this version reads {FORMAT}; run `txrec prepare CONFIG` again"
            )
        synonyms = Synonyms({phrase: tuple(beside) for phrase, beside in plain["synonyms"].items()})
        return cls(plain["languages"], Vocabulary.from_json(plain["vocabulary"]), synonyms)


class _Place:
    """A word of a query: one term, or several where an alternative has more words than the query."""

    __slots__ = ("base", "start", "terms")

    def __init__(self, base: dict[str, float], start: int) -> None:
        self.base = base
        self.terms: list[dict[str, float]] = [dict(base)]
        self.start = start

    def scale(self, factor: float) -> None:
        """Lowers the weights of all alternatives so far."""
        self.base, *self.terms = (
            {token: factor * weight for token, weight in term.items()} for term in (self.base, *self.terms)
        )

    def add(self, tokens: Sequence[tuple[str, ...]], weight: float) -> None:
        """Adds an alternative of this place: one set of tokens per term, as many terms as it needs."""
        while len(self.terms) < len(tokens):
            self.terms.append(dict(self.base))
        for place, term in enumerate(self.terms):
            for token in tokens[place * len(tokens) // len(self.terms)]:
                term[token] = max(term.get(token, 0.0), weight)


class _Query:
    """One query while its terms are made."""

    def __init__(self, analyser: Analyser, text: str) -> None:
        self._analyser = analyser
        self._text = text
        self._places: list[_Place] = []
        self._words: list[tuple[str, int]] = []  # folded word, its place
        self._fixed: list[QueryTerm] = []

    def terms(self) -> list[QueryTerm]:
        """Terms in reading order."""
        for run in runs(self._text):
            self._read(run)
        self._add_neighbours()
        self._add_synonyms()
        if has_digit(self._text):
            for quantity in quantities(self._text):
                inside = [place for place in self._places if quantity.start <= place.start < quantity.end]
                for place in inside:
                    place.scale(BARE_WEIGHT)
                self._add(inside, [(quantity.token,)], 1.0)
        found: list[QueryTerm] = []
        for place in self._places:
            share = 1.0 / len(place.terms)
            found += [tuple((token, weight * share) for token, weight in term.items()) for term in place.terms]
        return [*found, *self._fixed]

    def _read(self, run: Run) -> None:
        analyser, first = self._analyser, len(self._places)
        for word in run.words:
            if is_unspaced(word.surface):
                self._fixed += analyser._unspaced(word.surface, as_query=True)
                continue
            place = self._place(word.surface, word.start)
            self._words.append((fold(word.surface), len(self._places) - 1))
            self._expand(place, word.surface)
            for part in glued_parts(word.surface):
                self._place(part, word.start)
        for joined in run.joined:
            self._add(self._places[first:], [analyser.forms(joined)], 1.0)

    def _place(self, surface: str, start: int) -> _Place:
        place = _Place(dict.fromkeys(self._analyser.forms(surface), 1.0), start)
        self._places.append(place)
        return place

    def _expand(self, place: _Place, surface: str) -> None:
        """Alternatives of a single word: split as titles do, parts of a compound, longer words that hold it."""
        analyser, folded = self._analyser, fold(surface)
        vocabulary = analyser.vocabulary
        halves = vocabulary.split(folded)
        if halves is not None:
            place.add([analyser.forms(part) for part in halves], JOINED_WEIGHT)
        elif parts := analyser.compound_parts(surface):
            place.add([analyser.forms(part) for part in parts], PART_WEIGHT)
        if folded in vocabulary or len(folded) < MIN_COMPLETED:
            return
        longer = []
        if has_digit(folded):
            longer = vocabulary.completions(folded)
        elif analyser._compounding:
            longer = [*vocabulary.ending(folded), *vocabulary.completions(folded)]
        for word in longer:
            place.add([analyser.forms(word)], COMPLETED_WEIGHT)

    def _add_neighbours(self) -> None:
        """Neighbouring words that the shop writes as one."""
        analyser = self._analyser
        for count in (2, 3):
            for start in range(len(self._words) - count + 1):
                span = self._words[start : start + count]
                joined = "".join(word for word, _ in span)
                if max(len(word) for word, _ in span) >= MIN_PART and joined in analyser.vocabulary:
                    self._add([self._places[place] for _, place in span], [analyser.forms(joined)], JOINED_WEIGHT)

    def _add_synonyms(self) -> None:
        analyser = self._analyser
        if not analyser._phrases:
            return
        typed = [word for word, _ in self._words]
        for start, first in enumerate(typed):
            for phrase, beside in analyser._phrases.get(first, ()):
                if typed[start : start + len(phrase)] != list(phrase):
                    continue
                places = [self._places[place] for _, place in self._words[start : start + len(phrase)]]
                for other in beside:
                    self._add(places, [analyser.forms(word) for word in other], SYNONYM_WEIGHT)

    @staticmethod
    def _add(places: Sequence[_Place], tokens: Sequence[tuple[str, ...]], weight: float) -> None:
        """Spreads an alternative of m words over n places: each place gets its share, at least one word."""
        count, size = len(tokens), len(places)
        for number, place in enumerate(places):
            if count >= size:
                own = [tokens[i] for i in range(count) if i * size // count == number]
            else:
                own = [tokens[number * count // size]]
            if own:
                place.add(own, weight)


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


def _folded(text: str) -> list[str]:
    """Folded words of a text, and its runs as one word."""
    found = []
    for piece in pieces(text):
        if piece.isalnum():
            found.append(fold(piece))
            continue
        for run in runs(piece):
            found += [fold(word.surface) for word in run.words]
            found += [fold(joined) for joined in run.joined]
    return found


def _by_first_word(synonyms: Synonyms) -> dict[str, list[tuple[tuple[str, ...], list[list[str]]]]]:
    """Folded words of every phrase with those of its synonyms, by the phrase's first word."""
    found: defaultdict[str, list[tuple[tuple[str, ...], list[list[str]]]]] = defaultdict(list)
    for phrase, beside in synonyms.phrases.items():
        own = tuple(fold(word) for word in words(phrase))
        others = [typed for other in beside if (typed := [fold(word) for word in words(other)])]
        if own and others:
            found[own[0]].append((own, others))
    return dict(found)
