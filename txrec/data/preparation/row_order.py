"""Order of rows in a log without times: its rows count as the order of events, unless they are sorted by product."""

import polars as pl

_LEAST_PAIRS = 100
_SORTED_SHARE = 0.95
"""Share of neighbouring rows in the order of their item_ids from which on a log is taken for sorted; half by chance."""


def count_pairs(user: pl.Series, item: pl.Series) -> tuple[int, int]:
    """Neighbouring events of one user with two products, and how many of them are in the order of their item_ids.

    Args:
        user: (N,) user of every event.
        item: (N,) item_id of every event as text; whole numbers are ordered as numbers.
    """
    number = item.cast(pl.Int64, strict=False)
    key = item if number.null_count() > item.null_count() else number
    pairs = pl.DataFrame({"user": user, "key": key}).select(
        "key", before=pl.col("key").shift(1), one=pl.col("user") == pl.col("user").shift(1)
    )
    pairs = pairs.filter(pl.col("one") & (pl.col("key") != pl.col("before")))
    return pairs.height, int((pairs["key"] > pairs["before"]).sum())


def warning(num_pairs: int, num_sorted: int) -> str:
    """Message on rows that are sorted by product; empty where they are not, or too few to tell."""
    share = max(num_sorted, num_pairs - num_sorted) / max(1, num_pairs)
    if num_pairs < _LEAST_PAIRS or share < _SORTED_SHARE:
        return ""
    return (
        f"the events have no times, and {share:.0%} of the neighbouring rows of a user are in the order of their "
        "item_ids: a sorted file does not tell which event was the last, and figures of the test part mean nothing; "
        "map a column of times to ts, or export the rows in the order in which they happened"
    )
