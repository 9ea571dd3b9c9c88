"""A quiet shop's log, the profile of a bundle that was trained on it, and a day of its traffic over HTTP."""

from pathlib import Path

import polars as pl

from tests.txrec.data.workbench import prepared
from tests.txrec.loop.drift.test_drift import ITEMS, LOG
from txrec.loop.drift.traffic import TrafficProfile
from txrec.online.history import Impression, LoggedEvent
from txrec.recommender.types import Event
from txrec.schema import DAY_US

LAST_US = 20_039 * DAY_US
"""Beginning of the last day of `LOG`, which the profile does not know."""
TRAINING = LOG.filter(pl.col("ts") < LAST_US)
LAST_DAY = LOG.filter(pl.col("ts") >= LAST_US)


def profile_of(folder: Path, log: pl.DataFrame = TRAINING) -> TrafficProfile:
    """The profile of a log that went through a real preparation."""
    log.with_columns(pl.from_epoch("ts", time_unit="us").dt.replace_time_zone("UTC")).write_parquet(
        folder / "events.parquet"
    )
    ITEMS.write_parquet(folder / "items.parquet")
    sources = {kind: [{"path": f"{kind}.parquet", "format": "parquet"}] for kind in ("events", "items")}
    found = TrafficProfile.of(prepared(folder, sources, {"split": {"kind": "global_time"}})[1])
    assert found is not None
    return found


def as_served(day: pl.DataFrame) -> tuple[list[Impression], list[LoggedEvent]]:
    """A day of a log as a server would have kept it: every fifth event followed a slate."""
    slates, events = [], []
    for number, row in enumerate(day.iter_rows(named=True)):
        if number % 5 == 0:
            shown = Impression(f"r{number}", row["ts"], "production", "v1", ("p1", "p2"), (0.5, 0.2), row["user_id"])
            slates.append(shown)
        event = Event(row["event"], row["item_id"], row["query"], row["ts"], row["value"])
        events.append(LoggedEvent(f"e{number}", row["user_id"], event))
    return slates, events
