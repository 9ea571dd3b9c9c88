"""Evaluation report `report.html`: one self-contained page without scripts or external resources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.config import Config
from txrec.evals import metrics, plots
from txrec.evals.answering import query_texts
from txrec.evals.evaluation import Evaluation, best_of
from txrec.evals.exposure_figures import price_line
from txrec.evals.judged import HEAD, lines
from txrec.evals.outcome_figures import HEAD as HEAD_OUTCOMES
from txrec.evals.outcome_figures import outcome_rows
from txrec.evals.plots import label
from txrec.loop.exposure import exposure_table
from txrec.report.page import markup, render
from txrec.schema import PAD, EventKind

NUM_SAMPLES = 6
SHOWN = 10
LAST_EVENTS = 8
_COLUMNS = ("ndcg@10", "recall@10", "precision@10", "hit_rate@1", "mrr", "map")


@dataclass(frozen=True)
class Table:
    """Column names and rows of cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Sample:
    """One request of the evaluation as the report shows it."""

    user: str
    query: str
    before: Sequence[tuple[str, str]]
    """(event kind, product or query) of the history, latest first."""
    recommended: Sequence[tuple[str, bool]]
    """(title, whether it is relevant)."""
    followed: Sequence[tuple[str, bool, int | None]]
    """(title, whether it is among the recommended, its rank)."""


def page(config: Config, evaluation: Evaluation) -> str:
    """The whole report as HTML text."""
    titles = _titles(evaluation)
    return render(
        "evaluation.html.j2",
        name=config.name,
        own=label("test"),
        lead=_lead(evaluation),
        tiles=_tiles(evaluation),
        warnings=_warnings(evaluation),
        exposure=exposure_table(evaluation.figures["exposure"].get("shares", [])),
        prices=[price_line(one) for one in evaluation.figures["exposure"].get("prices", [])],
        outcomes=Table(HEAD_OUTCOMES, outcome_rows(evaluation.figures["outcomes"])),
        judged=_judged(evaluation),
        judged_only=evaluation.data.judged_only,
        systems=_systems(evaluation),
        slices=_slices(evaluation),
        plots={name: markup(svg) if svg else "" for name, svg in _plots(config, evaluation).items()},
        users=[_sample(evaluation, titles, int(row)) for row in _users(evaluation)],
        searches=[_sample(evaluation, titles, int(row)) for row in _searches(evaluation)],
        figures=_every_figure(evaluation),
    )


def _plots(config: Config, evaluation: Evaluation) -> dict[str, str]:
    return {
        "systems": plots.system_bars(evaluation),
        "slices": plots.slice_bars(evaluation),
        "curves": plots.roc_and_precision(evaluation) if len(evaluation.cases) else "",
        "reliability": plots.reliability(evaluation) if len(evaluation.cases) else "",
        "popularity": plots.recall_by_popularity(evaluation),
        "learning": plots.learning_curves(config.checkpoints_dir / "history" / "training.json"),
    }


def _lead(evaluation: Evaluation) -> str:
    requests, start = evaluation.figures["requests"], lineage_line(evaluation.figures.get("training", {}))
    rule = evaluation.data.meta.split_kind.replace("_", " ")
    sampled = " (a sample)" if requests["sampled"] else ""
    note = "; products of the history are left out" if requests["filter_seen"] else ""
    return (
        f"Bundle {requests['bundle']} on {requests['num_cases']:,} test requests{sampled} of"
        f" {requests['num_users']:,} users, {requests['with_query']:,} of them searches; split: {rule}{note}."
        f" {evaluation.data.meta.num_items:,} products, {'with' if requests['ranker'] else 'without'} ranker."
        + (f" {start[0].upper()}{start[1:]}." if start else "")
    )


def lineage_line(lineage: Mapping[str, Any]) -> str:
    """`warm training: continues v3; ...` of a bundle's history model; empty where it is not known.

    Args:
        lineage: of the bundle's manifest.
    """
    if not lineage or not lineage.get("reason"):
        return ""
    rounds, reached, reference = lineage["rounds"], lineage["reached"], lineage["reference"]
    series = f"; number {rounds} in a row since the last full training" if rounds else ""
    compared = (
        f"; validation figure {reached:.4f}, {reference:.4f} in full"
        if rounds and None not in (reached, reference)
        else ""
    )
    return f"{lineage['start']} training: {lineage['reason']}{series}{compared}; {lineage['seconds']:,.0f} s"


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    figures, metric = evaluation.figures, evaluation.metric
    interval = figures["intervals"].get("test", {}).get(metric)
    best = best_of(figures["baselines"], metric)
    tiles = [
        (metric, f"{figures['test'][metric]:.4f}", _range(interval)),
        (f"best baseline: {label(best)}", f"{figures['baselines'][best][metric]:.4f}", metric),
        ("coverage@10", _percent(figures["test"].get("coverage@10")), "of the catalogue shown"),
        ("AUC per user", f"{figures['test']['auc_per_user']:.4f}", "whole catalogue"),
    ]
    oracle = figures.get("oracle", {}).get("all")
    if oracle:
        tiles.insert(1, ("of the oracle bound", f"{oracle['share']:.0%}", f"true preferences: {oracle['ndcg@10']:.4f}"))
    judged = figures.get("judged")
    if judged:
        interval = _range(judged["intervals"].get("test", {}).get("ndcg@10"))
        against = f"bm25 {judged['baselines']['bm25']['ndcg@10']:.4f}"
        note = " | ".join(filter(None, (interval, against)))
        tiles.insert(0, ("judged pairs: ndcg@10", f"{judged['test']['ndcg@10']:.4f}", note))
    return tiles


def _judged(evaluation: Evaluation) -> Table | None:
    figures = evaluation.figures.get("judged")
    if not figures:
        return None
    pairs = f"{figures['num_pairs']:,} pairs of {figures['num_queries']:,} queries"
    return Table([pairs, *HEAD], [[label(name), *cells] for name, cells in lines(figures).items()])


def _warnings(evaluation: Evaluation) -> list[str]:
    """Warnings of the preparation, slices behind a baseline, alarms of exposure limits."""
    figures = evaluation.figures
    behind = (one["warning"] for one in figures["behind_baselines"])
    return [*figures.get("data_warnings", ()), *behind, *figures["exposure"].get("alarms", ())]


def _range(interval: Mapping[str, float] | None) -> str:
    return f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _systems(evaluation: Evaluation) -> Table:
    columns = tuple(dict.fromkeys([evaluation.metric, *(c for c in _COLUMNS if c in evaluation.per_case["test"])]))
    means = {name: metrics.means(figures) for name, figures in evaluation.per_case.items()}
    names = sorted(means, key=lambda name: (name != "test", -means[name][evaluation.metric]))
    compared = evaluation.figures["comparisons"]
    rows = []
    for name in names:
        p_value = f"{compared[name]['p_value']:.3f}" if name in compared else ""
        rows.append([label(name), *(f"{means[name][column]:.4f}" for column in columns), p_value])
    return Table(["", *columns, "p"], rows)


def _slices(evaluation: Evaluation) -> Table:
    rows = []
    for name, part in evaluation.figures["slices"].items():
        best = best_of(part["baselines"], evaluation.metric)
        figures = [
            part["test"][evaluation.metric],
            part["retrieval"][evaluation.metric],
            part["baselines"][best][evaluation.metric],
        ]
        rows.append([label(name), f"{part['num_cases']:,}", *(f"{value:.4f}" for value in figures), label(best)])
    return Table([evaluation.metric, "requests", "txrec", "retrieval only", "best baseline", ""], rows)


def _users(evaluation: Evaluation) -> NDArray[np.int64]:
    length = evaluation.cases.end - evaluation.cases.start
    return _drawn(np.flatnonzero((evaluation.cases.query_idx == PAD) & (length > 0)), NUM_SAMPLES)


def _searches(evaluation: Evaluation) -> NDArray[np.int64]:
    searched = evaluation.cases.query_idx != PAD
    known = np.append(0, np.asarray(evaluation.data.queries.column("train_count")))[evaluation.cases.query_idx] > 0
    return np.concatenate([_drawn(np.flatnonzero(searched & part), NUM_SAMPLES // 2) for part in (known, ~known)])


def _drawn(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows)[:count]


def _sample(evaluation: Evaluation, titles: Sequence[str], case: int) -> Sample:
    cases, texts = evaluation.cases, query_texts(evaluation.data)
    relevant, user = cases.truth.of(case), cases.user[case]
    top = [int(item) for item in evaluation.lists.ranked[case, :SHOWN] if item != PAD]
    rank = {int(item): place for place, item in enumerate(evaluation.lists.ranked[case], start=1) if item != PAD}
    return Sample(
        user=f"user {evaluation.data.sequences.user_id[user]}" if user >= 0 else "anybody",
        query=texts[cases.query_idx[case]],
        before=_last_events(evaluation, case, texts, titles),
        recommended=[(titles[item], item in relevant) for item in top],
        followed=[(titles[item], int(item) in top, rank.get(int(item))) for item in relevant],
    )


def _last_events(
    evaluation: Evaluation, case: int, texts: Sequence[str], titles: Sequence[str]
) -> list[tuple[str, str]]:
    history = evaluation.cases.history(case)
    latest = range(len(history.item_idx) - 1, max(len(history.item_idx) - LAST_EVENTS, 0) - 1, -1)
    lines = []
    for place in latest:
        item, query = int(history.item_idx[place]), int(history.query_idx[place])
        lines.append((EventKind(int(history.event[place])).label, titles[item] if item else f"“{texts[query]}”"))
    return lines


def _titles(evaluation: Evaluation) -> list[str]:
    """(N + 1,) title, or the item_id where there is none, by item_idx."""
    item_ids, titles = (evaluation.data.items.column(name).to_pylist() for name in ("item_id", "title"))
    return ["", *(title or item_id for item_id, title in zip(item_ids, titles, strict=True))]


def _every_figure(evaluation: Evaluation) -> Table:
    own, retrieval = evaluation.figures["test"], evaluation.figures["retrieval"]
    intervals: Mapping[str, Any] = evaluation.figures["intervals"].get("test", {})
    rows = []
    for name, value in own.items():
        other = f"{retrieval[name]:.4f}" if name in retrieval else ""
        rows.append([name, f"{value:.4f}", _range(intervals.get(name)), other])
    return Table(["figure", "txrec", "95 % interval", "retrieval only"], rows)
