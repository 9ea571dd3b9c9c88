"""Quantities in texts: a number with its unit, one token however it is written (`13.3"`, `13,3 Zoll`, `13.3-inch`)."""

import re
from typing import NamedTuple

_UNITS: dict[str, tuple[str, float, str]] = {}
"""Spelling -> (base unit, factor, the same)."""


def _add(base: str, factor: float, *spellings: str) -> None:
    for spelling in spellings:
        _UNITS[spelling] = (base, factor, spelling)


_add("in", 1, "in", "inch", "inches", "zoll", "pouce", "pouces", "pulgada", "pulgadas", "pollici", "pollice", "tum")
_add("in", 1, "polegada", "polegadas", "cal", "cali", "дюйм", "дюйма", "дюймов", "tommer", "tomme", "palce", "palec")
_add("ft", 1, "ft", "foot", "feet")
_add("mm", 1, "mm", "millimeter", "millimeters", "millimetre", "millimetres", "мм")
_add("mm", 10, "cm", "centimeter", "centimeters", "centimetre", "centimetres", "см")
_add("mm", 1000, "m", "meter", "meters", "metre", "metres", "м")
_add("g", 1, "g", "gr", "gram", "grams", "gramm", "gramme", "grammes", "г")
_add("g", 1000, "kg", "kilo", "kilos", "kilogram", "kilograms", "кг")
_add("g", 0.001, "mg", "мг")
_add("lb", 1, "lb", "lbs", "pound", "pounds")
_add("oz", 1, "oz", "ounce", "ounces")
_add("ml", 1, "ml", "milliliter", "milliliters", "millilitre", "millilitres", "мл")
_add("ml", 10, "cl", "centiliter", "centilitre")
_add("ml", 1000, "l", "liter", "liters", "litre", "litres", "л")
_add("gal", 1, "gal", "gallon", "gallons")
_add("w", 1, "w", "watt", "watts", "вт")
_add("w", 1000, "kw", "kilowatt", "kilowatts")
_add("v", 1, "v", "volt", "volts")
_add("a", 1, "amp", "amps", "ampere")
_add("mah", 1, "mah")
_add("mah", 1000, "ah")
_add("mb", 1, "mb", "megabyte", "megabytes")
_add("mb", 1000, "gb", "gigabyte", "gigabytes", "гб")
_add("mb", 1_000_000, "tb", "terabyte", "terabytes", "тб")
_add("hz", 1, "hz", "hertz")
_add("hz", 1e6, "mhz")
_add("hz", 1e9, "ghz")
_add("mp", 1, "mp", "megapixel", "megapixels")
_add("pack", 1, "pack", "packs", "pk", "pcs", "pieces", "count", "ct", "stück", "stk", "шт")

_NAMES = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_QUANTITY = re.compile(
    r"(?<![\w.,/])(?P<number>\d{1,9}(?:[.,]\d{1,4})?)"
    rf"(?:[ -]?(?P<unit>{_NAMES})(?!\w)|(?P<mark>''|\u2032\u2032|[\"\u201d\u2033]|'(?!\w)|\u2032))"
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
_QUOTES = re.compile(r"[\"\u201c\u201d\u201e]")


class Quantity(NamedTuple):
    """A number with its unit in a text."""

    token: str
    """Value and base unit, the same for every spelling: `13.3in`, `1500ml`."""
    start: int
    end: int


def quantities(text: str) -> list[Quantity]:
    """Quantities of a normalised text, each with its place; one that can be read in two ways is there twice.

    >>> [one.token for one in quantities('laptop 13,3 zoll, 1.5 l')]
    ['13.3in', '1500ml']
    """
    result = []
    for match in _QUANTITY.finditer(text):
        mark = match["mark"]
        if mark and mark[0] in '"\u201d' and len(_QUOTES.findall(text, 0, match.start())) % 2:
            continue  # the end of a quotation, not inches
        base, factor, _ = _UNITS[match["unit"] or ("ft" if mark in ("'", "\u2032") else "in")]
        values = [float(match["number"].replace(",", "."))]
        if _THOUSANDS.fullmatch(match["number"]):  # `1.000 g` of one shop is `1 kg`, `1.500 kg` of another 1.5 kg
            values.append(float(re.sub("[.,]", "", match["number"])))
        result += [Quantity(f"{value * factor:.10g}{base}", match.start(), match.end()) for value in values]
    return result
