"""Catalogue of products: ids, titles, prices, filters, and the products added or retired since training.

A catalogue is never changed in place: an update gives a new one, so that a server swaps it in one assignment while
requests still run on the old one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from txrec import schema
from txrec.index.filters.facets import FacetIndex
from txrec.index.filters.filters import FilterIndex, Filters, restrict
from txrec.index.source import ChangedItems, Mask
from txrec.recommender.markets import Markets
from txrec.text import Analyser, normalise, trigrams

TEXT_COLUMNS = ("text", "title")
VECTOR_COLUMNS = ("text", "category_idx", "brand_idx", "price_bucket")
"""Columns of a product that its item vector is made from."""
MAX_VIEWS = 32
"""Views by market and period that are kept."""
_MAPS = ("attributes", "prices", "stock")


@dataclass(frozen=True)
class ItemChange:
    """Live change of a product after the model was trained.

    Attributes:
        item_id: raw id.
        fields: columns of schema.ITEMS that were set; None = cleared. Others keep the bundle's values.
        retired: taken out of sale for good, until it is put again.
        first_seq: number of the change that first put the product, 0 = it was only ever retired. New products get their
            dense indices in this order, so that every replica that applies the same changes agrees on them.
    """

    item_id: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    retired: bool = False
    first_seq: int = 0


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The products, some of them out of sale.

    Attributes:
        items: schema.PREPARED_ITEMS, row i holds dense index i + 1.
        retired: dense indices taken out of sale, whatever a request asks for.
        period: (N + 1,) products whose sale has started and not ended; None = no product has such times.
        view_of: the catalogue that this one is a view of (see `at`).
        updated_from: the bundle's catalogue, whose vocabulary every update uses; None = this one.
        analyser: of titles; the one that the lexical source searches with.
    """

    items: pa.Table
    retired: frozenset[int] = field(default_factory=frozenset)
    updated_from: "Catalogue | None" = None
    analyser: Analyser = field(default_factory=Analyser)
    period: NDArray[np.bool_] | None = None
    view_of: "Catalogue | None" = None

    def __len__(self) -> int:
        return int(self.items.num_rows)

    @cached_property
    def item_ids(self) -> NDArray[np.object_]:
        """(N + 1,) raw ids, row 0 empty."""
        return np.array(["", *self.items.column("item_id").to_pylist()], dtype=object)

    @cached_property
    def idx_of(self) -> dict[str, int]:
        """item_id -> item_idx."""
        return {item_id: item_idx for item_idx, item_id in enumerate(self.item_ids) if item_idx}

    @cached_property
    def titles(self) -> NDArray[np.object_]:
        """(N + 1,) titles as the shop wrote them; None where there is none."""
        return np.array([None, *self.items.column("title").to_pylist()], dtype=object)

    @cached_property
    def prices(self) -> NDArray[np.float32]:
        """(N + 1,) prices, NaN where unknown."""
        prices = pc.fill_null(self.items.column("price"), float("nan")).to_numpy()
        return np.append(np.nan, prices).astype(np.float32)

    @cached_property
    def usual_price(self) -> float:
        """Median of the known prices, 0 without any."""
        return usual_price(self.prices)

    @cached_property
    def categories(self) -> NDArray[np.int32]:
        """(N + 1,) leaf category ids, PAD = none."""
        return np.append(schema.PAD, self.items.column("category_idx").to_numpy()).astype(np.int32)

    @cached_property
    def brands(self) -> NDArray[np.int32]:
        """(N + 1,) brand ids, PAD = none."""
        return np.append(schema.PAD, self.items.column("brand_idx").to_numpy()).astype(np.int32)

    @cached_property
    def filters(self) -> FilterIndex:
        """Masks by condition."""
        return FilterIndex(self.items)

    @cached_property
    def facets(self) -> FacetIndex:
        """Counts of products by field; a changed catalogue takes over what this one has built."""
        if self.view_of is not None:
            return self.view_of.facets.with_prices(self.prices.astype(np.float64))
        return FacetIndex.of(self.items)

    @cached_property
    def markets(self) -> Markets:
        """Prices and stock by store or country, and periods of sale."""
        return Markets(self.items)

    def at(self, context: Mapping[str, str], now_us: int) -> "Catalogue":
        """A view of the catalogue in the store or country of a request and at its time.

        Prices, filters, facets and masks are those of the market; what is out of stock there is not available, and
        what is not on sale at that time is not shown. The catalogue itself where nothing depends on place and time.

        Args:
            context: of the request; `store` and `country` count.
            now_us: microseconds since 1970 UTC.
        """
        names, period = self.markets.named(context), self.markets.period(now_us)
        if not names and not self.markets.has_periods:
            return self
        return self._views(names, period)

    @cached_property
    def _views(self) -> Callable[[tuple[str, ...], int], "Catalogue"]:
        return lru_cache(maxsize=MAX_VIEWS)(self._view)

    def _view(self, names: tuple[str, ...], period: int) -> "Catalogue":
        view = replace(self, period=self.markets.on_sale(period), view_of=self)
        for name in ("item_ids", "idx_of", "titles", "categories", "brands"):
            view.__dict__[name] = getattr(self, name)
        view.__dict__["prices"] = self.markets.prices(names, self.prices)
        view.__dict__["filters"] = self.filters.in_market(view.prices, self.markets.in_stock(names))
        return view

    def price_of(self, item_idx: int) -> float | None:
        """Price of a product; None where it is unknown."""
        price = float(self.prices[item_idx])
        return None if np.isnan(price) else round(price, 4)

    def title_tokens(self, item_idx: int) -> frozenset[str]:
        """Index tokens of an item's title."""
        tokens: frozenset[str] = self.analyser.title_tokens(self.titles[item_idx] or "")
        return tokens

    def trigrams(self, item_idx: int) -> frozenset[str]:
        """Character trigrams of an item's title."""
        return _trigrams(self.titles[item_idx] or "")

    @cached_property
    def on_sale(self) -> Mask:
        """(N + 1,) products that are neither retired nor unavailable; None = all of them."""
        mask = restrict(len(self) + 1, self.filters.available, list(self.retired))
        return self._in_period(mask)

    def mask(self, filters: Filters | None, excluded: Sequence[int] | NDArray[np.int32]) -> Mask:
        """(N + 1,) items that may be shown; None = all of them. Unavailable ones only where the filters say so.

        Requests that ask for nothing special get the same array, which sources answer together.
        """
        mask = self.filters.mask(filters)
        if filters is not None and filters.available is False:
            return self._in_period(restrict(len(self) + 1, mask, [*excluded, *self.retired]))
        if mask is not None and self.on_sale is not None:
            mask = mask & self.on_sale
        return restrict(len(self) + 1, self.on_sale if mask is None else mask, excluded)

    def _in_period(self, mask: Mask) -> Mask:
        if self.period is None:
            return mask
        return self.period if mask is None else mask & self.period

    def only(self, item_idx: Iterable[int]) -> NDArray[np.bool_]:
        """A mask that allows these items and nothing else, retired or not."""
        mask = np.zeros(len(self) + 1, dtype=np.bool_)
        mask[list(item_idx)] = True
        return mask

    def without_items(self, item_ids: Iterable[str]) -> "Catalogue":
        """The catalogue without some products; unknown ids are ignored."""
        gone = {self.idx_of[item_id] for item_id in item_ids if item_id in self.idx_of}
        catalogue = replace(self, retired=self.retired | gone)
        if "facets" in self.__dict__:
            catalogue.__dict__["facets"] = self.facets
        return catalogue

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> tuple["Catalogue", ChangedItems]:
        """Adds products or replaces their rows; a retired product that comes again is back in sale.

        Args:
            rows: columns of schema.ITEMS by name; only `item_id` is required. The last row of an id counts.

        Returns:
            The new catalogue, and the rows as they are in it.
        """
        latest = {str(row["item_id"]): row for row in rows}
        table = self._prepare(latest.values())
        following = iter(range(len(self) + 1, len(self) + 1 + len(latest)))
        ids = np.array([self.idx_of.get(key) or next(following) for key in latest], dtype=np.int32)
        is_old = ids <= len(self)
        source = np.arange(len(self), dtype=np.int64)
        source[ids[is_old] - 1] = len(self) + np.flatnonzero(is_old)
        source = np.append(source, len(self) + np.flatnonzero(~is_old))
        items = pa.concat_tables([self.items, table]).take(pa.array(source)).combine_chunks()
        catalogue = Catalogue(items, self.retired - set(ids.tolist()), self.base, self.analyser)
        if "facets" in self.__dict__:
            catalogue.__dict__["facets"] = self.facets.with_items(ids, table, len(catalogue) + 1)
        differs = [self._differs(ids, table, columns) for columns in (TEXT_COLUMNS, VECTOR_COLUMNS)]
        return catalogue, ChangedItems(len(catalogue), ids, table, *differs)

    @property
    def base(self) -> "Catalogue":
        """The catalogue in the bundle, before any update."""
        return self.updated_from or self

    def row(self, item_id: str) -> dict[str, Any]:
        """Columns of schema.ITEMS of a product; empty for one that is not in the catalogue."""
        item_idx = self.idx_of.get(item_id)
        if item_idx is None:
            return {}
        names = [name for name in schema.ITEMS.names if name != "item_id"]
        (row,) = self.items.select(names).slice(item_idx - 1, 1).to_pylist()
        return {"item_id": item_id, **row, **{name: dict(row[name] or ()) for name in _MAPS}}

    def warm(self) -> None:
        """Fills the cached columns, so that the first request need not wait for them."""
        for name in ("idx_of", "titles", "prices", "categories", "brands", "on_sale"):
            getattr(self, name)
        self.at({}, 0)

    def _differs(self, item_idx: NDArray[np.int32], items: pa.Table, columns: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) which rows are new or differ from the known ones in one of the columns."""
        differs = item_idx > len(self)
        unchanged = np.flatnonzero(~differs)
        old = self.items.select(columns).take(item_idx[unchanged] - 1).to_pylist()
        new = items.select(columns).take(unchanged).to_pylist()
        differs[unchanged] = [one != other for one, other in zip(old, new, strict=True)]
        return differs

    def _prepare(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist([self._prepared(row) for row in rows], schema=schema.PREPARED_ITEMS)

    def _prepared(self, row: Mapping[str, Any]) -> dict[str, Any]:
        category, base = list(row.get("category") or []), self.base
        parts = [row.get("title"), row.get("brand"), *category, row.get("description")]
        return {
            **{name: row.get(name) for name in schema.ITEMS.names if name not in {"item_id", *_MAPS}},
            "item_id": str(row["item_id"]),
            **{name: list(dict(row.get(name) or {}).items()) for name in _MAPS},
            **{name: _instant(row.get(name)) for name in ("sale_start", "sale_end")},
            "text": normalise(" ".join(str(part) for part in parts if part)),
            "category_idx": base._category_idx.get(normalise(category[-1]), schema.PAD) if category else schema.PAD,
            "brand_idx": base._brand_idx.get(normalise(row.get("brand") or ""), schema.PAD),
            "price_bucket": base._price_bucket(row.get("price")),
            "train_count": 0,  # known for trained items only, and read by training only
        }

    @cached_property
    def _category_idx(self) -> dict[str, int]:
        paths = self.items.column("category").to_pylist()
        ids = self.items.column("category_idx").to_pylist()
        return {normalise(path[-1]): leaf for path, leaf in zip(paths, ids, strict=True) if path and leaf}

    @cached_property
    def _brand_idx(self) -> dict[str, int]:
        brands = self.items.column("brand").to_pylist()
        ids = self.items.column("brand_idx").to_pylist()
        return {
            normalise(brand): brand_idx for brand, brand_idx in zip(brands, ids, strict=True) if brand and brand_idx
        }

    def _price_bucket(self, price: float | None) -> int:
        """The bucket of the nearest priced product at or below."""
        prices, buckets = self._price_steps
        if price is None or not len(prices):
            return schema.PAD
        return int(buckets[max(int(np.searchsorted(prices, price, side="right")) - 1, 0)])

    @cached_property
    def _price_steps(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        buckets = np.append(schema.PAD, self.items.column("price_bucket").to_numpy()).astype(np.int32)
        priced = np.flatnonzero((buckets != schema.PAD) & ~np.isnan(self.prices))
        order = priced[np.argsort(self.prices[priced], kind="stable")]
        return self.prices[order], buckets[order]


def _instant(value: datetime | str | None) -> datetime | None:
    """An instant of a live change, which comes as ISO 8601; without a zone it is UTC."""
    if value is None:
        return None
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@lru_cache(maxsize=200_000)  # by title, so that it outlives every change of the catalogue
def _trigrams(title: str) -> frozenset[str]:
    return frozenset(trigrams(normalise(title)))


def usual_price(prices: NDArray[np.float32]) -> float:
    """Median of the known prices of a catalogue, 0 without any."""
    known = prices[~np.isnan(prices)]
    return float(np.median(known)) if len(known) else 0.0
