"""Context of events: declared columns of the log, kept with the sequences, learned from and part of evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.txrec.data.workbench import configured, write
from txrec.config import EvaluateConfig
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.prepared import PreparedData
from txrec.errors import DataError
from txrec.evals.protocol import eval_requests
from txrec.index.source import FitContext
from txrec.index.source_registry import fit_sources
from txrec.index.sources.profile_affinity import ProfileAffinity
from txrec.index.training_log import EventLog
from txrec.schema import Split

SOURCE: dict[str, Any] = {
    "path": "events.csv",
    "columns": {"user_id": "user", "item_id": "item", "ts": "time", "event": "kind"},
    "context": ["device", "store"],
}
OTHER: dict[str, Any] = {**SOURCE, "path": "other.csv", "context": ["device"]}


def log(users: range) -> str:
    """On phones users take i0 and i1, on desktops i2 and i3; the last event of everybody is on a phone."""
    lines = ["user,item,time,kind,device,store"]
    for user in users:
        lines += [
            f"u{user:02d},i{user % 2},2024-01-01T10:00,click,phone,7",
            f"u{user:02d},i{2 + user % 2},2024-01-02T10:00,click,desktop,",
            f"u{user:02d},i1,2024-01-03T10:00,click,phone,8",
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("context")
    write(folder, "events.csv", log(range(30)))
    write(folder, "other.csv", log(range(30, 36)))
    config = configured(folder, {"events": [SOURCE, OTHER]}, {"num_partitions": 3})
    run(config, InProcess())
    return PreparedData.open(config.data_dir)


def texts(data: PreparedData, name: str) -> list[str | None]:
    context = data.contexts[name]
    return [None if code < 0 else context.values[code] for code in context.code.tolist()]


def test_declared_columns_stand_beside_the_events_that_they_belong_to(data: PreparedData) -> None:
    assert set(data.contexts) == {"device", "store"}
    events = data.sequences
    assert texts(data, "device") == ["phone", "desktop", "phone"] * 36
    user = np.repeat(events.user_id, np.diff(events.offsets))
    expected = [["7", None, "8"] if name < "u30" else [None] * 3 for name in user[::3]]
    assert texts(data, "store") == [value for row in expected for value in row]


def test_the_profile_source_learns_what_is_taken_in_a_context_and_evaluation_asks_in_it(data: PreparedData) -> None:
    source = ProfileAffinity.fit(data, EventLog.before(data, Split.TEST))
    item = {name: row for row, name in enumerate(data.items["item_id"].to_pylist(), start=1)}
    both = np.array([item["i0"], item["i2"]], np.int32)
    on_phone = source.lifts(source.codes_of({"device": "phone"}), both).item
    on_desktop = source.lifts(source.codes_of({"device": "desktop"}), both).item
    assert on_phone[0] > 0 > on_phone[1]
    assert on_desktop[0] < 0 < on_desktop[1]
    requests = eval_requests(data, Split.TEST, EvaluateConfig()).with_profiles(data)
    assert requests.profile(0)["device"] == "phone"
    assert {requests.profile(row).get("store") for row in range(len(requests))} == {"8", None}


def test_the_source_takes_part_by_the_context_alone_and_not_without_one(data: PreparedData, tmp_path: Path) -> None:
    def fitted(of: PreparedData) -> set[str]:
        vectors = np.zeros((of.meta.num_items + 1, 4), np.float32)
        config = configured(tmp_path).retrieval.model_copy(update={"sources": ("dense", "popularity")})
        return set(fit_sources(FitContext(config, of, EventLog.before(of, Split.TEST), vectors, None)))

    assert "profile" in fitted(data)
    write(tmp_path, "events.csv", log(range(30)))
    config = configured(tmp_path, {"events": [{**SOURCE, "context": []}]})
    run(config, InProcess())
    plain = PreparedData.open(config.data_dir)
    assert plain.contexts == {}
    assert "profile" not in fitted(plain)


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", log(range(3)))
    with pytest.raises(DataError, match=r"no column 'browser' \(needed for context\)"):
        run(configured(tmp_path, {"events": [{**SOURCE, "context": ["browser"]}]}), InProcess())
