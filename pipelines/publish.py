"""`txrec publish`: registers the candidate as a version, and promotes it to production if the gate allows it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from txrec import object_storage
from txrec.config import Config
from txrec.data.preparation import data_report
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError, StageError
from txrec.evals import judged
from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.evaluation import best_of, check_metric, deciding
from txrec.evals.slice_warnings import SliceWarning
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender, Request
from txrec.registry.gate import Decision, ServedGain
from txrec.registry.registry import Registry


@dataclass(frozen=True)
class PublishSummary:
    """The new version and the decision about it."""

    decision: Decision
    path: Path
    production: Path | None

    def headline(self) -> str:
        """One line: the decision with its inequality."""
        return str(self.decision)

    def render(self) -> RenderableType:
        """Table for a terminal."""
        made = self.decision
        table = Table("promotion gate", "", box=None, pad_edge=False, header_style="dim")
        table.add_row("decision", str(made))
        sure = f" ({made.interval.low:.4f} to {made.interval.high:.4f})" if made.interval else ""
        table.add_row(f"{made.metric} of {made.version}", f"{made.value:.4f}{sure}  ({made.num_cases:,} requests)")
        for name, value, over in (
            (f"{made.production} in production", made.production_value, made.over_production),
            (f"the best baseline, {made.baseline}", made.baseline_value, made.over_baseline),
        ):
            if value is not None:
                table.add_row(f"of {name}", f"{value:.4f}  (same requests{_lead(made.version, over)})")
        if made.production_value is not None:
            table.add_row("margin", f"{made.margin:.1%}")
        for warning in (*made.data_warnings, *made.behind_baselines):
            table.add_row("warning", str(warning))
        table.add_row("bundle", object_storage.place_of(self.path))
        table.add_row("production", object_storage.place_of(self.production) if self.production else "none")
        return table


def _lead(version: str, over: Paired | None) -> str:
    if over is None:
        return ""
    change = over.difference
    return f"; {version} {change.mean:+.4f}, {change.low:+.4f} to {change.high:+.4f}, p = {over.p_value:.3f}"


def run(
    config: Config,
    progress: Progress = silent,
    force: bool = False,
    hold: bool = False,
    served: ServedGain | None = None,
) -> PublishSummary:
    """Registers the candidate as the next version and promotes it if the gate, or force, says so.

    Args:
        config: of the run.
        progress: receives the current phase.
        force: promote whatever the gate says.
        hold: leave production as it is where there is one; a canary is to decide.
        served: estimated change of clicks per served slate, which favours neither version; None = it is not known.
    """
    registry = Registry(config.registry_dir)
    figures = _measured(config)
    candidate = Recommender.open(config.candidate_dir)
    unanswered = _unanswered(candidate, config.publish.smoke_queries)
    data = PreparedData.open(config.data_dir)
    with registry.locked() as version:
        evaluated = _evaluated(config, data, figures)
        margin = config.publish.margin
        decision = Decision(
            version=version,
            margin=margin,
            unanswered=unanswered,
            served=served,
            served_margin=config.publish.served_margin,
            force=force,
            data_warnings=data_report.recorded_warnings(config.reports_dir),
            **evaluated,
        )
        decision = _against_production(config, data, registry, candidate, decision, progress)
        kept: dict[str, Any] = {
            name: figures[name] for name in ("test", "retrieval", "judged", "requests", "oracle") if name in figures
        }
        decision = replace(decision, hold=hold and decision.production is not None)
        path = registry.add(config.candidate_dir, kept, decision)
    production = registry.production
    return PublishSummary(decision, path, registry.folder(production) if production else None)


def _measured(config: Config) -> dict[str, Any]:
    """metrics.json of the present candidate."""
    file = config.reports_dir / "metrics.json"
    if not file.is_file():
        raise StageError(f"{object_storage.place_of(file)}: not there; run `txrec evaluate CONFIG` first")
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    manifest = config.candidate_dir / "manifest.json"
    if not manifest.is_file():
        raise StageError(f"{config.candidate_dir}: no bundle here; run `txrec train CONFIG` first")
    version = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    if figures["requests"]["bundle"] != version:
        raise StageError(
            f"{file}: measures bundle {figures['requests']['bundle']}, the candidate is {version};"
            " run `txrec evaluate CONFIG` again"
        )
    return figures


def _unanswered(recommender: Recommender, queries: tuple[str, ...]) -> tuple[str, ...]:
    slates = recommender.recommend([Request(query=query, top_k=1) for query in queries])
    return tuple(query for query, slate in zip(queries, slates, strict=True) if not slate.items)


def _against_production(
    config: Config,
    data: PreparedData,
    registry: Registry,
    candidate: Recommender,
    decision: Decision,
    progress: Progress,
) -> Decision:
    """The decision with the comparison of the candidate and the bundle in production, where there is one."""
    production = registry.production
    if production is None:
        return decision
    try:
        serving = Recommender.open(registry.folder(production))
    except BundleError as error:
        return replace(decision, production=production, production_problem=str(error))
    candidate_figure, production_figure = (deciding(config, data, bundle, progress) for bundle in (candidate, serving))
    return replace(
        decision,
        value=candidate_figure.mean,
        num_cases=len(candidate_figure.values),
        production=production,
        production_value=production_figure.mean,
        over_production=candidate_figure.over(production_figure, config),
    )


def _evaluated(config: Config, data: PreparedData, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation of the figure that `deciding` measures, as fields of a `Decision`."""
    values, metric, count = figures, config.publish.metric, figures["requests"]["num_cases"]
    if data.judged_only:
        values, metric = figures["judged"], f"ndcg@{judged.K}"
        if not values:
            raise StageError(f"{data.path}: no judged pair lies in the test part; nothing to decide by")
        count = values["num_queries"]
    else:
        check_metric(metric, figures["retrieval"])  # those with a figure per request, which a paired test needs
    best = best_of(values["baselines"], metric)
    interval, over = values["intervals"].get("test", {}).get(metric), values["comparisons"].get(best)
    return {
        "metric": judged.METRIC if data.judged_only else metric,
        "value": values["test"][metric],
        "num_cases": count,
        "interval": Interval(**interval) if interval else None,
        "baseline": best,
        "baseline_value": values["baselines"][best][metric],
        "behind_baselines": tuple(SliceWarning.of(one) for one in figures.get("behind_baselines", ())),
        "over_baseline": Paired.of(over) if over and over["metric"] == metric else None,
    }
