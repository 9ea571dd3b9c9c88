"""RecTools' own environment and the events that it is given: what both comparisons with it share."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from txrec.data.prepared import PreparedData

FOLDER = Path(__file__).resolve().parent.parent.parent / ".bench" / "rectools"
PACKAGES = ("rectools[torch]==0.19.*", "torch==2.13.0")


def environment() -> Path:
    """The python of RecTools' environment, which pip makes on first use."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "complete").exists():
        print(f"making {FOLDER} with {' '.join(PACKAGES)}")
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (FOLDER / "complete").touch()
    return python


def export(data: PreparedData, path: Path) -> None:
    """Writes all events with an item: user, item, place in the user's history, split."""
    s = data.sequences
    user = np.repeat(np.arange(len(s)), np.diff(s.offsets))
    place = np.arange(len(user)) - s.offsets[user]
    columns = np.stack([user, s.item_idx, place, s.split], axis=1)[s.item_idx > 0]
    np.savetxt(path, columns, fmt="%d", delimiter=",", header="user,item,place,split", comments="")
