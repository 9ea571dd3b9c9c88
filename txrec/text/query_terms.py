"""Search terms of a query: its words with weighted alternatives: joined, split, completed, synonymous."""

from collections import defaultdict
from collections.abc import Sequence

from txrec.text.folding import fold
from txrec.text.quantities import quantities
from txrec.text.segmentation import Run, glued_parts, has_digit, is_unspaced, runs, words
from txrec.text.synonyms import Synonyms
from txrec.text.vocabulary import MIN_PART
from txrec.text.word_forms import QueryTerm, WordForms

JOINED_WEIGHT, PART_WEIGHT, SYNONYM_WEIGHT, COMPLETED_WEIGHT = 0.95, 0.8, 0.9, 0.7
"""Weights of alternatives relative to the word as typed: joined, split, parts of compounds, synonyms, longer words."""
BARE_WEIGHT = 0.6
"""Weight of number and unit as separate words, relative to their quantity."""
MIN_COMPLETED = 4
"""Letters from which on a word that the shop does not have is completed."""

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
        terms: list[QueryTerm] = []
        for place in self._places:
            share = 1.0 / len(place.terms)
            terms += [tuple((token, weight * share) for token, weight in term.items()) for term in place.terms]
        return [*terms, *self._fixed]

    def _read(self, run: Run) -> None:
        forms, first = self._word_forms, len(self._places)
        for word in run.words:
            if is_unspaced(word.surface):
                self._fixed += forms.unspaced_terms(word.surface, as_query=True)
                continue
            place = self._place(word.surface, word.start)
            self._words.append((fold(word.surface), len(self._places) - 1))
            self._expand(place, word.surface)
            for part in glued_parts(word.surface):
                self._place(part, word.start)
        for joined in run.joined:
            self._add(self._places[first:], [forms.forms(joined)], 1.0)

    def _place(self, surface: str, start: int) -> _Place:
        place = _Place(dict.fromkeys(self._word_forms.forms(surface), 1.0), start)
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
        forms = self._word_forms
        typed = [word for word, _ in self._words]
        for start, first in enumerate(typed):
            for phrase, others in self._phrases.get(first, ()):
                if typed[start : start + len(phrase)] != list(phrase):
                    continue
                places = [self._places[place] for _, place in self._words[start : start + len(phrase)]]
                for other in others:
                    self._add(places, [forms.forms(word) for word in other], SYNONYM_WEIGHT)

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


def by_first_word(synonyms: Synonyms) -> SynonymPhrases:
    """Folded words of every phrase with those of its synonyms, by the phrase's first word."""
    phrases: defaultdict[str, list[tuple[tuple[str, ...], list[list[str]]]]] = defaultdict(list)
    for phrase, synonymous in synonyms.phrases.items():
        own = tuple(fold(word) for word in words(phrase))
        others = [typed for other in synonymous if (typed := [fold(word) for word in words(other)])]
        if own and others:
            phrases[own[0]].append((own, others))
    return dict(phrases)
