"""Order lines of which only the first of each order says whose it is and when: the file is joined to itself."""

from dataclasses import replace

import polars as pl

from txrec.data.detection.names import fit
from txrec.data.detection.sample import Sample

_READ_BY_JOINS = frozenset({"delimiter", "header", "names", "encoding", "ragged", "multiline"})
"""Settings of a text file that a join can have too."""
_LEAST_FILLED = 0.5
"""Share of the first rows in which a column of orders holds something."""


def with_first_rows(sample: Sample) -> Sample:
    """A sample whose fields of orders are those of each order's first row; as it is where rows have their own.

    A column that only the first rows of orders fill is named `NAME:joined`, as the join to the file itself names it.
    """
    frame, settings = sample.frame, sample.settings
    if settings.keys() - _READ_BY_JOINS or settings.get("header") is False:
        return sample
    for key in frame.columns:
        orders = frame[key]
        if orders.dtype != pl.String or not _numbers_orders(key, orders):
            continue
        is_first = orders.is_first_distinct()
        sparse = [name for name in frame.columns if name != key and _is_of_first_rows(frame[name], is_first)]
        if not any(fit(role, name) >= 0.5 for name in sparse for role in ("user_id", "session_id", "ts")):
            continue
        filled = frame.with_columns(_texts(frame[name]).alias(name) for name in sparse)
        filled = filled.with_columns(pl.col(name).first().over(key) for name in sparse)
        join = {"path": sample.path, "on": (key, key), "required": False, **settings}
        remark = f"sure: only the first row of every {key} has {', '.join(sparse[:4])}"
        return replace(
            sample,
            settings={**settings, "join": [join]},
            remarks={**sample.remarks, "join": remark},
            frame=filled.rename({name: f"{name}:joined" for name in sparse}),
        )
    return sample


def _texts(column: pl.Series) -> pl.Series:
    """Texts with null in place of empty ones."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def _numbers_orders(name: str, column: pl.Series) -> bool:
    """True where a column numbers orders that have several rows."""
    texts = _texts(column)
    if texts.null_count() or not len(texts) or texts.n_unique() > 0.95 * len(texts):
        return False
    return fit("request_id", name) >= 0.5 or bool(texts.str.contains(r"^#\w*\d$").all())


def _is_of_first_rows(column: pl.Series, is_first: pl.Series) -> bool:
    """True where only the first rows of orders hold something."""
    if column.dtype != pl.String:
        return False
    filled = _texts(column).is_not_null()
    return not filled.filter(~is_first).any() and int(filled.filter(is_first).sum()) > _LEAST_FILLED * int(
        is_first.sum()
    )
