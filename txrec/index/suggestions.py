"""Completion index: queries, categories and products that begin with a prefix, typing errors included.

Every word of a text is a place where a completion may begin (every character, in scripts without spaces). The places
are sorted as texts, so that a prefix is a range of them; the best of short prefixes, whose ranges are long, are kept.
Where too few texts begin with a prefix, prefixes one edit away are tried.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Literal

import numpy as np

from txrec.text import normalise

Kind = Literal["query", "category", "product"]
MAX_KEY_CHARS = 48
MAX_STARTS = 12
"""Places of one text at which a completion may begin."""
KEPT_CHARS = 3
"""Prefixes up to this length have their best completions kept."""
KEPT = 64
"""Completions that are kept per short prefix, and looked at per edited one."""
MAX_SCANNED = 5_000
"""Places of a range that are looked at."""
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


class SuggestionIndex:
    """Completions by prefix; immutable."""

    def __init__(self, entries: Iterable[Suggestion] = ()) -> None:
        """Sorts the places of all entries; two entries of one kind with one normal form count as one, the heavier."""
        self.entries = _unique(entries)
        places = []
        for number, entry in enumerate(self.entries):
            text = normalise(entry.text)
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
        text = normalise(prefix)
        exact = self._scores(text)
        corrected: dict[int, float] = {}
        if len(exact) < FEW and len(text) >= MIN_TYPO_CHARS:
            for edited in self._edits(text):
                for number, score in self._scores(edited).items():
                    if number not in exact:
                        corrected[number] = max(corrected.get(number, 0.0), TYPO_FACTOR * score)
        best = [*_best(exact, limit), *_best(corrected, limit)][:limit]
        return [(self.entries[number], score) for number, score in best]

    def _scores(self, text: str) -> dict[int, float]:
        places = self._kept.get(text)
        if places is None:
            first, last = self._range(text)
            places = np.arange(first, min(last, first + MAX_SCANNED))
        scores: dict[int, float] = {}
        for number, weight in zip(self._entry[places].tolist(), self._weight[places].tolist(), strict=True):
            scores[number] = max(scores.get(number, 0.0), weight)
        return scores

    def _range(self, text: str) -> tuple[int, int]:
        return bisect_left(self._keys, text), bisect_left(self._keys, text + _LAST)

    def _edits(self, text: str) -> set[str]:
        """Prefixes one edit away that some place begins with; the first character stays."""
        edits = set()
        for place in range(1, len(text)):
            head, tail = text[:place], text[place:]
            if len(tail) > 1:  # without the last character every longer text would do
                edits |= {head + tail[1:], head + tail[1:2] + tail[:1] + tail[2:]}
            for character in self._alphabet:
                edits |= {head + character + tail[1:], head + character + tail}
        edits.discard(text)
        return {edited for edited in edits if edited and self._begins(edited)}

    def _begins(self, text: str) -> bool:
        place = bisect_left(self._keys, text)
        return place < len(self._keys) and self._keys[place].startswith(text)

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


def _best(scores: dict[int, float], limit: int) -> list[tuple[int, float]]:
    return nlargest(limit, scores.items(), key=lambda pair: (pair[1], -pair[0]))


def _unique(entries: Iterable[Suggestion]) -> Sequence[Suggestion]:
    heaviest: dict[tuple[str, str | None, str], Suggestion] = {}
    for entry in entries:
        text = normalise(entry.text)
        key = entry.kind, entry.item_id, text
        if text and (key not in heaviest or heaviest[key].weight < entry.weight):
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
