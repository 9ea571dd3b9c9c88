"""The accelerator benchmark runs with torch alone; here with tiny sizes on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from txrec.data.prepared import PreparedData

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "gpu.py"
WITHOUT_RAY = """
import runpy, sys
sys.modules["ray"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_it_measures_every_part_and_ends_with_one_json_object(tiny: PreparedData) -> None:
    arguments = ["--device", "cpu", "--small", "--prepared", str(tiny.path), "train.max_epochs=1"]
    command = [sys.executable, "-c", WITHOUT_RAY, str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"tokens_per_s", "mfu", "seconds_to_target", "ratio"} <= result.keys()
    assert result["sampled_1m"]["tokens_per_s"] > 0
