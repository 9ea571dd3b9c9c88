"""Markets: prices and stock of products by store or country, and their periods of sale."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

PLACES = ("store", "country")
"""Names in the context of a request that may name a market; a price or a stock of the first one counts."""
FOREVER = np.iinfo(np.int64).max


class Entries(NamedTuple):
    """Numbers of some products in one market."""

    item_idx: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Markets:
    """Columns `prices`, `stock`, `sale_start` and `sale_end` of a catalogue of N products, by market.

    Attributes:
        items: schema.PREPARED_ITEMS.
    """

    items: pa.Table

    @cached_property
    def _prices(self) -> dict[str, Entries]:
        return _by_market(self.items.column("prices"))

    @cached_property
    def _stock(self) -> dict[str, Entries]:
        return _by_market(self.items.column("stock"))

    @cached_property
    def _start(self) -> NDArray[np.int64]:
        """(N + 1,) microseconds since 1970."""
        return np.append(0, _instants(self.items.column("sale_start"), 0))

    @cached_property
    def _end(self) -> NDArray[np.int64]:
        """(N + 1,) microseconds since 1970."""
        return np.append(FOREVER, _instants(self.items.column("sale_end"), FOREVER))

    @cached_property
    def _changes(self) -> NDArray[np.int64]:
        """Instants at which a sale starts or ends, ascending."""
        instants = np.unique(np.concatenate([self._start, self._end]))
        return instants[(instants > 0) & (instants < FOREVER)]

    def named(self, context: Mapping[str, str]) -> tuple[str, ...]:
        """Markets that a request's context names and that any product has a price or a stock in."""
        names = (context.get(place) for place in PLACES)
        return tuple(name for name in names if name is not None and (name in self._prices or name in self._stock))

    def period(self, now_us: int) -> int:
        """Number of the period between two changes of what is on sale; 0 before the first and where there are none."""
        return int(np.searchsorted(self._changes, now_us, side="right"))

    @property
    def has_periods(self) -> bool:
        """True where some product has a start or an end of its sale."""
        return bool(len(self._changes))

    def on_sale(self, period: int) -> NDArray[np.bool_] | None:
        """(N + 1,) products whose sale has started and not ended; None where no product has such times."""
        if not self.has_periods:
            return None
        now = int(self._changes[period - 1]) if period else 0
        return (self._start <= now) & (now < self._end)

    def prices(self, names: tuple[str, ...], usual: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N + 1,) prices in markets, the first that has one; the usual ones elsewhere."""
        prices = usual.copy()
        for name in reversed(names):
            if name in self._prices:
                prices[self._prices[name].item_idx] = self._prices[name].values
        return prices

    def in_stock(self, names: tuple[str, ...]) -> NDArray[np.bool_] | None:
        """(N + 1,) products to be had in the first market with stocks; None where none of them has any.

        A product without stocks anywhere is not kept by market: it is everywhere. One with stocks in other markets
        only is not to be had.
        """
        market = next((name for name in names if name in self._stock), None)
        if market is None:
            return None
        there = np.ones(self.items.num_rows + 1, np.bool_)
        for entries in self._stock.values():
            there[entries.item_idx] = False
        own = self._stock[market]
        there[own.item_idx] = own.values > 0
        return there


def _by_market(column: pa.ChunkedArray) -> dict[str, Entries]:
    maps = column.combine_chunks()
    maps = maps.chunk(0) if isinstance(maps, pa.ChunkedArray) else maps
    lengths = np.where(np.asarray(maps.is_valid()), np.diff(np.asarray(maps.offsets)), 0)
    item_idx = np.repeat(np.arange(1, len(maps) + 1), lengths)
    encoded = pc.dictionary_encode(maps.keys)
    codes, values = np.asarray(encoded.indices), np.asarray(pc.fill_null(maps.items, float("nan")))
    columns = {}
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        own = (codes == code) & ~np.isnan(values)
        columns[str(name)] = Entries(item_idx[own], values[own])
    return columns


def _instants(column: pa.ChunkedArray, missing: int) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), missing), np.int64)
