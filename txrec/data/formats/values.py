"""Values as shops write them: ids that became floats, words for nothing, prices with currency, availability, HTML.

Functions of whole columns. The plain form of a value costs one vectorised check; only what fails it is looked at again.
"""

import html
import json
import re
from typing import NamedTuple

import polars as pl

from txrec.text.folding import fold

NOTHING = ("nan", "null", "none", "n/a", "na", "undefined", "nil", "(none)", "(null)", "(not set)", r"\n", "-", "#n/a")
"""Words for a missing value, in lower case: everywhere except in item ids, titles and queries."""
NULL_MARKS = (r"\n",)
"""Marks of null, in lower case, that databases write into text files and nobody means as text."""
NOBODY = (*NOTHING, "-1", "guest", "anonymous")
"""Words for a user who is not known, in lower case."""
_FLOAT_ID = r"^(0|-?[1-9]\d*)[.,]0$"
_EXPONENT = r"^\d([.,]\d+)?[eE]\+\d{2}$"
_SCIENTIFIC = r"^\d[.,]\d+[eE]\+\d{2}$"
_FRACTION = r"^-?\d+[.,]\d*[1-9]\d*$"
_OPEN_NUMBER = r"^[1-9]\d{0,2}[.,]\d{3}$"
_SAMPLED_OBJECTS = 8
_INFINITE = r"^\s*[+-]?(?i:inf|infinity|∞)\s*$"
_IN_STOCK = {
    "1", "true", "t", "yes", "y", "available", "instock", "preorder", "backorder", "onbackorder", "backordered",
    "availablefororder", "limitedavailability", "onlineonly", "instoreonly", "presale", "madetoorder", "active",
    "continue", "lowstock", "onsale", "published", "enabled", "visible", "limited", "limitedstock", "fewleft",
    "readytoship", "availablenow", "availabletoorder", "orderable", "buyable", "purchasable",
    "ja", "auflager", "lagernd", "lieferbar", "sofortlieferbar", "verfugbar", "vorbestellbar", "oui", "enstock",
    "tak", "ano", "igen", "evet", "kylla", "da", "да", "так", "有", "是", "あり", "예", "있음", "var", "mevcut",
    "beschikbaar", "dostupne", "elerheto", "доступен", "доступно",
    "disponible", "disponibile", "disponivel", "si", "sim", "oplager", "opvoorraad", "ilager", "wmagazynie", "dostepny",
    "skladem", "varastossa", "естьвналичии", "вналичии", "stoktavar", "stokta", "有货", "有貨", "在庫あり", "재고있음",
}  # fmt: skip
_OUT_OF_STOCK = {
    "0", "false", "f", "no", "n", "unavailable", "outofstock", "soldout", "discontinued", "notavailable", "oos",
    "archived", "draft", "inactive", "disabled", "hidden", "reserved",
    "endoflife", "eol", "notforsale", "withdrawn", "recalled", "delisted", "retired", "temporarilysoldout",
    "notinstock", "nostock", "temporarilyoutofstock", "currentlyunavailable", "nein", "ausverkauft", "vergriffen",
    "nichtverfugbar", "nichtlieferbar", "nichtauflager", "non", "epuise", "rupture", "rupturedestock", "indisponible",
    "agotado", "sinexistencias", "nodisponible", "esaurito", "nondisponibile", "esgotado", "indisponivel",
    "uitverkocht",
    "nao", "nie", "nee", "nej", "nei", "ei", "nem", "hayir", "нет", "ні", "无", "否", "なし", "없음", "yok",
    "nietbeschikbaar", "nedostupne", "недоступен", "недоступно",
    "nietopvoorraad", "slutsald", "slutilager", "brak", "niedostepny", "wyprzedany", "vyprodano", "neniskladem",
    "loppunut", "нетвналичии", "распродано", "stoktayok", "tukendi",
    "缺货", "無貨", "售罄", "在庫なし", "売り切れ", "품절",
}  # fmt: skip
_PIECES = (
    "in stock|available|left|left in stock|remaining|pcs|pieces|items|units|auf lager|stuck|stuck auf lager|lagernd"
    "|stuck verfugbar|verfugbar|en stock|disponibles?|disponibili|disponiveis|op voorraad|pa lager|pieces en stock"
)
_STOCK_COUNT = re.compile(
    r"(?:only|just|nur|nur noch|noch|plus que|il ne reste que|solo|solo quedan|quedan|ultimi|ultimas|nog)?\s*"
    rf"[>+]?\s*(?P<before>-?\d[\d,]*(?:\.\d+)?)\s*\+?\s*(?:{_PIECES})?[.!]?"
    r"|(?:in stock|available|auf lager|en stock)\s*[:(]\s*(?P<after>\d+)\s*\)?"
)
"""Stock counts, alone or with words: `25`, `10+`, `0 in stock`, `In stock (5)`, `nur noch 3 verfügbar`."""
_TAG = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>", re.DOTALL)
_INLINE = re.compile(r"^</?(?:b|i|u|em|strong|span|font|a|sup|sub|small|mark|abbr|wbr)\b", re.IGNORECASE)


def as_text(column: pl.Series) -> pl.Series:
    """A column of any type as strings: objects as JSON with the names of their fields, others as polars writes them."""
    if column.dtype == pl.String:
        return column
    if column.dtype == pl.Binary:
        texts = [None if value is None else value.decode(errors="backslashreplace") for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String)
    try:
        if isinstance(column.dtype, pl.Struct):
            return _json_of(column)
        return column.cast(pl.String, strict=False)
    except pl.exceptions.PolarsError:
        texts = [_plain(value) for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String)


def list_of_texts(column: pl.Series) -> pl.Series:
    """A column of lists of any type as lists of strings; objects as JSON with the names of their fields."""
    try:
        if isinstance(column.dtype, pl.List) and isinstance(column.dtype.inner, pl.Struct):
            return column.list.eval(pl.element().map_batches(_json_of, return_dtype=pl.String))
        return column.cast(pl.List(pl.String), strict=False)
    except pl.exceptions.PolarsError:
        rows = [None if row is None else [_plain(one) for one in row] for row in column.to_list()]
        return pl.Series(column.name, rows, dtype=pl.List(pl.String))


def _plain(value: object) -> str | None:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else str(value)


def _json_of(column: pl.Series) -> pl.Series:
    """Objects as JSON texts, null where no field holds anything."""
    texts = [
        json.dumps(one, ensure_ascii=False, default=str) if one is not None and any(v is not None for v in one.values())
        else None
        for one in column.to_list()
    ]  # fmt: skip
    return pl.Series(column.name, texts, dtype=pl.String)


def fields_of_objects(column: pl.Series) -> list[str]:
    """Names of the fields of a column of objects or of lists of objects; none for other columns.

    Objects may stand as JSON texts, as lists of records of JSON files do.
    """
    kind = column.dtype
    inner = kind.inner if isinstance(kind, pl.List) else kind
    if isinstance(inner, pl.Struct):
        return [field.name for field in inner.fields]
    if not isinstance(kind, pl.List) or inner != pl.String:
        return []
    texts = column.drop_nulls().head(1_000).explode(empty_as_null=True).drop_nulls().head(_SAMPLED_OBJECTS).to_list()
    trees = [_object(text) for text in texts]
    return list(dict.fromkeys(name for tree in trees for name in tree)) if trees and all(trees) else []


def _object(text: str) -> dict[str, object]:
    try:
        tree = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def whole_ids(column: pl.Series) -> pl.Series:
    """Ids of a column that became floats (`17850.0`, `17850,0`, `1.785E+04` -> `17850`).

    A fraction (`1.5`) leaves the column as it is, and so does the scientific notation among ids of letters alone.
    """
    if len(column) == column.null_count():
        return column
    if column.str.contains(_SCIENTIFIC).any():
        column = _without_exponents(column)
    if not (column.str.ends_with(".0") | column.str.ends_with(",0")).any():
        return column
    if column.str.contains(_FRACTION).any():
        return column
    whole = column.str.contains(_FLOAT_ID).fill_null(value=False)
    return column.set(whole, None).fill_null(column.str.replace(r"[.,]0$", ""))


def _without_exponents(column: pl.Series) -> pl.Series:
    """Ids in the scientific notation written out where no digit of them is lost, and nothing else is an id of letters.

    A number whose mantissa has fewer digits than its exponent says may have been rounded: it stays, as does one
    without a decimal point (`1E+05`), which may be an article number.
    """
    scientific = column.str.contains(_SCIENTIFIC).fill_null(value=False)
    others = column.filter(~scientific).drop_nulls()
    if len(others) and not others.str.contains(r"^-?\d+([.,]0)?$").any():
        return column
    words = {text: _written_out(text) for text in column.filter(scientific).unique().to_list()}
    return column.replace({text: number for text, number in words.items() if number != text})


def _written_out(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e+")
    whole, _, decimals = mantissa.replace(",", ".").partition(".")
    power = int(exponent)
    if len(decimals) > power and decimals[power:].strip("0"):  # a fraction
        return text
    decimals = decimals[:power]
    return whole + decimals.ljust(power, "0") if len(decimals) + 1 >= power else text


def without(column: pl.Series, words: tuple[str, ...]) -> pl.Series:
    """A text column with null instead of the words, whatever their case."""
    if column.null_count() == len(column):
        return column
    longest = max(map(len, words))
    short = column.str.len_bytes() <= longest
    hit = short & column.str.to_lowercase().is_in(words)
    return column.set(hit.fill_null(value=False), None) if hit.any() else column


class Numbers(NamedTuple):
    """Float32 values of a column, and marks of rows with something that is no number."""

    values: pl.Series
    bad: pl.Series


def numbers(column: pl.Series, decimal: str = "") -> Numbers:
    """A column as numbers; words for nothing, NaN and infinity are null.

    Args:
        column: strings or numbers.
        decimal: `.` or `,`; empty = detected from values of the column that can be read in one way only.
    """
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        number = finite(column.cast(pl.Float32, strict=False))
        nothing = column.is_nan() | column.is_infinite() if column.dtype.is_float() else column.is_null()
        return Numbers(number.fill_nan(None), number.is_null() & column.is_not_null() & ~nothing.fill_null(value=False))
    column = as_text(column)
    number = finite(column.cast(pl.Float32, strict=False))
    comma = decimal == ","
    odd = number.is_null() & column.is_not_null()
    if odd.any() or comma:
        distinct = column.filter(column.is_not_null() if comma else odd).unique().to_list()
        comma = comma or (not decimal and _has_decimal_comma(distinct))
        texts = column.drop_nulls().unique().to_list() if comma else distinct
        number_of = {text: _number(text, comma=comma) for text in texts}
        again = column.replace_strict(number_of, default=None, return_dtype=pl.Float32)
        number = again if comma else number.fill_null(again)
    bad = number.is_null() & without(column, NOTHING).is_not_null() & ~infinite(column)
    return Numbers(number.fill_nan(None), bad)


def infinite(column: pl.Series) -> pl.Series:
    """Mask of infinite numbers, as numbers or as words (`inf`, `-Infinity`)."""
    if column.dtype.is_float():
        return column.is_infinite().fill_null(value=False)
    if column.dtype != pl.String:
        return column.is_null() & column.is_not_null()
    return column.str.contains(_INFINITE).fill_null(value=False)


def finite(number: pl.Series) -> pl.Series:
    """Numbers with null instead of infinite ones."""
    endless = number.is_infinite().fill_null(value=False)
    return number.set(endless, None) if endless.any() else number


def open_numbers(column: pl.Series) -> tuple[int, int]:
    """Numbers of a column that may be thousands or have three decimals (`1.299`), and those that can be read only once.

    Without one of the second kind nothing in the column tells what the others are.
    """
    if column.dtype != pl.String:
        return 0, 0
    text = column.str.strip_chars("$€£ ")
    hits = int(text.str.contains(_OPEN_NUMBER).sum() or 0)
    small = int(text.str.contains(r"^\d{1,3}$").sum() or 0)
    return hits, len(text) - text.null_count() - hits - small


def _digits(text: str) -> str:
    bare = re.sub(r"[\s\u00a0\u202f'\u2019_]", "", text)
    if bare.startswith("(") and bare.endswith(")"):  # a negative amount in bookkeeping
        bare = f"-{bare[1:-1]}"
    match = re.fullmatch(
        r"(?P<sign>[-+\u2212]?)(?:[^\d.,+%-]{0,5}\.?)(?P<inner>[-+\u2212]?)(?P<body>[\d.,]*\d)(?:[.,]?-{1,2})?[^\d,+%-]{0,5}",
        bare,
    )
    if match is None:
        return ""
    minus = {match["sign"], match["inner"]} & {"-", "\u2212"}
    return ("-" if minus else "") + match["body"]


def _has_decimal_comma(texts: list[str]) -> bool:
    """True where a value of the column can only be read with a decimal comma (`19,90`, `1.299,00`, `1.299.000`)."""
    bodies = [_digits(text) for text in texts]
    return any(re.search(r"^-?\d+,(\d{1,2}|\d{4,})$|\.\d{3},\d+$|^-?\d{1,3}(\.\d{3}){2,}$", body) for body in bodies)


def _number(text: str, *, comma: bool) -> float | None:
    body = _digits(text)
    if not body:
        return None
    point, group = (",", ".") if comma else (".", ",")
    if "," in body and "." in body:
        point, group = (",", ".") if body.rindex(",") > body.rindex(".") else (".", ",")
    elif comma and body.count(".") == 1 and not re.search(r"\.\d{3}$", body):
        point, group = ".", ","
    plain = body.replace(group, "")
    return float(plain.replace(point, ".")) if plain.count(point) <= 1 else float(plain.replace(point, ""))


def num_rounded(column: pl.Series) -> int:
    """Number of ids in the scientific notation of spreadsheets (`1.23457E+12`, `1E+05`) whose digits may be lost."""
    if not column.str.contains(_EXPONENT).any():
        return 0
    return int(whole_ids(column).str.contains(_EXPONENT).sum() or 0)


class Availability(NamedTuple):
    """Marks of products that can be ordered, and marks of rows with a word that says neither."""

    available: pl.Series
    unknown: pl.Series


def availability(column: pl.Series) -> Availability:
    """Availability of products.

    Feeds (`in_stock`, `preorder`), schema.org addresses (`https://schema.org/InStock`), shop systems (`onbackorder`)
    and stock counts are understood. Unknown words and missing values count as available.
    """
    words = {text: _is_available(text) for text in column.drop_nulls().unique().to_list()}
    available = column.replace_strict(words, default=None, return_dtype=pl.Boolean) if words else None
    if available is None:
        everywhere = pl.Series(values=[True], dtype=pl.Boolean).new_from_index(0, len(column))
        return Availability(everywhere, column.is_not_null())
    unknown = available.is_null() & without(column, NOTHING).is_not_null()
    return Availability(available.fill_null(value=True), unknown)


def _is_available(text: str) -> bool | None:
    word = fold(text.lower().rpartition("/")[2].strip() or text.lower())
    plain = re.sub(r"[\W_]", "", word)
    if plain in _IN_STOCK:
        return True
    if plain in _OUT_OF_STOCK:
        return False
    count = _STOCK_COUNT.fullmatch(word)
    return None if count is None else float((count["before"] or count["after"]).replace(",", "")) > 0


def plain_text(column: pl.Series) -> pl.Series:
    """Texts without HTML: tags and comments out, entities as characters; texts without `<` and `&` are untouched."""
    if column.null_count() == len(column):
        return column
    marked = column.str.contains("[<&]").fill_null(value=False)
    if not marked.any():
        return column
    texts = {text: strip_html(text) for text in column.filter(marked).unique().to_list()}
    return column.replace(list(texts), [text or None for text in texts.values()])


def strip_html(text: str) -> str:
    """One text without HTML; tags that break a line become blanks, inline ones nothing."""
    for _ in range(2):  # feeds escape their HTML once more (`&lt;b&gt;`)
        text = html.unescape(_TAG.sub(lambda tag: "" if _INLINE.match(tag[0]) else " ", text))
    return " ".join(text.replace("\u00ad", "").split())
