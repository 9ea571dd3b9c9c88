"""Overlap of the ids in a log with those of the tables that describe its products and users."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

_LEAST = {"products": 0.2, "users": 0.05}
"""Share of the ids of the smaller side below which the two sides are taken for unlike kinds of ids. Logs hold guests,
and tables of users everybody who ever signed up."""
_WORDS = {"products": ("the catalogue", "columns.item_id"), "users": ("the users table", "columns.user_id")}


@dataclass(frozen=True)
class Overlap:
    """Number of ids of the log, of the table that describes them, and of both."""

    what: str
    """`products` or `users`."""
    num_logged: int
    num_described: int
    num_common: int
    logged: str = ""
    """An id of the log that the table lacks."""
    described: str = ""
    """An id of the table that the log lacks."""

    @property
    def is_small(self) -> bool:
        """True where so few ids of the smaller side meet that the sides may hold unlike kinds of ids."""
        smaller = min(self.num_logged, self.num_described)
        return smaller > 0 and self.num_common < _LEAST[self.what] * smaller

    def warning(self) -> str:
        """The figures, an id of both sides and what to do."""
        table, setting = _WORDS[self.what]
        return (
            f"of {self.num_logged:,} {self.what} in the log {self.num_common:,} "
            f"({self.num_common / self.num_logged:.0%}) are among the {self.num_described:,} of {table}: the log has "
            f"{self.what} such as {self.logged!r}, {table} such as {self.described!r}; do both use the same kind of "
            f"id? See {setting}"
        )


def overlap(what: str, logged: pl.Series, described: pl.Series) -> Overlap:
    """The overlap of two columns that hold every id once."""
    unknown = logged.filter(~logged.is_in(described.implode()))
    unseen = described.filter(~described.is_in(logged.implode()))
    common = len(logged) - len(unknown)
    return Overlap(what, len(logged), len(described), common, _example(unknown), _example(unseen))


def added(parts: Sequence[Overlap]) -> list[Overlap]:
    """The overlaps of parts of a log, which have no id in common, as one for each kind of ids."""
    made: dict[str, Overlap] = {}
    for part in parts:
        one = made.get(part.what, replace(part, num_logged=0, num_common=0, logged=""))
        made[part.what] = replace(
            one,
            num_logged=one.num_logged + part.num_logged,
            num_common=one.num_common + part.num_common,
            logged=min(filter(None, (one.logged, part.logged)), default=""),
            described=max(one.described, part.described),
        )
    return list(made.values())


def _example(ids: pl.Series) -> str:
    return str(ids.min()) if len(ids) else ""
