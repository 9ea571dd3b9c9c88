"""Text analyser of a shop: index tokens of documents, and search terms of queries that match them.

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
from pathlib import Path
from typing import Any

import pyarrow as pa

from txrec.config import TextConfig
from txrec.errors import BundleError
from txrec.text.folding import fold
from txrec.text.languages import shop_languages
from txrec.text.normal_form import normalise
from txrec.text.quantities import quantities
from txrec.text.query_terms import QueryTermBuilder, by_first_word
from txrec.text.segmentation import (
    has_digit,
    is_unspaced,
    pieces,
    runs,
    words,
)
from txrec.text.synonyms import Synonyms
from txrec.text.trigrams import word_trigrams
from txrec.text.vocabulary import Vocabulary
from txrec.text.word_forms import QueryTerm, WordForms

MAX_CHARS = 512
"""Characters at which a query is cut, which bounds its cost."""
CACHED_QUERIES = 10_000
"""Queries whose terms are kept: retrieval, features and ranking of one request read them one after another."""
FILE = "analyser.json"
FORMAT = 1

EXACT_WEIGHT = 0.15
"""Weight of the exact spelling, relative to the word in any spelling."""
TRIGRAM_WEIGHT = 0.2
"""Weight of a trigram, relative to a word, whose trigrams are as many as its letters and should not outweigh it."""
HEAD_WEIGHT = 0.5
"""Weight of a query's last word as the last word of a title's first phrase, relative to the word anywhere."""
EXACT_MARK, HEAD_MARK = "=", "$"
_PHRASE_END = re.compile(r"[,;:(\[|\u2013\u2014]| - ")


class Analyser:
    """Text analyser with a shop's languages, words and synonyms. Read-only; texts come in normal form."""

    def __init__(
        self,
        languages: Sequence[str] = ("en",),
        vocabulary: Vocabulary | None = None,
        synonyms: Synonyms | None = None,
    ) -> None:
        """Takes the results of `fit`; the defaults are English without a vocabulary.

        Args:
            languages: ISO 639-1 codes.
            vocabulary: the shop's words; None = no words.
            synonyms: phrases that find each other; None = none.
        """
        self.languages = tuple(languages)
        self.vocabulary = vocabulary or Vocabulary({}, {})
        self.synonyms = synonyms or Synonyms()
        self._word_forms = WordForms(self.languages, self.vocabulary)
        self._phrases = by_first_word(self.synonyms, self._word_forms)
        self.title_tokens = lru_cache(maxsize=200_000)(self._title_tokens)
        self._cached_terms = lru_cache(maxsize=CACHED_QUERIES)(self._terms)

    def __reduce__(self) -> tuple[Any, ...]:
        """State without caches, so that it can be sent to other processes."""
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
        forms = WordForms(languages, Vocabulary({}, {}))
        spellings: defaultdict[str, set[str]] = defaultdict(set)
        folded_titles = []
        for title in titles:
            surfaces = words(title)
            folded_titles.append([fold(surface) for surface in surfaces])
            for surface, folded in forms.spelled_units(surfaces):
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
        """The same with other synonyms; indexes stay valid, because only queries use them."""
        return Analyser(self.languages, self.vocabulary, synonyms)

    def document_tokens(self, text: str, title: str = "") -> list[str]:
        """Index tokens of a product, repeated as often as they occur.

        Args:
            text: normalised title, brand, category and description together.
            title: normalised title; its trigrams, exact spellings and last word are indexed next to the words.
        """
        tokens = self.tokens(text)
        tokens += word_trigrams(title)
        tokens += self._head(_PHRASE_END.split(title, 1)[0])
        varied = self.vocabulary.varied
        if varied:
            units = self._word_forms.spelled_units(words(title))
            tokens += [EXACT_MARK + unit for unit, plain in units if plain in varied]
        return tokens

    def tokens(self, text: str) -> list[str]:
        """Index tokens of a normalised text: words, runs, quantities, parts of compounds; no trigrams.

        >>> Analyser().tokens("2 red lamps for xbox360")
        ['2', 'red', 'lamp', 'for', 'xbox360', 'xbox', '360']
        """
        tokens: list[str] = []
        for piece in pieces(text):
            if piece.isalnum():
                tokens += self._word_forms.document_forms(piece)
                continue
            for run in runs(piece):
                for word in run.words:
                    tokens += self._word_forms.document_forms(word.surface)
                for joined in run.joined:
                    tokens += self._word_forms.forms(joined)
        if has_digit(text):
            tokens += [quantity.token for quantity in quantities(text)]
        return tokens

    def _title_tokens(self, title: str) -> frozenset[str]:
        """Distinct index tokens of a title as the shop wrote it."""
        return frozenset(self.tokens(normalise(title)))

    def terms(self, text: str) -> list[QueryTerm]:
        """Search terms of a normalised query in reading order, its words alone.

        >>> Analyser().terms("red lamps")
        [(('red', 1.0),), (('lamp', 1.0),)]
        """
        return list(self._cached_terms(text[:MAX_CHARS]))

    def _terms(self, text: str) -> tuple[QueryTerm, ...]:
        return tuple(term for term in QueryTermBuilder(text, self._word_forms, self._phrases).terms() if term)

    def query_terms(self, text: str) -> list[QueryTerm]:
        """Search terms of a normalised query: its words, exact spellings, trigrams."""
        text = text[:MAX_CHARS]
        terms = dict.fromkeys(self.terms(text))
        varied = self.vocabulary.varied
        if varied:
            exact = [unit for unit, plain in self._word_forms.spelled_units(words(text)) if plain in varied]
            terms |= dict.fromkeys(((EXACT_MARK + unit, EXACT_WEIGHT),) for unit in exact)
        head = tuple((token, HEAD_WEIGHT) for token in self._head(text))
        if head:
            terms[head] = None
        terms |= dict.fromkeys(((gram, TRIGRAM_WEIGHT),) for gram in word_trigrams(text))
        return list(terms)

    def _head(self, phrase: str) -> list[str]:
        """Tokens of the head of a phrase, where the shop's languages put it last."""
        typed = words(phrase) if self._word_forms.head_last else []
        if not typed or is_unspaced(typed[-1]):
            return []
        return [HEAD_MARK + form for form in self._word_forms.forms(typed[-1])]

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
        """Reads the file of `save`.

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
        synonyms = Synonyms({phrase: tuple(others) for phrase, others in plain["synonyms"].items()})
        return cls(plain["languages"], Vocabulary.from_json(plain["vocabulary"]), synonyms)


def _folded(text: str) -> list[str]:
    """Folded words of a text, and its runs as one word."""
    tokens = []
    for piece in pieces(text):
        if piece.isalnum():
            tokens.append(fold(piece))
            continue
        for run in runs(piece):
            tokens += [fold(word.surface) for word in run.words]
            tokens += [fold(joined) for joined in run.joined]
    return tokens
