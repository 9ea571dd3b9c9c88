"""Facets: counts of products by the values of a field, or by ranges of a number, over any set of products.

Every field holds its values as flat arrays (product, code of the value), so that a count is one gather and one
histogram: proportional to the products that are counted where these are few, to the catalogue where they are many.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from txrec.arrays import ragged_gather
from txrec.errors import RequestError
from txrec.index.filters.expressions import as_number
from txrec.text import normalise

MAX_VALUES = 10_000
"""A field with more distinct texts than this, such as an article number, is no facet."""
NUMERIC_SHARE, MIN_NUMBERS = 0.9, 8
"""A field is numeric where at least this share of its distinct values are numbers or dates; it is counted by ranges
where it has at least this number of distinct values, and value by value where it has fewer."""
NUM_RANGES = 6
"""Ranges of a numeric facet at most."""
MAX_SAMPLE = 20_000
"""Values from which the edges of ranges are chosen."""
RESERVED = frozenset({"category", "brand", "price", "available"})
"""Attributes of these names are hidden by the columns."""
FEW = 16
"""Ratio of entries to products above which products are looked up one by one."""
AUTO_FACETS, AUTO_COVERAGE, AUTO_ENTROPY = 6, 0.3, 0.3
"""Facets chosen automatically: most, least share of products with the field, least information of its values, bits."""


@dataclass(frozen=True)
class FacetValue:
    """A value, or a range of numbers, with the number of products that have it.

    Attributes:
        value: as the shop wrote it; of a range its bounds as text.
        count: products.
        low: least number of a range, included; None = no bound, or no range.
        high: upper bound of a range, excluded.
    """

    value: str
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Facet:
    """Counts of one field.

    Attributes:
        field: its name.
        kind: of its values.
        values: texts by count, most first; ranges in order.
        num_values: distinct texts that any product has; of numbers the ranges.
        missing: products without the field.
        low: least number.
        high: greatest number.
    """

    field: str
    kind: Literal["text", "number"]
    values: tuple[FacetValue, ...]
    num_values: int
    missing: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class _Field:
    """Values of one field: P entries sorted by product, a product with several values having several of them.

    Attributes:
        item_idx: (P,) ascending.
        codes: (P,) number of the value.
        labels: values as the shop wrote them, by number.
        known: normalised value = its number.
        size: products of the catalogue and one.
    """

    item_idx: NDArray[np.int32]
    codes: NDArray[np.int32]
    labels: tuple[str, ...]
    known: Mapping[str, int]
    size: int

    @classmethod
    def of(cls, item_idx: NDArray[np.int32], values: pa.Array, size: int) -> "_Field":
        """Takes the product and the value of each entry, products ascending, no value null."""
        empty = cls(np.empty(0, np.int32), np.empty(0, np.int32), (), {}, size)
        return empty.with_entries(np.zeros(size, np.bool_), item_idx, values, size)

    def with_entries(
        self, changed: NDArray[np.bool_], item_idx: NDArray[np.int32], values: pa.Array, size: int
    ) -> "_Field":
        """The field with other entries of the changed products, given as a (size,) mask."""
        encoded = pc.dictionary_encode(values)
        texts = [str(value) for value in encoded.dictionary.to_pylist()]
        places = np.asarray(encoded.indices).astype(np.int64)
        known, labels = dict(self.known), list(self.labels)
        codes = np.empty(len(texts), np.int32)
        counts = np.bincount(places, minlength=len(texts))
        for place in np.argsort(-counts, kind="stable").tolist():  # the commonest spelling is the one that is shown
            key = normalise(texts[place])
            if key not in known:
                known[key] = len(known)
                labels.append(texts[place])
            codes[place] = known[key]
        kept = ~changed[self.item_idx]
        ids = np.concatenate([self.item_idx[kept], item_idx])
        order = np.argsort(ids, kind="stable")
        all_codes = np.concatenate([self.codes[kept], codes[places]])
        return _Field(ids[order], all_codes[order], tuple(labels), known, size)

    @property
    def is_text(self) -> bool:
        """True where there are few enough values to count them one by one."""
        return len(self.labels) <= MAX_VALUES

    @cached_property
    def numbers(self) -> NDArray[np.float64] | None:
        """(N + 1,) the values as numbers, NaN where there is none; None for a field of texts."""
        parsed = [as_number(label) for label in self.labels]
        numeric = [number for number in parsed if number is not None]
        if len(numeric) < NUMERIC_SHARE * len(parsed):
            return None
        by_code = np.array([np.nan if number is None else number for number in parsed])
        values = np.full(self.size, np.nan)
        values[self.item_idx] = by_code[self.codes]
        return values

    @property
    def has_ranges(self) -> bool:
        """True where the field is counted by ranges."""
        return len(self.labels) >= MIN_NUMBERS and self.numbers is not None

    @cached_property
    def last_codes(self) -> NDArray[np.int32]:
        """(N + 1,) code of each product's last value, -1 = it has none."""
        codes = np.full(self.size, -1, np.int32)
        codes[self.item_idx] = self.codes
        return codes

    def counts(self, selected: NDArray[np.int64], mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
        """(V,) products by value, of the selected ones, and how many of them have no value."""
        entries = self.entries(selected, mask)
        having = self.item_idx[entries]  # ascending
        num_having = int(np.count_nonzero(np.diff(having))) + 1 if len(having) else 0
        return np.bincount(self.codes[entries], minlength=len(self.labels)), len(selected) - num_having

    def entries(self, selected: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Entries of the selected products, which are given as indices and as a mask."""
        if len(selected) * FEW > len(self.item_idx):
            return np.flatnonzero(mask[self.item_idx])
        starts = np.searchsorted(self.item_idx, selected, side="left")
        return ragged_gather(starts, np.searchsorted(self.item_idx, selected, side="right") - starts)


class FacetIndex:
    """The fields of a catalogue by name: `category`, `brand`, `price` and every attribute."""

    def __init__(self, size: int, prices: NDArray[np.float64], fields: Mapping[str, _Field]) -> None:
        self._size = size
        self._prices = prices
        self._fields = fields

    @classmethod
    def of(cls, items: pa.Table) -> "FacetIndex":
        """Reads category, brand, price and attributes of a table like schema.PREPARED_ITEMS."""
        size = items.num_rows + 1
        fields = _columns(items, np.arange(1, size, dtype=np.int32))
        return cls(
            size,
            np.append(np.nan, _prices(items)),
            {name: _Field.of(item_idx, values, size) for name, (item_idx, values) in fields.items()},
        )

    def with_items(self, item_idx: NDArray[np.int32], items: pa.Table, size: int) -> "FacetIndex":
        """The index with other rows of some products, or of new ones.

        Args:
            item_idx: (n,) their dense indices.
            items: their rows.
            size: products of the catalogue afterwards, and one.
        """
        order = np.argsort(item_idx)
        item_idx, items = item_idx[order], items.take(pa.array(order))
        changed = np.zeros(size, np.bool_)
        changed[item_idx] = True
        prices = np.pad(self._prices, (0, size - self._size), constant_values=np.nan)
        prices[item_idx] = _prices(items)
        new, fields = _columns(items, item_idx), {}
        nothing = (np.empty(0, np.int32), pa.array([], pa.string()))
        for name in {**self._fields, **new}:
            before = self._fields.get(name) or _Field.of(*nothing, size)
            fields[name] = before.with_entries(changed, *new.get(name, nothing), size)
        return FacetIndex(size, prices, fields)

    def with_prices(self, prices: NDArray[np.float64]) -> "FacetIndex":
        """The same fields with other (N + 1,) prices, NaN where unknown."""
        return FacetIndex(self._size, prices, self._fields)

    @property
    def names(self) -> list[str]:
        """Normalised names of all fields."""
        return ["category", "brand", "price", *(name for name in self._fields if name not in ("category", "brand"))]

    def numbers(self, field: str, argument: str, others: Sequence[str] = ()) -> NDArray[np.float64]:
        """(N + 1,) a field as numbers, dates as seconds since 1970; NaN where a product has none.

        Args:
            field: its name.
            argument: names the field of the request in an error.
            others: what the argument may be besides a field of numbers, for an error.

        Raises:
            RequestError: `argument` names no field, or one of texts.
        """
        if normalise(field) == "price":
            return self._prices
        known = self._fields.get(normalise(field))
        if known is None or known.numbers is None:
            expected = [*others, "price", *(name for name, one in self._fields.items() if one.numbers is not None)][:20]
            near = difflib.get_close_matches(normalise(field), expected, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(expected)}"
            reason = f"no product has a field {field!r}" if known is None else f"{field!r} is a field of texts"
            raise RequestError(argument, f"{reason}; {hint}")
        return known.numbers

    def groups(self, field: str, argument: str) -> NDArray[np.int32]:
        """(N + 1,) number of each product's value of a field, of several the last one; -1 = it has none."""
        if normalise(field) == "price":
            raise RequestError(argument, f"{field!r} is a field of numbers; expected one of texts")
        return self._field(field, argument).last_codes

    def label(self, field: str, code: int) -> str:
        """The value of a number of `groups`."""
        return self._fields[normalise(field)].labels[code]

    def count(self, field: str, mask: NDArray[np.bool_], limit: int, argument: str = "facets") -> Facet:
        """Counts a field over some products.

        Args:
            field: its name.
            mask: (N + 1,) the products.
            limit: values to return.
            argument: names the field of the request in an error.

        Raises:
            RequestError: no product has such a field, or it has too many values.
        """
        name, selected = normalise(field), np.flatnonzero(mask)
        if name == "price":
            return _ranges(field, self._prices[selected])
        known = self._field(field, argument)
        if known.has_ranges and known.numbers is not None:
            return _ranges(field, known.numbers[selected])
        if not known.is_text:
            raise RequestError(argument, f"{field!r} has more than {MAX_VALUES} values; expected a field with fewer")
        counts, missing = known.counts(selected, mask)
        present = np.flatnonzero(counts)
        order = present[np.argsort(-counts[present], kind="stable")][:limit]
        values = tuple(FacetValue(known.labels[code], int(counts[code])) for code in order.tolist())
        return Facet(field, "text", values, len(present), missing)

    def auto(self, mask: NDArray[np.bool_], limit: int) -> list[Facet]:
        """The facets that divide some products best: many have the field, and its values differ."""
        selected, rated = np.flatnonzero(mask), []
        total = len(selected)
        for name in self.names if total else ():
            counts, missing = self._division(name, selected, mask)
            coverage = 1.0 - missing / total
            if coverage < AUTO_COVERAGE or len(counts) < 2 or len(counts) > max(2, total // 2):
                continue
            share = np.clip(counts / total, 1e-9, 1 - 1e-9)  # a value that all or hardly any share divides nothing
            entropy = float(-(share * np.log2(share) + (1 - share) * np.log2(1 - share)).sum())
            if entropy >= AUTO_ENTROPY:
                rated.append((coverage * entropy / np.log2(2.0 + len(counts)), name))
        rated.sort(key=lambda pair: -pair[0])
        return [self.count(name, mask, limit) for _, name in rated[:AUTO_FACETS]]

    def _division(
        self, name: str, selected: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], int]:
        """Products by value or range, empty ones left out, and products without; nothing of what is no facet."""
        known = self._fields.get(name)
        if known is not None and known.is_text and not known.has_ranges:
            counts, missing = known.counts(selected, mask)
            return counts[counts > 0], missing
        if known is not None and not known.has_ranges:
            return np.empty(0, np.int64), len(selected)
        facet = self.count(name, mask, NUM_RANGES)
        return np.array([value.count for value in facet.values], np.int64), facet.missing

    def _field(self, field: str, argument: str) -> _Field:
        name = normalise(field)
        if name not in self._fields:
            near = difflib.get_close_matches(name, self.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(self.names[:20])}"
            raise RequestError(argument, f"no product has a field {field!r}; {hint}")
        return self._fields[name]


def _ranges(field: str, values: NDArray[np.float64]) -> Facet:
    """A numeric facet: ranges between round numbers that hold about as many values each."""
    numbers = values[~np.isnan(values)]
    missing = len(values) - len(numbers)
    if not len(numbers):
        return Facet(field, "number", (), 0, missing)
    low, high = float(numbers.min()), float(numbers.max())
    edges = round_edges(numbers[:: max(1, len(numbers) // MAX_SAMPLE)])
    counts = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1).tolist()
    bounds = [None, *edges, None]
    ranges = tuple(
        FacetValue(_range_text(bounds[place], bounds[place + 1]), count, bounds[place], bounds[place + 1])
        for place, count in enumerate(counts)
        if count
    )
    return Facet(field, "number", ranges, len(ranges), missing, low, high)


def round_edges(values: NDArray[np.float64]) -> list[float]:
    """Round numbers between ranges with about as many values each: quantiles at two, then one significant digits."""
    quantiles = np.unique(np.quantile(values, np.linspace(0, 1, NUM_RANGES + 1)[1:-1]))
    spread = float(np.ptp(values))
    if spread <= 0:
        return []
    step = 10.0 ** np.floor(np.log10(spread / NUM_RANGES))
    rounded = np.unique(np.round(quantiles / step) * step)
    inside = rounded[(rounded > values.min()) & (rounded <= values.max())]
    return [float(f"{edge:.12g}") for edge in inside]


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return f"below {high:g}" if high is not None else "all"
    return f"{low:g} and more" if high is None else f"{low:g} to {high:g}"


Entries = tuple[NDArray[np.int32], pa.Array]
"""(P,) products, ascending, and (P,) their values, none of them null."""


def _prices(items: pa.Table) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(items.column("price").cast(pa.float64()), float("nan")))


def _columns(items: pa.Table, ids: NDArray[np.int32]) -> dict[str, Entries]:
    """Entries of every field but the price; fields that no product has are left out."""
    fields = {name: _entries(items.column(name), ids) for name in ("category", "brand")}
    fields |= _attributes(items.column("attributes"), ids)
    return {name: entries for name, entries in fields.items() if len(entries[0])}


def _entries(column: pa.ChunkedArray, ids: NDArray[np.int32]) -> Entries:
    """Entries of a column of texts or of lists of texts."""
    values = _one_array(column)
    if pa.types.is_list(values.type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0))
        ids, values = np.repeat(ids, lengths), values.flatten()
    present = np.asarray(values.is_valid())
    return ids[present], values.filter(pa.array(present))


def _attributes(column: pa.ChunkedArray, ids: NDArray[np.int32]) -> dict[str, Entries]:
    """Entries of every attribute by its normalised name."""
    maps = _one_array(column)
    offsets = np.asarray(maps.offsets)
    lengths = np.where(np.asarray(maps.is_valid()), np.diff(offsets), 0)
    places = ragged_gather(offsets[:-1].astype(np.int64), lengths.astype(np.int64))
    ids = np.repeat(ids, lengths)
    encoded = pc.dictionary_encode(maps.keys.take(pa.array(places)))
    values = maps.items.take(pa.array(places))
    known: dict[str, int] = {}
    names = [known.setdefault(normalise(str(name)), len(known)) for name in encoded.dictionary.to_pylist()]
    codes = np.array([*names, -1])[np.asarray(encoded.indices)]
    codes[~np.asarray(values.is_valid())] = -1
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(known) + 1))
    parts = {name: order[ends[code] : ends[code + 1]] for name, code in known.items() if name not in RESERVED}
    return {name: (ids[part], values.take(pa.array(part))) for name, part in parts.items()}


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
