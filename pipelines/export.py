"""`txrec export-events`: what users did and were shown over HTTP, as files; `txrec prepare` reads the events."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from txrec import object_storage
from txrec.config import Config
from txrec.errors import StageError
from txrec.online.stores import open_history
from txrec.registry.registry import state_file
from txrec.storage import replace_file


@dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    out: Path
    num_events: int
    impressions: Path | None = None
    num_impressions: int = 0

    def headline(self) -> str:
        """One line."""
        shown = f", {self.num_impressions:,} impressions to {self.impressions}" if self.impressions else ""
        return f"{self.num_events:,} events to {self.out}{shown}"


def run(config: Config, out: Path, impressions: Path | None = None) -> ExportSummary:
    """Writes all events as schema.EVENTS to `out`, and all impressions to another file if one is named.

    Raises:
        StageError: no server of this configuration has kept any state yet.
    """
    state = config.serve.state or str(state_file(config.registry_dir))
    if "://" not in state and not Path(state).is_file():
        raise StageError(f"{state}: no events are kept here; run `txrec serve CONFIG` and send some to /v1/events")
    store = open_history(state)
    try:
        events = _write(store.export(), out)
        shown = _write(store.impressions(), impressions) if impressions else 0
    finally:
        store.close()
    return ExportSummary(out, events, impressions, shown)


def _write(table: pa.Table, path: Path) -> int:
    with replace_file(path) as fresh:
        pq.write_table(table, fresh)
    object_storage.share(path)
    return int(table.num_rows)
