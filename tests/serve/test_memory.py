"""A replica does not pay for fresh pages batch by batch."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from serve import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        blocks = [np.ones(2_000_000, np.float32) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults()
assert memory.keep_freed()
faults()
print(fresh, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_memory_that_was_freed_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    fresh, kept = (int(count) for count in done.stdout.split())
    assert kept < 100 < fresh
