"""The generated shop's products: what they are called, what they cost and which one is bought after which."""

from dataclasses import dataclass

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
    """All products, and what users' tastes can tell apart about them. N products, dense index 0..N-1."""

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
        _product(
            index, type_[index], rank[index], brand[index], colour[index], price_level[index], chinese[index], draw
        )
        for index, draw in enumerate(quality.tolist())
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


def _product(
    index: int, type_: int, rank: int, brand: int, colour: int, price_level: float, chinese: bool, draw: list[int]
) -> Product:
    kind = TYPES[type_]
    name = ALL_BRANDS[brand]
    line = LINES[(rank // VOLUMES if kind.series else draw[0]) % len(LINES)]
    quality = kind.qualities[(rank // VOLUMES if kind.series else draw[1]) % len(kind.qualities)]
    size = kind.sizes[draw[2] % len(kind.sizes)] if kind.sizes else None
    model = f"{_initials(kind)}{100 + rank * 7}"
    colour_name = COLOURS[colour] if colour >= 0 else None
    if chinese:
        title = _chinese_title(kind, name, model, size, colour)
    else:
        title = _title(kind, name, line, quality, rank, model, size, colour_name)
    return Product(
        item_id=f"SKU{100_000 + index * 13}",
        title=title,
        description=_description(kind, name, quality, PRAISE[draw[0] % len(PRAISE)], size, colour_name),
        category=(kind.department, kind.aisle, kind.plural.capitalize()),
        brand=name,
        price=round(kind.price * float(np.exp(price_level)), 2),
        colour=colour_name,
        size=size,
        model=model,
        in_stock=draw[2] % 50 != 0,
    )


def _initials(kind: ProductType) -> str:
    """Two or three letters that no other type shares, for model numbers."""
    return f"{kind.name[0]}{kind.name[-1]}{chr(ord('a') + TYPES.index(kind) % 26)}".upper()


def _title(
    kind: ProductType, brand: str, line: str, quality: str, rank: int, model: str, size: str | None, colour: str | None
) -> str:
    if kind.series:
        return f"{line}: {quality.capitalize()} {kind.name.title()}, Vol. {rank % VOLUMES + 1} ({brand}) {model}"
    noun = kind.plural if kind.name in {"headphone", "running shoe", "hiking boot"} else kind.name
    parts = [brand, line, quality.title(), noun.title(), size or "", colour.title() if colour else "", model]
    return " ".join(part for part in parts if part)


def _chinese_title(kind: ProductType, brand: str, model: str, size: str | None, colour: int) -> str:
    colour_name = CHINESE_COLOURS[colour] if colour >= 0 else ""
    return " ".join(part for part in (f"{brand}{kind.chinese}", colour_name, size or "", model) if part)


def _description(kind: ProductType, brand: str, quality: str, praise: str, size: str | None, colour: str | None) -> str:
    looks = " and ".join(part for part in (colour and f"in {colour}", size and f"size {size}") if part)
    extras = f" Goes well with our {kind.accessories[0]} range." if kind.accessories else ""
    return f"{quality.capitalize()} {kind.name} from {brand}{', ' + looks if looks else ''}: {praise}.{extras}"


def _successors(type_: NDArray[np.int64], rank: NDArray[np.int64], brand: NDArray[np.int64]) -> NDArray[np.int64]:
    """What comes after a product: the next volume of its series, or one product of each accessory type."""
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
