"""Log of a server: its slates and events from the store of its live state, or from exported files."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from txrec import object_storage
from txrec.config import Config
from txrec.errors import DataError, StageError
from txrec.loop.attribution.attribution import in_micros
from txrec.online.stores import open_history
from txrec.registry.registry import state_file

_NEEDED = ("ts", "user_id", "request_id")
"""Columns that exports of slates and of events have in common."""


class ServedLog(NamedTuple):
    """Slates and events of a server, with times as microseconds since 1970 UTC."""

    slates: pl.LazyFrame
    events: pl.LazyFrame


def state_of(config: Config) -> str:
    """Place of the server's state: a file, which must exist, or an address.

    Raises:
        StageError: no server of this configuration has kept any state yet.
    """
    state = config.serve.state or str(state_file(config.registry_dir))
    if "://" not in state and not Path(state).is_file():
        raise StageError(f"{state}: nothing is kept here; run `txrec serve CONFIG` and send requests to it first")
    return state


def served_log(config: Config, impressions: Path | None = None, events: Path | None = None) -> ServedLog:
    """Log of exported files, or of the server's store without any.

    Raises:
        StageError: no server of this configuration has kept any state yet.
        DataError: a file is missing, or only one of them is named.
    """
    if (impressions is None) != (events is None):
        raise DataError("txrec monitor: --impressions and --events belong together; name both or none")
    if impressions is not None and events is not None:
        files = (_scan(object_storage.fetch(file)) for file in (impressions, events))
        return ServedLog(*(in_micros(frame) for frame in files))
    store = open_history(state_of(config))
    try:
        tables = [pl.DataFrame(pl.from_arrow(table)) for table in (store.impressions(), store.export())]
    finally:
        store.close()
    return ServedLog(*(in_micros(table.lazy()) for table in tables))


def _scan(path: Path) -> pl.LazyFrame:
    if not path.exists():
        raise DataError(
            f"{object_storage.place_of(path)}: no such file; `txrec export-events CONFIG --impressions FILE` writes it"
        )
    try:
        columns = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{object_storage.place_of(path)}: is no Parquet file of `txrec export-events`: {reason}"
        ) from None
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{object_storage.place_of(path)}: has no column {missing[0]!r}; expected a file of `txrec export-events`, "
            f"found {', '.join(columns)}"
        )
    return pl.scan_parquet(path)
