"""Completion index: queries, categories and products that begin with a prefix, typing errors included.

Every word of a text is a place where a completion may begin (every character, in scripts without spaces). The places
are sorted as texts, so that a prefix is a range of them; the best of short prefixes, whose ranges are long, are kept.
Where too few texts begin with a prefix, prefixes one edit away are tried.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from txrec.text import normalise
from txrec.text.keyboard import other_layouts

Kind = Literal["query", "category", "product"]
MAX_KEY_CHARS = 48
MAX_STARTS = 12
"""Places of one text at which a completion may begin."""
KEPT_CHARS = 3
"""Prefixes up to this length have their best completions kept."""
KEPT = 64
"""Completions that are kept per short prefix, and looked at per edited one."""
MAX_SCANNED = 50_000
"""Places of a range that are looked at."""
PLACES_PER_ENTRY = 4
"""Heaviest places of a range that are sorted per entry of an answer: an entry may have several of them."""
MAX_FOLLOWING = 100
"""Different characters after a text up to which all of them are tried as a correction."""
MIN_TYPO_CHARS = 4
"""Shorter prefixes are taken as they are."""
INNER_WORD_FACTOR = 0.3
"""Weight of a completion that begins inside a text."""
TYPO_FACTOR = 0.1
FEW = 3
"""Completions below which prefixes one edit away are tried."""
_ALPHABET = 40
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Suggestion:
    """A completion.

    Attributes:
        text: as it is shown.
        kind: of the text.
        weight: how often it was used; larger comes first.
        item_id: of a product.
    """

    text: str
    kind: Kind
    weight: float
    item_id: str | None = None

    @cached_property
    def normal(self) -> str:
        """The text after normalisation."""
        return normalise(self.text)

    @property
    def identity(self) -> tuple[str, str | None, str]:
        """Kind, item id and normal form: two suggestions that share them are one."""
        return self.kind, self.item_id, self.normal


class SuggestionIndex:
    """Completions by prefix; immutable."""

    def __init__(self, entries: Iterable[Suggestion] = ()) -> None:
        """Sorts the places of all entries; two entries of one kind with one normal form count as one, the heavier."""
        self.entries = _unique(entries)
        places = []
        for number, entry in enumerate(self.entries):
            text = entry.normal
            for start in _starts(text):
                factor = 1.0 if start == 0 else INNER_WORD_FACTOR
                places.append((text[start : start + MAX_KEY_CHARS], number, entry.weight * factor))
        places.sort(key=lambda place: place[0])
        self._keys = [key for key, _, _ in places]
        self._entry = np.array([number for _, number, _ in places], np.int32)
        self._weight = np.array([weight for _, _, weight in places], np.float32)
        self._kept = self._best_of_short()
        characters = Counter(character for key in self._keys for character in key[:8])
        self._alphabet = [character for character, _ in characters.most_common(_ALPHABET)]

    def complete(self, prefix: str, limit: int = 10) -> list[tuple[Suggestion, float]]:
        """Entries that hold a place that begins with a prefix, best first, with their scores.

        Args:
            prefix: the typed text; blank = the heaviest entries.
            limit: longest list.
        """
        return complete([self], prefix, limit)

    def beginning_with(self, text: str, most: int) -> list[tuple[Suggestion, float]]:
        """The best entries with a place that begins with a normalised text, with their scores."""
        return [(self.entries[number], score) for number, score in self._best(text, most)]

    def one_edit_away(self, text: str) -> list[tuple[Suggestion, float]]:
        """Entries with a place that begins with one edit of a normalised text, best first, with lowered scores."""
        scores: dict[int, float] = {}
        for edited in self._edits(text):
            for number, score in self._best(edited, KEPT):
                scores[number] = max(scores.get(number, 0.0), TYPO_FACTOR * score)
        order = sorted(scores, key=lambda number: (-scores[number], number))
        return [(self.entries[number], scores[number]) for number in order]

    def _best(self, text: str, most: int) -> list[tuple[int, float]]:
        """Numbers of the best entries that a normalised text begins, with their scores."""
        kept = self._kept.get(text)
        if kept is None:
            first, last = self._range(text)
            kept = np.arange(first, min(last, first + MAX_SCANNED))
        numbers, weights = self._entry[kept], self._weight[kept]
        if len(weights) > PLACES_PER_ENTRY * most:
            head = np.argpartition(-weights, PLACES_PER_ENTRY * most)[: PLACES_PER_ENTRY * most]
            numbers, weights = numbers[head], weights[head]
        order = np.lexsort((numbers, -weights))
        best: dict[int, float] = {}
        for number, weight in zip(numbers[order].tolist(), weights[order].tolist(), strict=True):
            best.setdefault(number, weight)
            if len(best) == most:
                break
        return list(best.items())

    def _range(self, text: str) -> tuple[int, int]:
        return bisect_left(self._keys, text), bisect_left(self._keys, text + _LAST)

    def _edits(self, text: str) -> set[str]:
        """Prefixes one edit away that some place begins with; the first character stays."""
        edits: set[str] = set()
        for place in range(1, len(text)):
            head, tail = text[:place], text[place:]
            first, last = self._range(head)
            if first == last:  # nor does anything begin with an edit further on
                break
            edited = [head + tail[1:], head + tail[1:2] + tail[:1] + tail[2:]] if len(tail) > 1 else []
            for character in self._following(head, first, last):  # without its last one every longer text would do
                edited += [head + character + tail[1:], head + character + tail]
            edits.update(one for one in edited if self._begins(one, first, last))
        return edits - {text}

    def _following(self, head: str, first: int, last: int) -> list[str]:
        """Characters that follow a text among its places; the most frequent ones of all where those are many."""
        characters: list[str] = []
        place = bisect_right(self._keys, head, first, last)
        while place < last:
            character = self._keys[place][len(head)]
            characters.append(character)
            if len(characters) > MAX_FOLLOWING:
                return self._alphabet
            place = bisect_left(self._keys, head + character + _LAST, place, last)
        return characters

    def _begins(self, text: str, first: int, last: int) -> bool:
        place = bisect_left(self._keys, text, first, last)
        return place < last and self._keys[place].startswith(text)

    def _best_of_short(self) -> dict[str, np.ndarray]:
        by_prefix: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(self._keys):
            for length in range(min(KEPT_CHARS, len(key)) + 1):
                by_prefix[key[:length]].append(place)
        kept = {}
        for prefix, places in by_prefix.items():
            order = np.argsort(-self._weight[places], kind="stable")[:KEPT]
            kept[prefix] = np.array(places)[order]
        return kept


def complete(indexes: Sequence[SuggestionIndex], prefix: str, limit: int) -> list[tuple[Suggestion, float]]:
    """Completions from several indexes, best first, with their scores; an entry of several has its highest score.

    Args:
        indexes: hold the entries.
        prefix: the typed text; blank = the heaviest entries.
        limit: longest list.
    """
    text = normalise(prefix)
    exact = _merged([index.beginning_with(text, limit) for index in indexes])
    if len(exact) >= FEW:
        return exact[:limit]
    corrected = _merged([index.one_edit_away(text) for index in indexes]) if len(text) >= MIN_TYPO_CHARS else []
    known = {suggestion.identity for suggestion, _ in exact}
    near = [*exact, *(pair for pair in corrected if pair[0].identity not in known)]
    typed = [] if near else _typed(text)
    return (near or _merged([index.beginning_with(other, limit) for other in typed for index in indexes]))[:limit]


def _typed(text: str) -> list[str]:
    """Normalised texts that the keys of a prefix give under another keyboard layout."""
    return [other for other in map(normalise, other_layouts(text)) if other]


def _merged(lists: Sequence[list[tuple[Suggestion, float]]]) -> list[tuple[Suggestion, float]]:
    if len(lists) < 2:
        return lists[0] if lists else []
    best: dict[tuple[str, str | None, str], tuple[Suggestion, float]] = {}
    for pair in (pair for pairs in lists for pair in pairs):
        identity = pair[0].identity
        if identity not in best or best[identity][1] < pair[1]:
            best[identity] = pair
    return sorted(best.values(), key=lambda pair: -pair[1])


def _unique(entries: Iterable[Suggestion]) -> Sequence[Suggestion]:
    heaviest: dict[tuple[str, str | None, str], Suggestion] = {}
    for entry in entries:
        key = entry.identity
        if entry.normal and (key not in heaviest or heaviest[key].weight < entry.weight):
            heaviest[key] = entry
    return tuple(heaviest.values())


def _starts(text: str) -> list[int]:
    """Places of a normalised text at which a completion may begin."""
    starts = [0] if text else []
    for place in range(1, len(text)):
        if not text[place].isalnum():
            continue
        if not text[place - 1].isalnum() or _is_unspaced(text[place]):
            starts.append(place)
    return starts[:MAX_STARTS]


def _is_unspaced(character: str) -> bool:
    """True for a character of a script without spaces: Thai, Lao, Khmer, Myanmar, kana, Han."""
    code = ord(character)
    return 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF or 0x3040 <= code <= 0x9FFF
