"""Plots of the evaluation report as SVG text, drawn by matplotlib without a display."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.evals import metrics
from txrec.evals.evaluation import Evaluation, best_of, scored_pairs
from txrec.schema import PAD

if TYPE_CHECKING:  # imported when something is drawn: training workers import this module and draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN, OTHER, FAINT = "#1f5fa8", "#9aa5b1", "#d9dee4"
MAX_POINTS = 300
NUM_GROUPS = 8
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, selectable
    "svg.hashsalt": "txrec",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


def system_bars(evaluation: Evaluation) -> str:
    """The deciding metric of every system with its 95 % interval."""
    intervals = evaluation.figures["intervals"].get(evaluation.metric, {})
    values = {name: float(figures[evaluation.metric].mean()) for name, figures in evaluation.per_case.items()}
    names = sorted(values, key=lambda name: values[name])
    with _styled():
        figure, axes = _figure(7.2, 0.32 * len(names) + 0.8)
        colours = [OWN if name == "test" else OTHER for name in names]
        axes.barh([label(name) for name in names], [values[name] for name in names], color=colours, height=0.62)
        for place, name in enumerate(names):
            end = _error_bar(axes, place, values[name], intervals.get(name))
            spot: Any = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            axes.annotate(f"{values[name]:.4f}", (end, place), **spot)
        axes.set_xlabel(evaluation.metric)
        axes.margins(x=0.15)
        return _svg(figure)


def slice_bars(evaluation: Evaluation) -> str:
    """The deciding metric of txrec and of the best baseline in every slice."""
    parts = evaluation.figures["slices"]
    names = list(parts)[::-1]
    best = {name: max(values[evaluation.metric] for values in parts[name]["baselines"].values()) for name in names}
    place = np.arange(len(names))
    with _styled():
        figure, axes = _figure(7.2, 0.42 * len(names) + 0.9)
        axes.barh(place + 0.2, [parts[n]["test"][evaluation.metric] for n in names], 0.38, color=OWN, label="txrec")
        axes.barh(place - 0.2, [best[n] for n in names], 0.38, color=OTHER, label="best baseline of the slice")
        axes.set_yticks(place, [f"{label(name)} ({parts[name]['num_cases']:,})" for name in names])
        axes.set_xlabel(evaluation.metric)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return _svg(figure)


def roc_and_precision(evaluation: Evaluation) -> str:
    """ROC and precision-recall curves over all (request, product) pairs of the catalogue."""
    right, wrong, total = _sorted_counts(evaluation)
    negatives = len(evaluation.cases) * evaluation.data.meta.num_items - total
    with _styled():
        figure = _canvas(7.2, 3.2)
        roc, precision = figure.subplots(1, 2)
        roc.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        roc.plot(np.append(wrong / negatives, 1), np.append(right / total, 1), color=OWN)
        roc.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, AUC {_auc(evaluation):.4f}")
        listed = right + wrong > 0
        precision.plot((right / total)[listed], (right[listed] / (right + wrong)[listed]), color=OWN)
        precision.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, None), xlim=(0, 1))
        return _svg(figure)


def reliability(evaluation: Evaluation) -> str:
    """Promised click probability against the share that was right; empty where no ranker gave probabilities."""
    probability, right = scored_pairs(evaluation.lists, evaluation.cases.truth)
    if not len(probability):
        return ""
    table = metrics.calibration(probability, right)
    with _styled():
        figure, axes = _figure(3.8, 3.3)
        low = max(min(table[:, :2][table[:, :2] > 0].min(initial=1.0), 1.0), 1e-6)
        axes.plot([low, 1], [low, 1], color=FAINT, linewidth=1)
        axes.plot(table[:, 0], table[:, 1], "o-", color=OWN, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="promised probability", ylabel="share that was right")
        axes.set_title(f"calibration error {evaluation.figures['test']['calibration_error']:.4f}")
        return _svg(figure)


def recall_by_popularity(evaluation: Evaluation, k: int = 10) -> str:
    """Recall@k of right items grouped by how popular they were in training."""
    truth = evaluation.cases.truth
    count = np.append(0, np.asarray(evaluation.data.items.column("train_count")))[truth.items]
    edges = np.unique(np.quantile(count, np.linspace(0, 1, NUM_GROUPS + 1)))
    group = np.clip(np.searchsorted(edges, count, side="right") - 1, 0, max(len(edges) - 2, 0))
    size = np.bincount(group)
    middle = np.bincount(group, count) / np.maximum(size, 1)
    with _styled():
        figure, axes = _figure(7.2, 3.0)
        for name, colour in (
            ("test", OWN),
            (best_of(evaluation.figures["baselines"], evaluation.metric), "#c26a1b"),
            ("popularity", OTHER),
        ):
            listed = _is_listed(evaluation.systems[name], truth.case, truth.items, k)
            share = np.bincount(group, listed) / np.maximum(size, 1)
            axes.plot(middle[size > 0], share[size > 0], "o-", color=colour, label=label(name), markersize=4)
        axes.set_xscale("symlog")
        axes.set(xlabel="training events of the right item", ylabel=f"recall@{k}", ylim=(0, None))
        axes.legend(frameon=False)
        return _svg(figure)


def learning_curves(file: Path) -> str:
    """Loss and validation figure by epoch, from the history model's `training.json`; empty where it is not there."""
    if not file.is_file():
        return ""
    epochs: Sequence[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    validated = [epoch for epoch in epochs if epoch["figures"]]
    with _styled():
        figure = _canvas(7.2, 2.8)
        loss, validation = figure.subplots(1, 2)
        loss.plot([epoch["epoch"] for epoch in epochs], [epoch["loss"] for epoch in epochs], "o-", color=OWN, ms=3)
        loss.set(xlabel="epoch", ylabel="training loss, nats")
        for name in validated[0]["figures"] if validated else ():
            points = [epoch["figures"][name] for epoch in validated]
            validation.plot([epoch["epoch"] for epoch in validated], points, "o-", label=name, ms=3)
        validation.set(xlabel="epoch", ylabel="validation", ylim=(0, None))
        if validated:
            validation.legend(frameon=False)
        return _svg(figure)


def label(name: str) -> str:
    """A system's or slice's name for people."""
    own = {"test": "txrec", "retrieval": "txrec, retrieval only", "production": "bundle in production"}
    length = re.fullmatch(r"history_(\d+)_(\d+)", name)
    return f"history {length[1]} to {length[2]}" if length else own.get(name, name.replace("_", " "))


def _is_listed(
    ids: NDArray[np.int32], case: NDArray[np.int64], items: NDArray[np.int32], k: int
) -> NDArray[np.float64]:
    """(T,) 1 where the right item is among the first k of its case's list."""
    return np.asarray((ids[case, :k] == items[:, None]).any(axis=1), np.float64)


class _PairCounts(NamedTuple):
    """Right and wrong pairs listed above falling scores, at most MAX_POINTS of each, and all right pairs."""

    right: NDArray[np.float64]
    wrong: NDArray[np.float64]
    total_right: int


def _sorted_counts(evaluation: Evaluation) -> _PairCounts:
    listed = evaluation.lists.ranked != PAD
    hit = metrics.hits(evaluation.lists.ranked, evaluation.cases.truth)[listed]
    order = np.argsort(-evaluation.lists.scores[listed], kind="stable")
    right = np.append(0, np.cumsum(hit[order])).astype(np.float64)
    wrong = np.append(0, np.cumsum(~hit[order])).astype(np.float64)
    points = np.unique(np.geomspace(1, len(right), MAX_POINTS).astype(np.int64)) - 1
    return _PairCounts(right[points], wrong[points], max(len(evaluation.cases.truth.items), 1))


def _auc(evaluation: Evaluation) -> float:
    return float(evaluation.figures["test"]["auc"])


def _error_bar(axes: "Axes", place: int, value: float, interval: Mapping[str, float] | None) -> float:
    if interval is None:
        return value
    axes.plot([interval["low"], interval["high"]], [place, place], color="#222", linewidth=1.2)
    return interval["high"]


def _styled() -> AbstractContextManager[None]:
    from matplotlib import rc_context

    return rc_context(_STYLE)


def _canvas(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    figure = _canvas(width, height)
    return figure, figure.subplots()


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
