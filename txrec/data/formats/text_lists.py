"""Lists inside texts of CSV and Parquet columns, whose elements become rows: `P1,P2`, `;P1;1;9.99,;P2;2;3.50`, JSON.

Shops and analytics write the products of an order into one field: plainly, with fields of their own (Adobe's
`product_list`), or as a JSON array of ids or of objects.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.config import SplitTextConfig
from txrec.data.formats.blocks import Block, SelectedRaw

Element = list[str | None]
"""Values of the fields of one element."""


def field_columns(split: SplitTextConfig) -> list[str]:
    """Columns that the elements fill: one per field, or the column of the list itself."""
    return [f"{split.column}.{name}" for name in split.names] or [split.column]


def with_elements(block: Block, split: SplitTextConfig) -> Block:
    """A block with a row per element of its lists; an empty text keeps one row without one.

    Args:
        block: N rows with the column of the lists.
        split: column and separators.
    """
    frame, origin = elements_as_rows(block.frame, split)
    return replace(block, frame=frame, row=block.row[origin], raw=SelectedRaw(block.raw, origin))


def elements_as_rows(frame: pl.DataFrame, split: SplitTextConfig) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """A frame with a row per element, and the index of the row that each comes from."""
    lists = [elements(text, split) for text in frame[split.column].cast(pl.String).to_list()]
    origin = np.repeat(np.arange(frame.height), [len(one) for one in lists])
    names = field_columns(split)
    flat = [element for one in lists for element in one]
    made = [pl.Series(name, [one[place] for one in flat], dtype=pl.String) for place, name in enumerate(names)]
    return frame[origin].with_columns(made), origin


def elements(text: str | None, split: SplitTextConfig) -> list[Element]:
    """Elements of a list, each with as many values as it has fields; one without values where the list is empty.

    >>> elements(";P1;1,;P2;2", SplitTextConfig(column="list", fields=";", names=("group", "sku", "number")))
    [['', 'P1', '1'], ['', 'P2', '2']]
    >>> elements('["P1", "P2"]', SplitTextConfig(column="list"))
    [['P1'], ['P2']]
    """
    width = max(1, len(split.names))
    parts = json_array(text)
    if parts is None:
        parts = [part.strip() for part in (text or "").split(split.separator) if part.strip()]
        parts = [part.split(split.fields) for part in parts] if split.fields else parts
    made = [_values(part, split.names, width) for part in parts]
    return made or [[None] * width]


def json_array(text: str | None) -> list[Any] | None:
    """The elements of a JSON array; None where a text is none."""
    if text is None or not text.lstrip().startswith("["):
        return None
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, list) else None


def _values(part: Any, names: Sequence[str], width: int) -> Element:
    if isinstance(part, dict):
        return [_text(part.get(name)) for name in names] or [None]
    parts = part if isinstance(part, list) else [part]
    return [_text(parts[place]) if place < len(parts) else None for place in range(width)]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
