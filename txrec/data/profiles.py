"""User profiles: properties and segments that a shop knows of its users next to their events, as a table and live."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from txrec import schema

FILE = "profiles.parquet"
"""Name of the table of schema.USERS in a prepared data set and in a bundle."""
PropertyValue = str | bool | float
CACHED_USERS = 50_000
"""Users whose properties are kept in memory as texts."""


@dataclass(frozen=True)
class StoredProfile:
    """Properties and segments of one user, as the users table has them."""

    properties: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[str, ...] = ()

    @property
    def all_segments(self) -> tuple[str, ...]:
        """The segments, and `name=value` of every property."""
        return (*self.segments, *value_segments(self.properties))


class StoredProfiles:
    """Profiles of a users table by user id."""

    def __init__(self, table: pa.Table) -> None:
        """Takes a table of schema.USERS."""
        self.table = table

    @classmethod
    def read(cls, folder: Path) -> "StoredProfiles | None":
        """The profiles of a prepared data set or a bundle; None where it has no users table."""
        file = folder / FILE
        return cls(pq.read_table(file, schema=schema.USERS).combine_chunks()) if file.is_file() else None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def of(self, user_id: str | None) -> StoredProfile | None:
        """A user's profile; None for a user who is not in the table."""
        row = self._rows.get(user_id) if user_id is not None else None
        if row is None:
            return None
        properties, segments = (self.table[name][row].as_py() for name in ("properties", "segments"))
        return StoredProfile(dict(properties or ()), tuple(segments or ()))

    @cached_property
    def properties_of(self) -> Callable[[str], Mapping[str, str]]:
        """Properties of a user, empty for one who is not in the table; those of the latest users are kept."""

        def read(user_id: str) -> Mapping[str, str]:
            stored = self.of(user_id)
            return {} if stored is None else stored.properties

        return lru_cache(maxsize=CACHED_USERS)(read)

    @cached_property
    def user_ids(self) -> list[str]:
        """(U,) raw ids by row."""
        ids: list[str] = self.table["user_id"].to_pylist()
        return ids

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.user_ids)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the properties, in alphabetical order."""
        return tuple(sorted(set(self._flat[0].unique().to_pylist())))

    def values(self, name: str, user_ids: pa.Array) -> pa.Array:
        """(U,) texts of a property of users, null where a user has none or is not in the table."""
        keys, texts, rows = self._flat
        own = pc.equal(keys, name)
        place = np.full(len(self) + 1, -1)
        place[np.asarray(rows.filter(own))] = np.arange(pc.sum(own).as_py() or 0)
        row = np.asarray(pc.fill_null(pc.index_in(user_ids, self.table["user_id"].combine_chunks()), len(self)))
        places = place[row]
        return texts.filter(own).take(pa.array(places, mask=places < 0))

    @cached_property
    def _flat(self) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Name, text and row of every property of every user."""
        column = self.table["properties"].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        lengths = np.where(np.asarray(column.is_valid()), np.diff(np.asarray(column.offsets)), 0)
        return column.keys, column.items, pa.array(np.repeat(np.arange(len(column)), lengths))


def value_segments(values: Mapping[str, PropertyValue]) -> tuple[str, ...]:
    """Named values as segments `name=value`."""
    return tuple(f"{name}={value_text(value)}" for name, value in values.items())


def value_text(value: PropertyValue) -> str:
    """A value as text: numbers without a trailing `.0`, truth values as `true` and `false`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float | int) else value
