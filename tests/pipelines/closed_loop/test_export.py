"""What was done over HTTP becomes the next training's log."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.closed_loop import export
from tests.txrec.data.workbench import configured, events_of, prepared
from txrec.config import ServeConfig
from txrec.errors import StageError
from txrec.online.history import IMPRESSIONS, Impression, LoggedEvent
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Event
from txrec.registry.registry import POINTER, state_file

NOON = 1_700_000_000_000_000


def logged(folder: Path) -> Path:
    file = folder / "state" / "history.sqlite"
    store = SqliteHistory(file)
    done = [
        Event("search", None, "Blue lamp", NOON),
        Event("click", "p1", "Blue lamp", NOON + 1_000_000),
        Event("purchase", "p2", None, NOON + 60_000_000, 19.5),
    ]
    store.append([LoggedEvent(f"e{place}", "anna", event, "s1", "r1") for place, event in enumerate(done)])
    store.log_impressions([Impression("r1", NOON, "production", "v1", ("p1", "p2"), (0.5, 0.25), "anna", "Blue lamp")])
    store.close()
    return file


def test_exported_events_are_read_by_prepare_as_they_stand(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config = config.model_copy(update={"serve": ServeConfig(state=str(logged(tmp_path)))})
    summary = export.run(config, tmp_path / "live" / "events.parquet", tmp_path / "live" / "impressions.parquet")
    assert summary.headline().startswith("3 events to ")
    assert (summary.num_events, summary.num_impressions) == (3, 1)
    assert pq.read_table(tmp_path / "live" / "impressions.parquet").schema.equals(IMPRESSIONS)

    report, data = prepared(tmp_path, {"events": [{"path": "live/events.parquet", "format": "parquet"}]})
    assert (report.row_counts["events"].read, report.row_counts["events"].kept) == (3, 3)
    events = events_of(data)
    assert events["item"].to_list() == ["", "p1", "p2"]
    assert events["query"].to_list()[:2] == ["blue lamp", "blue lamp"]
    assert events["ts"].to_list() == [NOON, NOON + 1_000_000, NOON + 60_000_000]


def test_without_a_server_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="txrec serve"):
        export.run(configured(tmp_path), tmp_path / "events.parquet")


def test_the_state_of_a_registry_and_of_its_bundles_is_one_file(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    (registry / "v1").mkdir(parents=True)
    (registry / POINTER).symlink_to("v1")
    assert state_file(registry) == state_file(registry / "v1") == tmp_path / "state" / "history.sqlite"
    assert state_file(tmp_path / "candidate") == tmp_path / "state" / "history.sqlite"
