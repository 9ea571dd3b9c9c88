"""Detection of texts that hold lists of products: the setting `split` of a log."""

from collections import Counter
from typing import Any

import polars as pl

from txrec.config import SplitTextConfig
from txrec.data.detection.names import fit, plain_name
from txrec.data.formats.text_lists import elements, elements_as_rows, json_array

_LISTS = (
    "product_list",
    "products",
    "items",
    "cart",
    "basket",
    "line_items",
    "lines",
    "order_items",
    "skus",
    "contents",
)
_FIELDS = ("category", "sku", "quantity", "price", "events", "evars")
"""Fields of the elements of Adobe's `product_list`."""
_ADOBE = r"^[^;,]*;[^;,]+(;[^;]*){0,4}(,[^;,]*;|$)"
_LEAST_LISTS, _MOST = 0.03, 2_000
"""Share of the texts with more than one element that makes them lists; texts that are looked at."""


def with_lists(frame: pl.DataFrame, settings: dict[str, Any], remarks: dict[str, str]) -> pl.DataFrame:
    """A frame of a log with a row per product of the lists in its texts, where no other column names products."""
    fits = {name: fit("item_id", name) for name, kind in frame.schema.items() if kind == pl.String}
    people = ("user_id", "session_id", "request_id")
    of_people = any(fit(role, name) >= 0.5 for name in frame.columns for role in people)
    for name, score in fits.items():
        named = score >= 0.3 or plain_name(name.rpartition(".")[2]) in _LISTS
        if not (named and of_people) or any(other >= 0.5 for key, other in fits.items() if key != name):
            continue
        split = _split(name, frame[name].drop_nulls().head(_MOST).to_list())
        if split is not None:
            settings["split"] = split.model_dump(exclude_defaults=True)
            remarks["split"] = "likely: its texts are lists of products"
            return elements_as_rows(frame, split)[0]
    return frame


def _split(name: str, texts: list[str]) -> SplitTextConfig | None:
    texts = [text for text in texts if text.strip()]
    if not texts:
        return None
    arrays = [array for text in texts if (array := json_array(text)) is not None]
    if len(arrays) > 0.9 * len(texts):
        return _of_objects(name, [part for array in arrays for part in array])
    if sum(pl.Series(texts).str.contains(_ADOBE)) > 0.95 * len(texts):
        width = max(len(part.split(";")) for text in texts[:200] for part in text.split(","))
        return SplitTextConfig(column=name, fields=";", names=_FIELDS[: max(2, width)])
    for separator in ("|", ";", ","):
        split = SplitTextConfig(column=name, separator=separator)
        if _are_lists([[one[0] or "" for one in elements(text, split)] for text in texts]):
            return split
    return None


def _of_objects(name: str, parts: list[Any]) -> SplitTextConfig | None:
    """Lists of objects that name a product, or of ids."""
    if all(isinstance(part, str | int) for part in parts):
        return SplitTextConfig(column=name) if parts else None
    objects = [part for part in parts if isinstance(part, dict)]
    keys = [key for key in dict.fromkeys(key for one in objects for key in one) if plain_name(key)]
    keys = [key for key in keys if not any(isinstance(one.get(key), list | dict) for one in objects)]
    if len(objects) < len(parts) or not any(fit("item_id", key) >= 0.4 for key in keys):
        return None
    return SplitTextConfig(column=name, names=tuple(keys))


def _are_lists(lists: list[list[str]]) -> bool:
    """True where texts are lists of ids: some have several, ids hold digits and no blanks, and come again."""
    counts = Counter(part for one in lists for part in one)
    several = sum(len(one) > 1 for one in lists)
    ids = sum(any(map(str.isdigit, part)) and " " not in part and len(part) < 40 for part in counts)
    again = sum(count > 1 for count in counts.values())
    return several > _LEAST_LISTS * len(lists) and ids > 0.9 * len(counts) and again > 0.3 * len(counts)
