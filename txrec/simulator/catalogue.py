"""The generated shop's products: titles, prices, and successors that are bought after them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.simulator.words import BRANDS, CHINESE_BRANDS, CHINESE_COLOURS, COLOURS, LINES, PRAISE, TYPES, ProductType

MAX_SUCCESSORS = 3
COLD_FRAC = 0.02
COLD_DAYS = 5.0  # products launched within this time of the log's end have no event before it
CHINESE_FRAC = 0.1
VOLUMES = 8  # length of a series

ALL_BRANDS: tuple[str, ...] = (*(brand for names in BRANDS.values() for brand in names), *CHINESE_BRANDS)


@dataclass(frozen=True)
class Product:
    """One product as a shop's catalogue describes it."""

    item_id: str
    title: str
    description: str
    category: tuple[str, ...]
    brand: str
    price: float
    colour: str | None
    size: str | None
    model: str
    in_stock: bool


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All products, with the traits that users' tastes depend on. N products, dense index 0..N-1."""

    products: tuple[Product, ...]
    type: NDArray[np.int64]  # (N,) index into words.TYPES
    brand: NDArray[np.int64]  # (N,) index into ALL_BRANDS
    colour: NDArray[np.int64]  # (N,) index into words.COLOURS, -1 = none
    price_level: NDArray[np.float64]  # (N,) log price against the type's median; about -1..1
    chinese: NDArray[np.bool_]  # (N,) titled in Chinese
    launch_day: NDArray[np.float64]  # (N,) day of the log from which it is sold; 0 = always
    successors: NDArray[np.int64]  # (N, MAX_SUCCESSORS) accessories or next volume, -1 = none

    def __len__(self) -> int:
        return len(self.products)


def generate(cfg: ShopConfig, rng: np.random.Generator) -> Catalogue:
    """Makes `cfg.num_items` products, spread evenly over the types."""
    num = cfg.num_items
    type_ = np.arange(num) % len(TYPES)
    rank = np.arange(num) // len(TYPES)  # running number within the type
    chinese = (rng.random(num) < CHINESE_FRAC) & ~_is_series(type_)
    brand = _brands(type_, rank, chinese, rng)
    colour = np.where(_is_coloured(type_), rng.integers(len(COLOURS), size=num), -1)
    price_level = np.clip(rng.normal(0, 0.5, num), -1.2, 1.2)
    launch_day = np.where(rng.random(num) < COLD_FRAC, cfg.days - COLD_DAYS * rng.random(num), 0.0)
    quality = rng.integers(1 << 16, size=(num, 3))
    products = tuple(
        _product(index, _Traits(*traits))
        for index, traits in enumerate(
            zip(type_, rank, brand, colour, price_level, chinese, quality.tolist(), strict=True)
        )
    )
    successors = _successors(type_, rank, brand)
    return Catalogue(products, type_, brand, colour, price_level, chinese, launch_day, successors)


def _is_series(type_: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.array([kind.series for kind in TYPES])[type_]


def _is_coloured(type_: NDArray[np.int64]) -> NDArray[np.bool_]:
    plain = {"Books", "DIY", "Pantry"}
    return np.array([not kind.series and not plain & {kind.department, kind.aisle} for kind in TYPES])[type_]


def _brands(
    type_: NDArray[np.int64], rank: NDArray[np.int64], chinese: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """A brand of the type's department; a series keeps its brand; Chinese titles belong to Chinese brands."""
    first = {department: ALL_BRANDS.index(names[0]) for department, names in BRANDS.items()}
    start = np.array([first[kind.department] for kind in TYPES])[type_]
    size = np.array([len(BRANDS[kind.department]) for kind in TYPES])[type_]
    pick = np.where(_is_series(type_), rank // VOLUMES, rng.integers(1 << 16, size=len(type_)))
    foreign = len(ALL_BRANDS) - len(CHINESE_BRANDS) + rng.integers(len(CHINESE_BRANDS), size=len(type_))
    return np.where(chinese, foreign, start + pick % size)


class _Traits(NamedTuple):
    """Drawn traits of a product."""

    type_: int
    rank: int
    """Number within the products of its type."""
    brand_idx: int
    colour_idx: int
    """-1 = none."""
    price_level: float
    """Logarithm of the price relative to that of the type."""
    chinese: bool
    draw: list[int]
    """Three random numbers."""

    @property
    def kind(self) -> ProductType:
        return TYPES[self.type_]

    @property
    def brand(self) -> str:
        return ALL_BRANDS[self.brand_idx]

    @property
    def line(self) -> str:
        return LINES[(self.rank // VOLUMES if self.kind.series else self.draw[0]) % len(LINES)]

    @property
    def quality(self) -> str:
        qualities = self.kind.qualities
        return qualities[(self.rank // VOLUMES if self.kind.series else self.draw[1]) % len(qualities)]

    @property
    def size(self) -> str | None:
        return self.kind.sizes[self.draw[2] % len(self.kind.sizes)] if self.kind.sizes else None

    @property
    def model(self) -> str:
        return f"{_initials(self.kind)}{100 + self.rank * 7}"

    @property
    def colour(self) -> str | None:
        return COLOURS[self.colour_idx] if self.colour_idx >= 0 else None


def _product(index: int, traits: _Traits) -> Product:
    kind = traits.kind
    return Product(
        item_id=f"SKU{100_000 + index * 13}",
        title=_chinese_title(traits) if traits.chinese else _title(traits),
        description=_description(traits),
        category=(kind.department, kind.aisle, kind.plural.capitalize()),
        brand=traits.brand,
        price=round(kind.price * float(np.exp(traits.price_level)), 2),
        colour=traits.colour,
        size=traits.size,
        model=traits.model,
        in_stock=traits.draw[2] % 50 != 0,
    )


def _initials(kind: ProductType) -> str:
    """Two or three letters that no other type shares, for model numbers."""
    return f"{kind.name[0]}{kind.name[-1]}{chr(ord('a') + TYPES.index(kind) % 26)}".upper()


def _title(traits: _Traits) -> str:
    kind, colour = traits.kind, traits.colour
    if kind.series:
        volume = traits.rank % VOLUMES + 1
        return (
            f"{traits.line}: {traits.quality.capitalize()} {kind.name.title()}, Vol. {volume} ({traits.brand})"
            f" {traits.model}"
        )
    noun = kind.plural if kind.name in {"headphone", "running shoe", "hiking boot"} else kind.name
    words = (traits.brand, traits.line, traits.quality.title(), noun.title(), traits.size, colour and colour.title())
    return " ".join(word for word in (*words, traits.model) if word)


def _chinese_title(traits: _Traits) -> str:
    colour = CHINESE_COLOURS[traits.colour_idx] if traits.colour_idx >= 0 else ""
    words = (f"{traits.brand}{traits.kind.chinese}", colour, traits.size, traits.model)
    return " ".join(word for word in words if word)


def _description(traits: _Traits) -> str:
    kind, colour, size = traits.kind, traits.colour, traits.size
    looks = " and ".join(part for part in (colour and f"in {colour}", size and f"size {size}") if part)
    extras = f" Goes well with our {kind.accessories[0]} range." if kind.accessories else ""
    praise = PRAISE[traits.draw[0] % len(PRAISE)]
    appearance = ", " + looks if looks else ""
    return f"{traits.quality.capitalize()} {kind.name} from {traits.brand}{appearance}: {praise}.{extras}"


def _successors(type_: NDArray[np.int64], rank: NDArray[np.int64], brand: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, MAX_SUCCESSORS) successors of a product: the next volume of its series, or one product per accessory type."""
    by_type = [np.flatnonzero(type_ == index) for index in range(len(TYPES))]
    names = [kind.name for kind in TYPES]
    result = np.full((len(type_), MAX_SUCCESSORS), -1)
    for item, kind in enumerate(TYPES[index] for index in type_):
        after = item + len(TYPES)
        if kind.series and after < len(type_) and rank[item] % VOLUMES < VOLUMES - 1:
            result[item, 0] = after
        for column, accessory in enumerate(kind.accessories):
            offers = by_type[names.index(accessory)]
            same_brand = offers[brand[offers] == brand[item]]
            fitting = same_brand if len(same_brand) else offers
            if len(fitting):
                result[item, column] = fitting[rank[item] % len(fitting)]
    return result
