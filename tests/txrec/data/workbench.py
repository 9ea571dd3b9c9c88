"""Small raw logs on disk, prepared in this process."""

import io
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from txrec.config import Config
from txrec.data.preparation.data_report import Report
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.prepared import PreparedData

HEADER = "user,item,time,kind,query\n"
CLICKS: dict[str, Any] = {
    "path": "events.csv",
    "columns": {"user_id": "user", "item_id": "item", "ts": "time", "event": "kind", "query": "query"},
}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Writes a raw file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zipped(content: bytes) -> bytes:
    """An archive of one file in a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/events.csv", content)
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    """One zstd frame."""
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


def configured(folder: Path, data: dict[str, Any] | None = None, prepare: dict[str, Any] | None = None) -> Config:
    """A configuration over the folder; by default the clicks of events.csv, everybody's last event as test."""
    return Config.model_validate(
        {
            "name": "bench",
            "runs_root": str(folder / "runs"),
            "data": {"root": str(folder), **(data or {"events": [CLICKS]})},
            "prepare": {"split": {"kind": "leave_one_out"}, "max_rejected_frac": 1.0, **(prepare or {})},
            "text": {"vocab_size": 400},
        }
    )


def prepared(
    folder: Path, data: dict[str, Any] | None = None, prepare: dict[str, Any] | None = None
) -> tuple[Report, PreparedData]:
    """Prepares the folder's files."""
    config = configured(folder, data, prepare)
    report = run(config, InProcess())
    return report, PreparedData.open(config.data_dir)


def rejected(data: PreparedData) -> list[dict[str, Any]]:
    """The quarantine, by row."""
    parts = sorted((data.path / "rejected").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return sorted(rows, key=lambda row: (row["source"], row["row"]))


def events_of(data: PreparedData) -> pl.DataFrame:
    """All events with raw ids, a row each, users by name, histories in order."""
    frame = pl.read_parquet(data.path / "sequences" / "*.parquet").explode(cs.exclude("user_id"))
    names = pl.Series(["", *data.items["item_id"].to_pylist()])
    queries = pl.Series(["", *data.queries["query"].to_pylist()])
    return frame.with_columns(
        item=pl.Series([names[i] for i in frame["item_idx"]], dtype=pl.String),
        query=pl.Series([queries[i] for i in frame["query_idx"]], dtype=pl.String),
    ).sort("user_id", maintain_order=True)
