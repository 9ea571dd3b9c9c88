"""Names for the columns of files without a header, by their values."""

from collections.abc import Sequence

import polars as pl

from txrec.data.detection.columns import Column, is_id, share
from txrec.data.detection.event_words import event_kind, kind_of_file

_MOST_DISTINCT, _FEW_ROWS = 0.99, 40
"""A column with more distinct values numbers the rows of the table, unless it has few of them."""


def names_by_values(path: str, columns: Sequence[Column]) -> dict[str, str]:
    """Column = its name by its values (`user_id`, `ts`, `title` ...), for those that can be recognised.

    Args:
        path: of the file, whose name may tell the kind of its events.
        columns: of the file.
    """
    free = list(columns)
    names = {column.name: "ts" for column in _timed(free)[:1]}
    names |= {column.name: "event" for column in _event_words(free)[:1]}
    free = [column for column in free if column.name not in names]
    ids = [column for column in free if is_id(column) and column.filled > 0.9]
    texts = [column for column in free if _is_text(column)]
    ids = [column for column in ids if column not in texts]
    unique = [column for column in ids if column.distinct > 0.99]
    if texts and unique and ("ts" not in names.values() or unique[0] is ids[0]):
        names = {unique[0].name: "item_id", texts[0].name: "title"}
    elif len(ids) >= 2 and ("ts" in names.values() or not texts):
        names |= _roles_of_events(path, free, ids)
    paths = [c for c in free if c.name not in names and not c.is_number and c.distinct < 0.5]
    paths = [column for column in paths if share(column.texts.head(500).str.contains(r"[|>]")) > 0.2]
    return names | {column.name: "category" for column in paths[:1]}


def _timed(columns: Sequence[Column]) -> list[Column]:
    return [c for c in columns if c.time and (not c.is_number or c.time.format != "%Y%m%d")]


def _event_words(columns: Sequence[Column]) -> list[Column]:
    few = [column for column in columns if not column.is_number and 0 < column.texts.n_unique() <= 30]
    return [c for c in few if share(c.texts.unique().map_elements(_is_event, return_dtype=pl.Boolean)) > 0.5]


def _is_event(word: str) -> bool:
    return event_kind(word) is not None


def _is_text(column: Column) -> bool:
    worded = not is_id(column) or share(column.texts.str.contains(r"\s")) > 0.5
    return worded and not column.is_number and column.time is None and column.distinct > 0.3


def _roles_of_events(path: str, free: Sequence[Column], ids: Sequence[Column]) -> dict[str, str]:
    chosen = _user_and_item(ids)
    if chosen is None:
        return {}
    user, item = chosen
    names = {user.name: "user_id", item.name: "item_id"}
    few = [c for c in free if c.is_number and c not in (user, item) and 1 < c.texts.n_unique() <= 11]
    few = [column for column in few if share(column.texts.str.len_chars() < 4) == 1.0]
    if few and kind_of_file(path) in (None, "rate"):
        names[few[0].name] = "rating"
    return names


def _user_and_item(ids: Sequence[Column]) -> tuple[Column, Column] | None:
    """Columns of user and product among those of ids: rows of a user or session tend to follow each other.

    Columns that number the rows are neither; None where two are not left.
    """
    ids = [column for column in ids if column.distinct < _MOST_DISTINCT or len(column.texts) <= _FEW_ROWS]
    if len(ids) < 2:
        return None
    candidates = [column for column in ids if column.texts.n_unique() > 11][:3]
    if len(candidates) < 2:
        return None if len(ids[0].texts) > _FEW_ROWS else (ids[0], ids[1])
    runs = {column.name: share(column.texts == column.texts.shift(1)) for column in candidates}
    first = max(candidates, key=lambda column: runs[column.name])
    if runs[first.name] < 0.1:
        first = candidates[0]
    return first, next(column for column in candidates if column is not first)
