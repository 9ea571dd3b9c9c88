"""Live attribution: figures of the last hours that follow new slates and late events.

Rows are kept as long as an event may still be credited to a slate. When rows arrive, the figures of the users in them
are made again from their rows and replace the former ones, so that a late event corrects the hour of its slate, and the
result is exactly that of attributing everything at once.
"""

import polars as pl

from txrec.errors import InvariantError
from txrec.loop.attribution.attribution import Windows, credit, events_of, slates_of
from txrec.loop.attribution.slate_figures import (
    FIGURES,
    NO_TABLES,
    PLACE_FIGURES,
    PLACE_SLICES,
    SLICES,
    SUMS,
    Rate,
    SliceTables,
    add,
    place_outcomes,
    rates,
    slate_outcomes,
    sums,
)

TABLE = {"slice": pl.String, "part": pl.String, "figure": pl.String, **dict.fromkeys(SUMS, pl.Float64)}
"""Columns of a table of sums."""


def table_of(
    impressions: pl.DataFrame,
    events: pl.DataFrame,
    windows: Windows,
    known: SliceTables = NO_TABLES,
) -> pl.DataFrame:
    """Sums of all figures of a log, or of a part of it that holds all rows of its users.

    Args:
        impressions: columns of schema.IMPRESSIONS; `sources`, `placement` and `took_ms` where they are there.
        events: columns of schema.EVENTS.
        windows: of attribution.
        known: tables that slices refer to.
    """
    slates = slates_of(impressions)
    places = place_outcomes(slates, credit(slates, events_of(events), windows), known)
    return tables(slate_outcomes(slates, places, windows, known), places)


def tables(outcomes: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Sums of all figures of slates and of their places."""
    by_place = sums(places, PLACE_FIGURES, PLACE_SLICES).filter(pl.col("slice") != "all")
    return add([sums(outcomes, FIGURES, SLICES), by_place])


class LiveAttribution:
    """Figures of a sliding time span, by slice.

    Args:
        windows: of attribution.
        keep_us: slates older than this are left out at the next update, microseconds.
    """

    def __init__(self, windows: Windows, keep_us: int) -> None:
        self.windows = windows
        self.keep_us = keep_us
        self._slates: pl.DataFrame | None = None
        self._events: pl.DataFrame | None = None
        self._outcomes: pl.DataFrame | None = None
        self._places: pl.DataFrame | None = None

    def update(self, impressions: pl.DataFrame, events: pl.DataFrame, now_us: int) -> set[str]:
        """Takes new rows in; returns the hours (`2026-11-28T04`) of the slates that were looked at again.

        Args:
            impressions: new slates; one that is already known changes nothing.
            events: new events, each once; late ones too.
            now_us: microseconds since 1970 UTC.
        """
        slates, fresh_events = slates_of(impressions), events_of(events)
        if self._slates is not None:
            slates = slates.join(self._slates, on="request_id", how="anti")
            self._slates = pl.concat([self._slates, slates], how="diagonal_relaxed")
        else:
            self._slates = slates
        self._events = fresh_events if self._events is None else pl.concat([self._events, fresh_events])
        limit = now_us - self.keep_us
        old = self._slates.filter(pl.col("ts") < limit)["key"]
        self._slates = self._slates.filter(pl.col("ts") >= limit)
        self._events = self._events.filter(pl.col("ts") >= limit)
        answered = self._slates.join(fresh_events.select("request_id").drop_nulls(), on="request_id", how="semi")
        keys = pl.concat([slates["key"], "u:" + fresh_events["user_id"], answered["key"], old]).unique()
        return self._replace(keys)

    def _replace(self, keys: pl.Series) -> set[str]:
        """Makes the outcomes of some users again from their rows."""
        if self._slates is None or self._events is None:
            raise InvariantError("outcomes are made from slates and events, which are not there yet")
        slates = self._slates.filter(pl.col("key").is_in(keys.implode()))
        events = self._events.filter(
            ("u:" + pl.col("user_id")).is_in(keys.implode())
            | pl.col("request_id").is_in(slates["request_id"].implode())
        )
        places = place_outcomes(slates, credit(slates, events, self.windows))
        outcomes = slate_outcomes(slates, places, self.windows)
        self._places, self._outcomes = (
            fresh
            if kept is None
            else pl.concat([kept.filter(~pl.col("key").is_in(keys.implode())), fresh], how="diagonal_relaxed")
            for kept, fresh in ((self._places, places), (self._outcomes, outcomes))
        )
        return set(outcomes["hour"].to_list())

    def table(self) -> pl.DataFrame:
        """The sums that the figures follow from; without rows before the first update."""
        if self._outcomes is None or self._places is None:
            return pl.DataFrame(schema=TABLE)
        return tables(self._outcomes, self._places)

    def figures(self) -> dict[str, dict[str, dict[str, Rate]]]:
        """Figures over what is kept: slice -> part -> figure -> `Rate`."""
        return rates(self.table())
