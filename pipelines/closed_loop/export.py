"""`txrec export-events` and `txrec export-judgments`: served events, impressions and grades as files for `prepare`."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.closed_loop.served_log import state_of
from txrec import object_storage
from txrec.config import Config
from txrec.errors import StageError
from txrec.loop import judging
from txrec.online.stores import open_documents, open_history
from txrec.storage import replace_file, require_writable


@dataclass(frozen=True)
class ExportSummary:
    """Result of an export."""

    out: Path
    num_events: int
    impressions: Path | None = None
    num_impressions: int = 0

    def headline(self) -> str:
        """One line."""
        impressions = f", {self.num_impressions:,} impressions to {self.impressions}" if self.impressions else ""
        return f"{self.num_events:,} events to {self.out}{impressions}"


def run(config: Config, out: Path, impressions: Path | None = None) -> ExportSummary:
    """Writes all events as schema.EVENTS to `out`, and all impressions to another file if one is named.

    Raises:
        StageError: no server of this configuration has kept any state yet.
        StorageError: a file cannot be written.
    """
    for file in (out, impressions):
        if file is not None:
            require_writable(file)
    store = open_history(state_of(config))
    try:
        num_events = _write(store.export(), out)
        num_impressions = _write(store.impressions(), impressions) if impressions else 0
    finally:
        store.close()
    return ExportSummary(out, num_events, impressions, num_impressions)


@dataclass(frozen=True)
class JudgmentsSummary:
    """The file of judgments that was written."""

    out: Path
    num_pairs: int
    num_judges: int
    agreement: float | None

    def headline(self) -> str:
        """One line."""
        agreement = "" if self.agreement is None else f", agreement {self.agreement:.2f} (Krippendorff's alpha)"
        return f"{self.num_pairs:,} judged pairs of {self.num_judges} judges to {self.out}{agreement}"


def run_judgments(config: Config, out: Path) -> JudgmentsSummary:
    """Writes the mean grade of every judged query-product pair to `out`, a judgments source of `prepare`.

    Raises:
        StageError: no server of this configuration has kept any state yet, or nobody has graded anything.
        StorageError: `out` cannot be written.
    """
    require_writable(out)
    store = open_documents(state_of(config), judging.JUDGMENTS_KIND)
    try:
        documents = store.all().by_name.values()
    finally:
        store.close()
    judgments = [judging.Judgment.of(one) for one in documents]
    table = judging.export(judgments)
    if not table.num_rows:
        raise StageError("no product has been graded; open the console's page Judging, or send grades to /v1/judging")
    _write(table, out)
    judges = {one.judge for one in judgments}
    return JudgmentsSummary(out, table.num_rows, len(judges), judging.agreement(judgments))


def _write(table: pa.Table, path: Path) -> int:
    with replace_file(path) as fresh:
        pq.write_table(table, fresh)
    object_storage.share(path)
    return int(table.num_rows)
