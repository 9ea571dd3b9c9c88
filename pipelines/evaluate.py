"""`txrec evaluate`: the candidate on all test requests, next to the baselines and the bundle in production.

Leaves metrics.json, cases.parquet (a row per request) and report.html.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pipelines.distributed.answering import OnRayData
from pipelines.runs.bundles import bundle_folder
from txrec.config import Config
from txrec.data.preparation import data_report
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError, StageError
from txrec.evals import bootstrap, metrics, report
from txrec.evals.answering import Lists, query_texts
from txrec.evals.evaluation import Evaluation, best_of, check_metric, deciding, evaluate, units
from txrec.evals.exposure_figures import price_line
from txrec.evals.judged import HEAD, judged, lines
from txrec.evals.oracle_bound import oracle_bound
from txrec.evals.plots import label
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.evals.query_robustness import robustness
from txrec.evals.slice_warnings import SliceWarning
from txrec.evals.slices import Slice, slices
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.registry.registry import Registry
from txrec.schema import Split
from txrec.storage import make_folder, write_text

COLUMNS = ("ndcg@10", "recall@10", "hit_rate@1", "mrr", "map")
_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "dim"}


@dataclass(frozen=True)
class EvaluateSummary:
    """Result of an evaluation, as in metrics.json."""

    metric: str
    figures: Mapping[str, Any]
    report: Path
    note: str = ""
    """Reasons of figures that could not be measured."""

    def headline(self) -> str:
        """One line: the deciding figure with its interval, and the best baseline's."""
        own = self.figures["test"][self.metric]
        baselines = self.figures["baselines"]
        name = best_of(baselines, self.metric)
        interval = self.figures["intervals"].get("test", {}).get(self.metric)
        sure = f" ({interval['low']:.4f} to {interval['high']:.4f})" if interval else ""
        line = f"{self.metric} {own:.4f}{sure}, best baseline {name} {baselines[name][self.metric]:.4f}"
        oracle = self.figures.get("oracle", {}).get("all")
        judged = self.figures.get("judged")
        if judged:
            line = (
                f"judged pairs {_beside(judged, 'ndcg@10')}, ROC-AUC {_beside(judged, 'auc')}; whole catalogue {line}"
            )
        return f"{line}, {oracle['share']:.0%} of what can be known" if oracle else line

    def render(self) -> RenderableType:
        """The recommender next to the baselines, and the slices."""
        extra = [*self._judged(), *self._robust()]
        notes = [*self._warnings(), *self._exposure(), *([f"[yellow]{escape(self.note)}"] if self.note else [])]
        lineage = report.lineage_line(self.figures.get("training", {}))
        notes += [escape(lineage)] if lineage else []
        return Group(self._systems(), "", self._slices(), "", *extra, *notes, f"report: {self.report}")

    def _warnings(self) -> list[str]:
        """Warnings of the preparation, and of every slice behind a baseline; those that may be chance are dim."""
        behind = [SliceWarning.of(one) for one in self.figures.get("behind_baselines", ())]
        lines = [f"[yellow]warning: {escape(one)}" for one in self.figures.get("data_warnings", ())]
        lines += [f"[{'yellow' if one.certain else 'dim'}]warning: {escape(str(one))}" for one in behind]
        return [*lines, ""] if lines else []

    def _exposure(self) -> list[str]:
        """Alarms of exposure limits, and the price of keeping to them."""
        exposure = self.figures.get("exposure", {})
        lines = [f"[yellow]warning: {escape(one)}" for one in exposure.get("alarms", ())]
        return [*lines, *(escape(price_line(one)) for one in exposure.get("prices", ()))]

    def _systems(self) -> Table:
        columns = tuple(dict.fromkeys([self.metric, *(name for name in COLUMNS if name in self.figures["test"])]))
        requests = self.figures["requests"]
        table = Table(f"{requests['num_cases']:,} requests", *columns, **_PLAIN)
        rows = {"txrec": self.figures["test"], "  retrieval only": self.figures["retrieval"]}
        if "production" in self.figures:
            rows[f"in production ({self.figures['production']['bundle']})"] = self.figures["production"]
        baselines = self.figures["baselines"]
        for name in sorted(baselines, key=lambda name: -baselines[name][self.metric]):
            rows[name.replace("_", " ")] = baselines[name]
        for name, values in rows.items():
            table.add_row(name, *(f"{values[column]:.4f}" for column in columns))
        return table

    def _judged(self) -> list[RenderableType]:
        figures = self.figures.get("judged")
        if not figures:
            return []
        heading = f"{figures['num_pairs']:,} judged pairs of {figures['num_queries']:,} queries"
        table = Table(heading, *HEAD, **_PLAIN)
        for name, cells in lines(figures).items():
            table.add_row(label(name), *cells)
        return [table, "[dim]above, in the whole catalogue, a product that nobody judged counts as wrong", ""]

    def _robust(self) -> list[RenderableType]:
        figures = self.figures.get("robust")
        if not figures:
            return []
        table = Table("spelling, hits among ten", "txrec", "bm25", **_PLAIN)
        for kind, rate in figures["txrec"].items():
            table.add_row(kind, f"{rate:.2f}", f"{figures['bm25'][kind]:.2f}" if "bm25" in figures else "-")
        return [table, ""]

    def _slices(self) -> Table:
        table = Table("slice", "requests", self.metric, "best baseline", **_PLAIN)
        for name, part in self.figures["slices"].items():
            best = best_of(part["baselines"], self.metric)
            against = f"{part['baselines'][best][self.metric]:.4f} {best.replace('_', ' ')}"
            own = f"{part['test'][self.metric]:.4f}"
            table.add_row(name.replace("_", " "), f"{part['num_cases']:,}", own, against)
        return table


def _beside(judged: Mapping[str, Any], name: str) -> str:
    """A figure of judged pairs, and BM25's."""
    return f"{judged['test'][name]:.4f} (bm25 {judged['baselines']['bm25'][name]:.4f})"


def run(config: Config, progress: Progress = silent) -> EvaluateSummary:
    """Measures the candidate on all test requests and writes the report."""
    data = PreparedData.open(config.data_dir)
    recommender = _candidate(config)
    production, note = _production(config)
    with OnRayData(progress) as answering:
        evaluation = evaluate(config, data, recommender, Split.TEST, production, answering)
    if config.data.shop is not None and "ndcg@10" in evaluation.per_case["test"]:
        evaluation.figures["oracle"] = oracle_bound(
            config.data.shop, data, evaluation.cases, evaluation.per_case["test"]["ndcg@10"], progress
        )
    evaluation.figures.update(_special(config, data, recommender, production, progress))
    evaluation.figures["data_warnings"] = list(data_report.recorded_warnings(config.reports_dir))
    evaluation.figures["training"] = dict(recommender.bundle.manifest.lineage)
    make_folder(config.reports_dir)
    _write_cases(config.reports_dir / "cases.parquet", evaluation)
    page = config.reports_dir / "report.html"
    progress("report", 0, None)
    page.write_text(report.page(config, evaluation), encoding="utf-8")
    write_text(config.reports_dir / "metrics.json", json.dumps(evaluation.figures, indent=2))  # last: it marks the end
    return EvaluateSummary(evaluation.metric, evaluation.figures, page, note)


def _special(
    config: Config, data: PreparedData, recommender: Recommender, production: Recommender | None, progress: Progress
) -> dict[str, Any]:
    """Figures that only some data sets allow: graded pairs, and queries whose meaning is known."""
    figures: dict[str, Any] = {}
    if config.data.shop is not None:
        figures["robust"] = robustness(config.data.shop, recommender, progress)
    if config.data.judgments:
        recommenders = {"test": recommender} | ({} if production is None else {"production": production})
        figures["judged"] = judged(recommenders, data, Split.TEST, config.evaluate, config.seed, progress)
    return figures


def _production(config: Config) -> tuple[Recommender | None, str]:
    """The bundle in production, or None and, where there is one that cannot be opened, why."""
    registry = Registry(config.registry_dir)
    if registry.production is None:
        return None, ""
    try:
        return Recommender.open(registry.folder(registry.production)), ""
    except BundleError as error:
        return None, f"not compared with production: {error}"


@dataclass(frozen=True)
class SliceComparison:
    """The deciding figure of two bundles in one slice."""

    name: str
    num_cases: int
    first: float
    second: float
    p_value: float
    """Two-sided, of the paired difference."""


@dataclass(frozen=True)
class CompareSummary:
    """Two bundles on the same requests."""

    metric: str
    first: str
    second: str
    figures: tuple[Mapping[str, float], Mapping[str, float]]
    paired: bootstrap.Paired
    num_cases: int
    slices: tuple[SliceComparison, ...]

    def headline(self) -> str:
        """One line: the difference, its interval and how likely it is luck."""
        change = self.paired.difference
        return (
            f"{self.metric} of {self.first} minus {self.second}: {change.mean:+.4f}"
            f" ({change.low:+.4f} to {change.high:+.4f}), p = {self.paired.p_value:.3f}"
        )

    def render(self) -> RenderableType:
        """Every figure of both, and the deciding one in every slice."""
        table = Table(f"{self.num_cases:,} requests", **_PLAIN)
        for heading in (self.first, self.second, "difference"):
            table.add_column(heading, justify="right")
        for name, value in self.figures[0].items():
            other = self.figures[1][name]
            table.add_row(name, f"{value:.4f}", f"{other:.4f}", f"{value - other:+.4f}")
        if not self.slices:
            return Group(table, "", self.headline())
        parts = Table("slice", "requests", self.first, self.second, "difference", "p", **_PLAIN)
        for part in self.slices:
            low = f"{part.first - part.second:+.4f}"
            cells = (f"{part.num_cases:,}", f"{part.first:.4f}", f"{part.second:.4f}", low, f"{part.p_value:.3f}")
            parts.add_row(part.name.replace("_", " "), *cells)
        return Group(table, "", f"{self.metric} by slice", parts, "", self.headline())


def compare(config: Config, first: str, second: str, progress: Progress = silent) -> CompareSummary:
    """Lays two bundles side by side on the same test requests, or judged pairs where there is no log.

    Args:
        config: names the data set, the metric and the cut-offs.
        first: a bundle's folder, or the name of a registered version, or `candidate`, or `production`.
        second: likewise.
        progress: called now and then.
    """
    data = PreparedData.open(config.data_dir)
    bundles = [Recommender.open(bundle_folder(config, name)) for name in (first, second)]
    if data.judged_only:
        first_figure, second_figure = (deciding(config, data, bundle, progress) for bundle in bundles)
        means = ({first_figure.metric: first_figure.mean}, {second_figure.metric: second_figure.mean})
        return CompareSummary(
            first_figure.metric,
            first,
            second,
            means,
            first_figure.over(second_figure, config),
            len(first_figure.values),
            (),
        )
    requests = eval_requests(data, Split.TEST, config.evaluate)
    with OnRayData(progress) as answering:
        named = dict(zip(("first", "second"), bundles, strict=True))
        lists = list(answering.answers(named, data, requests, max(config.evaluate.ks)).lists.values())
    own, other = (metrics.per_case(one.ranked, requests.truth, config.evaluate.ks) for one in lists)
    metric = config.publish.metric
    check_metric(metric, own)
    resamples = max(config.evaluate.bootstrap, 1)
    tested = bootstrap.paired(own[metric], other[metric], units(requests), resamples, config.seed)
    parts = tuple(_in_slice(part, lists[0], lists[1], requests, config) for part in slices(data, requests))
    return CompareSummary(
        metric, first, second, (metrics.means(own), metrics.means(other)), tested, len(requests), parts
    )


def _in_slice(part: Slice, first: Lists, second: Lists, requests: EvalRequests, config: Config) -> SliceComparison:
    metric, ks = config.publish.metric, config.evaluate.ks
    own, other = (metrics.per_case(lists.ranked[part.rows], part.truth, ks)[metric] for lists in (first, second))
    unit = units(requests)[part.rows]
    tested = bootstrap.paired(own, other, unit, max(config.evaluate.bootstrap, 1), config.seed)
    return SliceComparison(part.name, len(part.rows), float(own.mean()), float(other.mean()), tested.p_value)


def _candidate(config: Config) -> Recommender:
    if not (config.candidate_dir / "manifest.json").is_file():
        raise StageError(f"{config.candidate_dir}: no bundle here; run `txrec train CONFIG` first")
    return Recommender.open(config.candidate_dir)


def _write_cases(file: Path, evaluation: Evaluation) -> None:
    """Writes one row per test request: user, time, query, and the recommender's figures."""
    requests, users, texts = evaluation.cases, evaluation.data.sequences.user_id, query_texts(evaluation.data)
    columns: dict[str, Any] = {
        "user_id": pa.array([str(users[user]) if user >= 0 else None for user in requests.user], pa.string()),
        "query": pa.array([texts[query] or None for query in requests.query_idx], pa.string()),
        "ts": pa.array(requests.now_us, pa.int64()),
        "num_right": requests.truth.counts,
        **evaluation.per_case["test"],
    }
    pq.write_table(pa.table(columns), file)
