"""Products by article number: with or without its separators, in any case, whole or by its beginning."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.text.folding import fold
from txrec.text.normal_form import normalise
from txrec.text.segmentation import has_digit, unsigned, words

ATTRIBUTES = frozenset(
    {"sku", "mpn", "gtin", "gtin8", "gtin12", "gtin13", "gtin14", "ean", "upc", "isbn", "asin", "model", "modelnumber"}
    | {"articlenumber", "partnumber", "itemnumber", "artikelnummer", "manufacturerpartnumber", "productcode"}
)
"""Names of product attributes that hold article numbers, without their separators."""
MIN_WITHIN = 5
"""Characters of the shortest article number that matches a part of a longer query: `360` in `xbox 360` does not."""
MIN_BEGINNING = 4
MAX_BEGINNING = 50
"""Products proposed for the beginning of their article numbers."""
MAX_WORDS = 8
"""Longer queries are no article number with separators."""


class Match(IntEnum):
    """Kinds of match between a query and an article number, the closest last."""

    BEGINNING = 1
    PART = 2
    """Some of the query's words are the number."""
    SQUEEZED = 3
    """The whole query, separators left out."""
    EXACT = 4


@dataclass(frozen=True, eq=False)
class ArticleNumbers:
    """Article numbers of a catalogue.

    Attributes:
        keys: (n,) article numbers without separators, ascending.
        exact: (n,) the same in normal form.
        item_idx: (n,) their products.
    """

    keys: Sequence[str]
    exact: Sequence[str]
    item_idx: NDArray[np.int32]

    @classmethod
    def fit(cls, items: pa.Table, item_idx: NDArray[np.int32], id_column: str) -> "ArticleNumbers":
        """Collects ids and the attributes that are named like article numbers.

        Args:
            items: n products; `attributes`, a map or list of pairs, may be absent.
            item_idx: (n,) dense numbers of the rows.
            id_column: column of the shop's ids.
        """
        ids = items.column(id_column).to_pylist()
        attributes = items.column("attributes").to_pylist() if "attributes" in items.column_names else [None] * len(ids)
        rows = []
        for idx, key, pairs in zip(item_idx.tolist(), ids, attributes, strict=True):
            numbers = [key, *(value for name, value in pairs or () if value and squeeze(normalise(name)) in ATTRIBUTES)]
            normal = dict.fromkeys(normalise(str(number)) for number in numbers)
            rows += [(squeezed, number, idx) for number in normal if (squeezed := squeeze(number))]
        rows.sort()
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(columns[0], columns[1], np.array(columns[2], np.int32))

    def joined(self, more: "ArticleNumbers", replaced: Iterable[int]) -> "ArticleNumbers":
        """Both catalogues, with `more` instead of the products `replaced`."""
        gone = set(replaced)
        rows = [row for row in self._rows() if row[2] not in gone]
        rows = sorted([*rows, *more._rows()])
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return ArticleNumbers(columns[0], columns[1], np.array(columns[2], np.int32))

    def find(self, text: str) -> dict[int, Match]:
        """Products whose article numbers a normalised query names, with the closest way in which it does."""
        matches: dict[int, Match] = {}
        whole = squeeze(text)
        if not whole or not self.keys:
            return matches
        parts = words(text)
        named = self._with_key(whole) if len(parts) <= MAX_WORDS else range(0)
        for place in named:
            match = Match.EXACT if self.exact[place] == text else Match.SQUEEZED
            self._keep(matches, place, match)
        if len(parts) > 1 and not matches:
            for key in _within(text):
                for place in self._with_key(key):
                    self._keep(matches, place, Match.PART)
        if not matches and len(whole) >= MIN_BEGINNING and has_digit(whole) and len(parts) <= MAX_WORDS:
            for place in self._beginning(whole):
                self._keep(matches, place, Match.BEGINNING)
        return matches

    def _keep(self, matches: dict[int, Match], place: int, match: Match) -> None:
        idx = int(self.item_idx[place])
        matches[idx] = max(match, matches.get(idx, match))

    def _with_key(self, key: str) -> range:
        start = end = bisect_left(self.keys, key)
        while end < len(self.keys) and self.keys[end] == key:
            end += 1
        return range(start, end)

    def _beginning(self, key: str) -> range:
        start = end = bisect_left(self.keys, key)
        while end < len(self.keys) and end - start < MAX_BEGINNING and self.keys[end].startswith(key):
            end += 1
        return range(start, end)

    def _rows(self) -> Iterable[tuple[str, str, int]]:
        return zip(self.keys, self.exact, self.item_idx.tolist(), strict=True)

    def to_table(self) -> pa.Table:
        """Columns key, exact, item_idx."""
        columns: Mapping[str, pa.Array] = {
            "key": pa.array(self.keys, pa.string()),
            "exact": pa.array(self.exact, pa.string()),
            "item_idx": pa.array(self.item_idx),
        }
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> "ArticleNumbers":
        """The inverse of `to_table`."""
        keys, exact = (table.column(name).to_pylist() for name in ("key", "exact"))
        return cls(keys, exact, table.column("item_idx").to_numpy().astype(np.int32))


def squeeze(text: str) -> str:
    """Letters and digits of a normalised text alone, folded: `nor.0707-60` -> nor070760."""
    return fold("".join(map(unsigned, words(text))))


def _within(text: str) -> Iterable[str]:
    """Words of a query, and neighbouring ones taken together, that may be an article number."""
    chunks = [squeezed for chunk in text.split()[:16] if (squeezed := squeeze(chunk))]
    for count in (1, 2, 3):
        for start in range(len(chunks) - count + 1):
            key = "".join(chunks[start : start + count])
            if len(key) >= MIN_WITHIN and has_digit(key):
                yield key
