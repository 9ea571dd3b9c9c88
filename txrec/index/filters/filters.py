"""Conditions on items that hold inside retrieval: a request's filters become a mask over the catalogue.

The mask goes into every candidate source, so that a slate is full whenever enough items match, however few they are.
"""

import copy
import difflib
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from txrec.errors import RequestError
from txrec.index.filters.expressions import And, Condition, Expression, Not, Or, Value, as_number, check_size, parts_of
from txrec.text import normalise

_COMPARISONS = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}


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
    """Conditions on an item; unset fields but `available` do not restrict. Texts compare after normalisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: tuple[str, ...] = ()
    """Any of these names anywhere on the item's category path."""
    brand: tuple[str, ...] = ()
    """Any of these brands."""
    price: PriceRange | None = None
    """Allowed prices."""
    available: bool | None = None
    """Unset or true: products not known to be unavailable. False: only unavailable products."""
    attributes: dict[str, tuple[str, ...]] = {}
    """Attribute name = any of these values; all names must hold."""
    where: Expression | None = None
    """Further conditions, joined by AND, OR and NOT, as an object or as text; see the guide on filters."""

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        if self.where is not None:
            check_size(self.where)
        return self


def as_expression(filters: Filters) -> Condition | And | Or | Not | None:
    """All conditions except `available` as one expression; None without conditions."""
    parts: list[Condition | And | Or | Not] = []
    for field, values in (("category", filters.category), ("brand", filters.brand), *filters.attributes.items()):
        if values:
            parts.append(Condition(field=field, any_of=values))
    if filters.price is not None:
        price = filters.price
        parts.append(Condition(field="price", gte=price.min or 0.0, lte=price.max))
    if filters.where is not None:
        parts.append(filters.where)
    if len(parts) > 1:
        return And(parts=tuple(parts))
    return parts[0] if parts else None


def joined(first: Filters | None, second: Filters | None) -> Filters | None:
    """Filters that products fulfil if they fulfil both; None where both are absent."""
    if first is None or second is None:
        return first or second
    expression = as_expression(first)
    if expression is None:
        where = second.where
    else:
        where = expression if second.where is None else And(parts=(expression, second.where))
    available = first.available if second.available is None else second.available
    return second.model_copy(update={"where": where, "available": available})


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
        self._attribute_numbers: dict[str, NDArray[np.float64]] = {}
        self._available = np.concatenate([[False], np.asarray(pc.fill_null(items.column("available"), True))])

    def in_market(self, prices: NDArray[np.float32], in_stock: NDArray[np.bool_] | None) -> "FilterIndex":
        """The same with other (N + 1,) prices and, unless None, without what is not in stock."""
        index = copy.copy(self)
        index._price = prices.astype(np.float64)
        if in_stock is not None:
            index._available = self._available & in_stock
        index.__dict__.pop("available", None)
        return index

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
            if normalise(name) not in self.attribute_names:
                raise self._unknown("filters.attributes", name, sorted(self.attribute_names))
            yield self._attributes.any_of([_pair(name, value) for value in values], self._size)
        if filters.where is not None:
            yield self.expression(filters.where)

    def expression(self, node: Condition | And | Or | Not) -> NDArray[np.bool_]:
        """(N + 1,) True where an item fulfils an expression.

        Raises:
            RequestError: no item has a field of this name.
        """
        if isinstance(node, Condition):
            return self._condition(node)
        masks = [self.expression(part) for part in parts_of(node)]
        if isinstance(node, Not):
            mask: NDArray[np.bool_] = ~masks[0]
            mask[0] = False
            return mask
        join = np.logical_and if isinstance(node, And) else np.logical_or
        joined: NDArray[np.bool_] = join.reduce(masks)
        return joined

    @cached_property
    def attribute_names(self) -> frozenset[str]:
        """Normalised names of the attributes that items have."""
        return frozenset(pair.partition("=")[0] for pair in self._attributes.codes)

    def numbers(self, field: str) -> NDArray[np.float64]:
        """(N + 1,) a field as numbers, dates as seconds since 1970; NaN where it is neither."""
        if field == "price":
            return self._price
        if field not in self._attribute_numbers:
            values, postings = np.full(self._size, np.nan), self._attributes
            for pair, code in postings.codes.items():
                name, _, text = pair.partition("=")
                number = as_number(text.upper()) if name == field else None
                if number is not None:
                    values[postings.ids[postings.offsets[code] : postings.offsets[code + 1]]] = number
            self._attribute_numbers[field] = values
        return self._attribute_numbers[field]

    def _condition(self, condition: Condition) -> NDArray[np.bool_]:
        field = normalise(condition.field)
        if field not in {"category", "brand", "price", "available", *self.attribute_names}:
            names = ["category", "brand", "price", "available", *sorted(self.attribute_names)]
            raise self._unknown("filters.where", condition.field, names)
        masks = [self._equal(field, (condition.equals,))] if condition.equals is not None else []
        if condition.any_of:
            masks.append(self._equal(field, condition.any_of))
        for name, compare in _COMPARISONS.items():
            bound = as_number(getattr(condition, name))
            if bound is not None:
                with np.errstate(invalid="ignore"):
                    masks.append(compare(self.numbers(field), bound))
        mask: NDArray[np.bool_] = np.logical_and.reduce(masks)
        return mask

    @staticmethod
    def _unknown(argument: str, field: str, names: Sequence[str]) -> RequestError:
        """Error that no product has a field of this name."""
        near = difflib.get_close_matches(normalise(field), names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names[:20]) or 'none'}"
        return RequestError(argument, f"no product has a field {field!r}; {hint}")

    def _equal(self, field: str, values: Sequence[Value]) -> NDArray[np.bool_]:
        if field == "available":
            allowed = [str(value).lower() == "true" for value in values]
            mask = np.isin(self._available, allowed)
            mask[0] = False
            return mask
        if field == "price":
            return np.isin(self._price, [_price(value) for value in values])
        texts = [_text(value) for value in values]
        if field in {"category", "brand"}:
            return (self._category if field == "category" else self._brand).any_of(texts, self._size)
        mask = self._attributes.any_of([_pair(field, text) for text in texts], self._size)
        numbers = [value for value in values if isinstance(value, float)]
        return mask | np.isin(self.numbers(field), numbers) if numbers else mask


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


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return value


def _pair(name: str, value: str | None) -> str:
    return f"{normalise(name)}={normalise(value or '')}"


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")))


def _price(value: Value) -> float:
    number = as_number(value)
    if number is None:
        raise RequestError("filters.where", f"price is compared with {value!r}; expected a number")
    return number
