"""Conditions on items that hold inside retrieval: a request's filters become a mask over the catalogue.

The mask goes into every candidate source, so that a slate is full whenever enough items match, however few they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from txrec.text import normalise


class PriceRange(BaseModel):
    """Both ends are allowed prices; an item without a price matches no range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = Field(None, ge=0)
    max: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Filters(BaseModel):
    """What an item must fulfil; unset fields but `available` do not restrict. Texts compare after normalisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: tuple[str, ...] = ()
    """Any of these names anywhere on the item's category path."""
    brand: tuple[str, ...] = ()
    """Any of these brands."""
    price: PriceRange | None = None
    """Allowed prices."""
    available: bool | None = None
    """Unset or true: what is available, and what is not known to be unavailable. False: only the unavailable."""
    attributes: dict[str, tuple[str, ...]] = {}
    """Attribute name = any of these values; all names must hold."""


@dataclass(frozen=True, eq=False)
class Postings:
    """Value -> ids of the items that carry it, as one flat array."""

    codes: dict[str, int]
    offsets: NDArray[np.int64]  # (V + 1,)
    ids: NDArray[np.int32]

    @classmethod
    def build(cls, values: pa.Array, ids: NDArray[np.int32]) -> "Postings":
        """Groups `ids` by the equally long `values`; nulls are left out."""
        encoded = pc.dictionary_encode(values)
        codes = np.asarray(encoded.indices.fill_null(-1))
        order = np.argsort(codes, kind="stable")
        order = order[np.searchsorted(codes[order], 0) :]
        names = [normalise(str(value)) for value in encoded.dictionary.to_pylist()]
        known: dict[str, int] = {}
        merged = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
        if len(known) < len(names):  # two spellings normalise to one value
            remapped = merged[codes[order]]
            again = np.argsort(remapped, kind="stable")
            order, sorted_codes = order[again], remapped[again]
        else:
            sorted_codes = codes[order]
        offsets = np.searchsorted(sorted_codes, np.arange(len(known) + 1))
        return cls(known, offsets.astype(np.int64), ids[order])

    def any_of(self, values: Iterable[str], size: int) -> NDArray[np.bool_]:
        """Mask of the items that carry at least one of the values."""
        mask = np.zeros(size, dtype=np.bool_)
        for value in values:
            code = self.codes.get(normalise(value))
            if code is not None:
                mask[self.ids[self.offsets[code] : self.offsets[code + 1]]] = True
        return mask


class FilterIndex:
    """The catalogue's filterable columns, arranged so that a mask takes microseconds per condition."""

    def __init__(self, items: pa.Table) -> None:
        """Reads category, brand, price, available and attributes of a table like schema.PREPARED_ITEMS."""
        ids = np.arange(1, items.num_rows + 1, dtype=np.int32)
        self._size = items.num_rows + 1
        self._category = Postings.build(*_flatten(items.column("category"), ids))
        self._brand = Postings.build(_one_array(items.column("brand")), ids)
        self._attributes = _attribute_postings(items.column("attributes"), ids)
        self._price = np.concatenate([[np.nan], _floats(items.column("price"))])
        self._available = np.concatenate([[False], np.asarray(pc.fill_null(items.column("available"), True))])

    @cached_property
    def available(self) -> NDArray[np.bool_] | None:
        """(N + 1,) True where an item is not known to be unavailable; None where none is."""
        return None if self._available[1:].all() else self._available

    def mask(self, filters: Filters | None) -> NDArray[np.bool_] | None:
        """(N + 1,) True where an item fulfils all conditions; None where there is no condition."""
        conditions = [] if filters is None else list(self._conditions(filters))
        if not conditions:
            return None
        mask: NDArray[np.bool_] = np.logical_and.reduce(conditions)
        return mask

    def _conditions(self, filters: Filters) -> Iterable[NDArray[np.bool_]]:
        if filters.category:
            yield self._category.any_of(filters.category, self._size)
        if filters.brand:
            yield self._brand.any_of(filters.brand, self._size)
        if filters.price is not None:
            low, high = filters.price.min, filters.price.max
            with np.errstate(invalid="ignore"):
                yield (self._price >= (low or 0.0)) & (self._price <= (np.inf if high is None else high))
        if filters.available is not None:
            known = self._available == filters.available
            known[0] = False
            yield known
        for name, values in filters.attributes.items():
            yield self._attributes.any_of([_pair(name, value) for value in values], self._size)


def restrict(
    size: int, mask: NDArray[np.bool_] | None, excluded: Sequence[int] | NDArray[np.int32]
) -> NDArray[np.bool_] | None:
    """Takes single ids out of a mask (None = everything allowed)."""
    if not len(excluded):
        return mask
    restricted = np.ones(size, dtype=np.bool_) if mask is None else mask.copy()
    restricted[np.asarray(excluded, dtype=np.int64)] = False
    return restricted


def _flatten(column: pa.ChunkedArray, ids: NDArray[np.int32]) -> tuple[pa.Array, NDArray[np.int32]]:
    lists = _one_array(column)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    return lists.flatten(), np.repeat(ids, lengths)


def _attribute_postings(column: pa.ChunkedArray, ids: NDArray[np.int32]) -> Postings:
    maps = _one_array(column)
    lengths = np.diff(np.asarray(maps.offsets))
    present = np.asarray(maps.is_valid())
    lengths = np.where(present, lengths, 0)
    pairs = [_pair(key, value) for row in maps.to_pylist() if row for key, value in row]
    return Postings.build(pa.array(pairs, pa.string()), np.repeat(ids, lengths))


def _pair(name: str, value: str | None) -> str:
    return f"{normalise(name)}={normalise(value or '')}"


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")))
