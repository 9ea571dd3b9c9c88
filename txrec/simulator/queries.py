"""Spellings of the generated shop's searches: synonyms, plurals, word order, typos, two scripts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.simulator.catalogue import ALL_BRANDS, Catalogue
from txrec.simulator.preference import ANY
from txrec.simulator.words import CHINESE_COLOURS, COLOURS, TYPES

BRAND_PROB, COLOUR_PROB, MODEL_PROB = 0.3, 0.2, 0.06  # a search names the brand, the colour, the model number
SYNONYM_PROB, PLURAL_PROB, SHUFFLE_PROB, TYPO_PROB = 0.35, 0.4, 0.2, 0.12

Corruption = Literal["none", "typo", "word order", "plural", "model number", "synonym", "mixed script", "chinese"]


@dataclass(frozen=True)
class RobustQuery:
    """A query that a search engine should understand, and its meaning."""

    query: str
    corruption: Corruption
    targets: frozenset[str]
    """item_ids that fit all that the query names; one of them in the first results is a hit."""


def concepts_of(items: NDArray[np.int64], catalogue: Catalogue, rng: np.random.Generator) -> NDArray[np.int64]:
    """(B, 4) concepts of searches for these items: type, brand, colour, item; `ANY` = not named."""
    chance = rng.random((len(items), 3))
    concepts = np.full((len(items), 4), ANY)
    concepts[:, 0] = catalogue.type[items]
    concepts[:, 1] = np.where(chance[:, 0] < BRAND_PROB, catalogue.brand[items], ANY)
    concepts[:, 2] = np.where(chance[:, 1] < COLOUR_PROB, catalogue.colour[items], ANY)
    concepts[:, 3] = np.where(chance[:, 2] < MODEL_PROB, items, ANY)
    return concepts


def write(concept: tuple[int, int, int, int], chinese: bool, catalogue: Catalogue, rng: np.random.Generator) -> str:
    """Writes one query as a user would, typos included."""
    chance = rng.random(4)
    type_, _, _, item = concept
    if item != ANY and chance[0] < 0.6:  # most who know the model number type just that
        return (
            typo(catalogue.products[item].model.lower(), rng) if chance[3] < TYPO_PROB / 4 else _model(item, catalogue)
        )
    words = phrase(concept, _noun(type_, chinese, chance, rng), chinese, catalogue)
    if chance[2] < SHUFFLE_PROB:
        words = words[::-1]
    text = " ".join(words)
    return typo(text, rng) if chance[3] < TYPO_PROB else text


def phrase(concept: tuple[int, int, int, int], noun: str, chinese: bool, catalogue: Catalogue) -> list[str]:
    """The words of a query in the usual order: brand, colour, noun, model."""
    _, brand, colour, item = concept
    colours = CHINESE_COLOURS if chinese else COLOURS
    parts = (
        ALL_BRANDS[brand].lower() if brand != ANY else "",
        colours[colour] if colour != ANY else "",
        noun,
        _model(item, catalogue) if item != ANY else "",
    )
    return [part for part in parts if part]


def typo(text: str, rng: np.random.Generator) -> str:
    """One slip of the finger: a letter dropped, doubled, swapped with the next or replaced."""
    if len(text) < 4 or not text.isascii():
        return text
    at = int(rng.integers(1, len(text) - 1))
    slips: tuple[Callable[[], str], ...] = (
        lambda: text[:at] + text[at + 1 :],
        lambda: text[:at] + text[at] + text[at:],
        lambda: text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        lambda: text[:at] + "abcdefghijklmnopqrstuvwxyz"[int(rng.integers(26))] + text[at + 1 :],
    )
    return slips[int(rng.integers(len(slips)))]()


def robust_queries(cfg: ShopConfig, catalogue: Catalogue, num: int = 400) -> list[RobustQuery]:
    """A test set of hard queries: every kind of corruption in turn, deterministic from the shop's seed."""
    rng = np.random.default_rng((cfg.seed, 3))
    kinds = tuple(_WRITERS)
    items = rng.choice(np.flatnonzero(catalogue.launch_day == 0), num)
    return [_robust(kinds[number % len(kinds)], int(item), catalogue, rng) for number, item in enumerate(items)]


def _robust(kind: Corruption, item: int, catalogue: Catalogue, rng: np.random.Generator) -> RobustQuery:
    named = item if kind == "model number" else ANY
    brand = int(catalogue.brand[item])
    if kind == "mixed script":  # Latin brand, Chinese noun
        brand = _latin_brand(item, catalogue)
    concept = (int(catalogue.type[item]), brand, ANY, named)
    if kind == "chinese":
        concept = (concept[0], ANY, ANY, ANY)
    text = _WRITERS[kind](concept, catalogue, rng)
    return RobustQuery(text, kind, _targets(concept, catalogue))


def _latin_brand(item: int, catalogue: Catalogue) -> int:
    """A brand with a Latin name that sells the item's type; the item's own where it is one."""
    alike = catalogue.brand[(catalogue.type == catalogue.type[item]) & ~catalogue.chinese]
    own = int(catalogue.brand[item])
    return own if not catalogue.chinese[item] or not len(alike) else int(alike[0])


def _targets(concept: tuple[int, int, int, int], catalogue: Catalogue) -> frozenset[str]:
    type_, brand, _, item = concept
    fits = (catalogue.type == type_) & ((brand == ANY) | (catalogue.brand == brand))
    if item != ANY:
        fits &= np.arange(len(catalogue)) == item
    return frozenset(catalogue.products[index].item_id for index in np.flatnonzero(fits))


_Writer = Callable[[tuple[int, int, int, int], Catalogue, np.random.Generator], str]


def _plain(concept: tuple[int, int, int, int], catalogue: Catalogue) -> list[str]:
    return phrase(concept, TYPES[concept[0]].name, False, catalogue)


def _misspelt(concept: tuple[int, int, int, int], catalogue: Catalogue, rng: np.random.Generator) -> str:
    *before, noun = _plain(concept, catalogue)
    return " ".join([*before, typo(noun, rng)])


_WRITERS: dict[Corruption, _Writer] = {
    "none": lambda concept, catalogue, _: " ".join(_plain(concept, catalogue)),
    "typo": _misspelt,
    "word order": lambda concept, catalogue, _: " ".join(_plain(concept, catalogue)[::-1]),
    "plural": lambda concept, catalogue, _: " ".join(phrase(concept, TYPES[concept[0]].plural, False, catalogue)),
    "model number": lambda concept, catalogue, _: _model(concept[3], catalogue),
    "synonym": lambda concept, catalogue, rng: " ".join(
        phrase(concept, _pick(TYPES[concept[0]].synonyms, rng), False, catalogue)
    ),
    "mixed script": lambda concept, catalogue, _: " ".join(phrase(concept, TYPES[concept[0]].chinese, True, catalogue)),
    "chinese": lambda concept, _, __: TYPES[concept[0]].chinese,
}


def _noun(type_: int, chinese: bool, chance: NDArray[np.float64], rng: np.random.Generator) -> str:
    kind = TYPES[type_]
    if chinese:
        return kind.chinese
    if chance[1] < SYNONYM_PROB:
        return _pick(kind.synonyms, rng)
    return kind.plural if chance[0] < PLURAL_PROB else kind.name


def _pick(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _model(item: int, catalogue: Catalogue) -> str:
    return catalogue.products[item].model.lower()
