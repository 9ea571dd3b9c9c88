"""Search terms of a query: its words with weighted alternatives: joined, split, completed, synonymous."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from txrec.text.folding import fold
from txrec.text.quantities import quantities
from txrec.text.segmentation import Run, Word, glued_parts, has_digit, is_unspaced, runs, words
from txrec.text.synonyms import Synonyms
from txrec.text.vocabulary import MIN_PART
from txrec.text.word_forms import NEAR_WEIGHT, QueryTerm, WordForms

JOINED_WEIGHT, PART_WEIGHT, SYNONYM_WEIGHT, COMPLETED_WEIGHT = 0.95, 0.8, 0.9, 0.7
"""Weights of alternatives relative to the word as typed: joined, split, parts of compounds, synonyms, longer words."""
BARE_WEIGHT = 0.6
"""Weight of number and unit as separate words, relative to their quantity."""
MIN_COMPLETED = 4
"""Letters from which on a word that the shop does not have is completed."""

_LONGEST_PHRASE = 16
"""Characters of the longest phrase with synonyms that is looked for inside a word."""

SynonymPhrases = dict[str, list[tuple[tuple[str, ...], list[list[str]]]]]
"""First folded word -> phrases that begin with it, as folded words, each with its synonyms, as folded words."""


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


class QueryTermBuilder:
    """Builder of the terms of one query."""

    def __init__(self, text: str, forms: WordForms, phrases: SynonymPhrases) -> None:
        """Takes a normalised query, the shop's word forms and its synonyms of `by_first_word`."""
        self._text = text
        self._word_forms = forms
        self._phrases = phrases
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
            scaled: set[int] = set()
            for quantity in quantities(self._text):
                inside = [place for place in self._places if quantity.start <= place.start < quantity.end]
                for place in inside if quantity.start not in scaled else ():
                    place.scale(BARE_WEIGHT)
                scaled.add(quantity.start)
                self._add(inside, [(quantity.token,)], 1.0)
                if not inside and not self._text.isascii():  # within a word of a script that separates none
                    self._fixed.append(((quantity.token, 1.0),))
        terms: list[QueryTerm] = []
        for place in self._places:
            share = 1.0 / len(place.terms)
            terms += [tuple((token, weight * share) for token, weight in term.items()) for term in place.terms]
        return [*terms, *self._fixed]

    def _read(self, run: Run) -> None:
        forms, first = self._word_forms, len(self._places)
        for word in run.words:
            if is_unspaced(word.surface):
                self._read_unspaced(word)
                continue
            place = self._place(word.surface, word.start)
            self._words.append((fold(word.surface), len(self._places) - 1))
            self._expand(place, word.surface)
            for part in glued_parts(word.surface):
                self._place(part, word.start)
        for joined in run.joined:
            self._add(self._places[first:], [forms.forms(joined)], 1.0)

    def _read_unspaced(self, word: Word) -> None:
        """Terms of a word in a script that separates no words, with the synonyms of phrases that it holds."""
        forms, plain = self._word_forms, self._word_forms.plain(word.surface)
        start = 0
        for begin, end in self._phrases_within(plain) if self._phrases else ():
            self._fixed += forms.unspaced_terms(plain[start:begin], as_query=True)
            own = forms.unspaced_terms(plain[begin:end], as_query=True)
            places = [_Place(dict(term), word.start) for term in own if _is_whole(term)]
            self._fixed += [term for term in own if not _is_whole(term)]
            for phrase, others in self._phrases[plain[begin:end]]:
                for other in others if len(phrase) == 1 else ():
                    self._add(places, self._tokens_of(other), SYNONYM_WEIGHT)
            self._places += places
            start = end
        self._fixed += forms.unspaced_terms(plain[start:] if start else word.surface, as_query=True)

    def _phrases_within(self, word: str) -> Iterator[tuple[int, int]]:
        """First and last place of phrases of one word with synonyms, from left to right, the longest of each place."""
        begin = 0
        while begin < len(word):
            ends = range(min(len(word), begin + _LONGEST_PHRASE), begin, -1)
            end = next((end for end in ends if any(len(p) == 1 for p, _ in self._phrases.get(word[begin:end], ()))), 0)
            if end:
                yield begin, end
            begin = end or begin + 1

    def _tokens_of(self, phrase: Sequence[str]) -> list[tuple[str, ...]]:
        """Index tokens of a synonym: a set of alternatives per word, and per pair of clusters of an unspaced one."""
        forms = self._word_forms
        tokens: list[tuple[str, ...]] = []
        for word in phrase:
            if is_unspaced(word):
                terms = forms.unspaced_terms(word, as_query=True)
                tokens += [(term[0][0],) for term in terms if _is_whole(term)]
            else:
                tokens.append(forms.forms(word))
        return tokens

    def _place(self, surface: str, start: int) -> _Place:
        forms = self._word_forms
        near = dict.fromkeys(forms.near_forms(surface), NEAR_WEIGHT)
        place = _Place(near | dict.fromkeys(forms.forms(surface), 1.0), start)
        self._places.append(place)
        return place

    def _expand(self, place: _Place, surface: str) -> None:
        """Alternatives of a single word: split as titles do, parts of a compound, longer words that hold it."""
        forms, folded = self._word_forms, fold(surface)
        vocabulary = forms.vocabulary
        halves = vocabulary.split(folded)
        if halves is not None:
            place.add([forms.forms(part) for part in halves], JOINED_WEIGHT)
        elif parts := forms.compound_parts(surface):
            place.add([forms.forms(part) for part in parts], PART_WEIGHT)
        if folded in vocabulary or len(folded) < MIN_COMPLETED:
            return
        longer = []
        if has_digit(folded):
            longer = vocabulary.completions(folded)
        elif forms.compounding:
            longer = [*vocabulary.ending(folded), *vocabulary.completions(folded)]
        for word in longer:
            place.add([forms.forms(word)], COMPLETED_WEIGHT)

    def _add_neighbours(self) -> None:
        """Neighbouring words that the shop writes as one."""
        forms = self._word_forms
        for count in (2, 3):
            for start in range(len(self._words) - count + 1):
                span = self._words[start : start + count]
                joined = "".join(word for word, _ in span)
                if max(len(word) for word, _ in span) >= MIN_PART and joined in forms.vocabulary:
                    self._add([self._places[place] for _, place in span], [forms.forms(joined)], JOINED_WEIGHT)

    def _add_synonyms(self) -> None:
        if not self._phrases:
            return
        typed = [word for word, _ in self._words]
        for start, first in enumerate(typed):
            for phrase, others in self._phrases.get(first, ()):
                if typed[start : start + len(phrase)] != list(phrase):
                    continue
                places = [self._places[place] for _, place in self._words[start : start + len(phrase)]]
                for other in others:
                    self._add(places, self._tokens_of(other), SYNONYM_WEIGHT)

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


def _is_whole(term: QueryTerm) -> bool:
    """False for a single ideograph or syllable of a longer word."""
    return term[0][1] == 1.0


def by_first_word(synonyms: Synonyms, forms: WordForms) -> SynonymPhrases:
    """Folded words of every phrase with those of its synonyms, by the phrase's first word."""
    phrases: defaultdict[str, list[tuple[tuple[str, ...], list[list[str]]]]] = defaultdict(list)
    for phrase, synonymous in synonyms.phrases.items():
        own = tuple(forms.plain(word) for word in words(phrase))
        others = [typed for other in synonymous if (typed := [forms.plain(word) for word in words(other)])]
        if own and others:
            phrases[own[0]].append((own, others))
    return dict(phrases)
