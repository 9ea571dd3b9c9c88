"""Rows that are lost inside txrec are an error, also where Python drops assertions."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.txrec.data.workbench import HEADER, configured, write
from txrec.data.preparation import histories, preparation
from txrec.errors import InvariantError

LOSE = """
import sys
from pathlib import Path
from tests.txrec.data.preparation.test_invariants import lose_one_event
from tests.txrec.data.workbench import configured
from txrec.data.preparation import preparation
assert False, "assertions must be off in this test"
lose_one_event()
preparation.run(configured(Path(sys.argv[1])), preparation.InProcess())
"""


def lose_one_event() -> None:
    """Breaks cleaning: the last event of every partition vanishes without being rejected."""
    encode = histories._encoded
    histories._encoded = lambda job, events: encode(job, events).slice(0, events.height - 1)


def _log(folder: Path) -> None:
    write(folder, "events.csv", HEADER + "".join(f"u1,i{n},2024-01-{n + 1:02d} 10:00:00,click,\n" for n in range(9)))


def test_a_lost_event_stops_the_preparation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _log(tmp_path)
    monkeypatch.setattr(histories, "_encoded", histories._encoded)  # puts the original back afterwards
    lose_one_event()
    with pytest.raises(InvariantError, match="events kept, and counted: 9 and 8 must be equal"):
        preparation.run(configured(tmp_path), preparation.InProcess())
    assert not (tmp_path / "runs" / "bench" / "data" / "meta.json").exists()


@pytest.mark.slow
def test_the_sums_are_checked_without_assertions_too(tmp_path: Path) -> None:
    _log(tmp_path)
    command = [sys.executable, "-O", "-c", LOSE, str(tmp_path)]
    run = subprocess.run(command, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "InvariantError: events kept, and counted: 9 and 8 must be equal" in run.stderr
