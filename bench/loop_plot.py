"""Figures that `bench/loop.py` left in a folder, and their plot.

    python bench/loop_plot.py FOLDER

Draws `loop.svg` from `loop.json`, and prints one JSON object as its last line.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure


def main() -> None:
    """Draws the plot of a folder."""
    folder = Path(sys.argv[1])
    arms = json.loads((folder / "loop.json").read_text(encoding="utf-8"))["arms"]
    plot(arms, folder / "loop.svg")
    print(json.dumps({"plot": str(folder / "loop.svg"), "arms": list(arms)}))


def kept(folder: Path | None, arms: Sequence[str], sizes: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Figures of arms that earlier calls left, of the same sizes."""
    files = [] if folder is None else [folder / f"arm-{arm}.json" for arm in arms]
    rows = {
        file.stem.removeprefix("arm-"): json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()
    }
    return {arm: one["figures"] for arm, one in rows.items() if one["sizes"] == sizes}


def plot(figures: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Satisfied preference per week, cumulative regret per day, and compute."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "txrec", "font.size": 10}):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        by_week, so_far, compute = figure.subplots(1, 3)
        for arm, row in figures.items():
            weeks, regret = row["satisfaction_by_week"], np.cumsum(row["regret_by_day"])
            by_week.plot(np.arange(1, len(weeks) + 1), weeks, label=arm)
            so_far.plot(np.arange(1, len(regret) + 1), regret, label=arm)
        compute.bar(list(figures), [row["compute_s"] for row in figures.values()])
        by_week.set_title("satisfied preference per week")
        so_far.set_title("regret so far, expected clicks, by day")
        compute.set_title("compute, processor seconds")
        for axes in (by_week, so_far):
            axes.legend(frameon=False)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
