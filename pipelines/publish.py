"""`txrec publish`: the candidate becomes a version, and production if the gate lets it; and `txrec models`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError, StageError
from txrec.evals import bootstrap, metrics
from txrec.evals.evaluation import ask, check_metric, units
from txrec.evals.metrics import Floats
from txrec.evals.protocol import Cases, cases
from txrec.progress import Progress, silent
from txrec.recommend import Recommender, Request
from txrec.registry import Decision, Registry
from txrec.schema import Split

SHOWN_METRICS = ("recall@10", "mrr")
"""Beside the deciding one in the list of versions."""


@dataclass(frozen=True)
class PublishSummary:
    """The version that was made and what was decided about it."""

    decision: Decision
    path: Path
    production: Path | None

    def headline(self) -> str:
        """One line: the decision with its inequality."""
        return str(self.decision)

    def render(self) -> RenderableType:
        """The whole of it, for a terminal."""
        made = self.decision
        table = Table("promotion gate", "", box=None, pad_edge=False, header_style="dim")
        table.add_row("decision", str(made))
        if made.production_value is not None:
            table.add_row(f"{made.metric} of {made.version}", f"{made.value:.4f}  ({made.num_cases:,} requests)")
            table.add_row(f"{made.metric} of {made.production}", f"{made.production_value:.4f}  (same requests)")
            table.add_row("margin", f"{made.margin:.1%}")
        if made.p_value is not None:
            table.add_row("chance of such a difference by luck", f"{made.p_value:.3f}")
        table.add_row("bundle", str(self.path))
        table.add_row("production", str(self.production) if self.production else "none")
        return table


def run(config: Config, progress: Progress = silent, force: bool = False) -> PublishSummary:
    """Registers the candidate as the next version and promotes it if the gate, or force, says so."""
    registry = Registry(config.registry_dir)
    figures = _measured(config)
    candidate = Recommender.open(config.candidate_dir)
    unanswered = _unanswered(candidate, config.publish.smoke_queries)
    with registry.locked() as version:
        decision = _decide(config, registry, candidate, version, figures, unanswered, force, progress)
        kept: dict[str, Any] = {
            name: figures[name] for name in ("test", "retrieval", "asked", "oracle") if name in figures
        }
        path = registry.add(config.candidate_dir, kept, decision)
    production = registry.production
    return PublishSummary(decision, path, registry.folder(production) if production else None)


def _measured(config: Config) -> dict[str, Any]:
    """metrics.json, if it is about the candidate that is there now."""
    file = config.reports_dir / "metrics.json"
    if not file.is_file():
        raise StageError(f"{file}: not there; run `txrec evaluate CONFIG` first")
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    manifest = config.candidate_dir / "manifest.json"
    if not manifest.is_file():
        raise StageError(f"{config.candidate_dir}: no bundle here; run `txrec train CONFIG` first")
    version = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    if figures["asked"]["bundle"] != version:
        raise StageError(
            f"{file}: measures bundle {figures['asked']['bundle']}, the candidate is {version};"
            " run `txrec evaluate CONFIG` again"
        )
    return figures


def _unanswered(recommender: Recommender, queries: tuple[str, ...]) -> tuple[str, ...]:
    slates = recommender.recommend([Request(query=query, top_k=1) for query in queries])
    return tuple(query for query, slate in zip(queries, slates, strict=True) if not slate.items)


def _decide(
    config: Config,
    registry: Registry,
    candidate: Recommender,
    version: str,
    figures: dict[str, Any],
    unanswered: tuple[str, ...],
    force: bool,
    progress: Progress,
) -> Decision:
    metric, margin = config.publish.metric, config.publish.margin
    check_metric(metric, figures["retrieval"])  # those with a figure a request, which a paired test needs
    production, problem = registry.production, ""
    try:
        serving = None if production is None else Recommender.open(registry.folder(production))
    except BundleError as error:
        serving, problem = None, str(error)
    if serving is None:
        value, count = figures["test"][metric], figures["asked"]["num_cases"]
        return Decision(
            version,
            metric,
            value,
            margin,
            count,
            production=production,
            production_problem=problem,
            unanswered=unanswered,
            force=force,
        )
    data = PreparedData.open(config.data_dir)
    asked = cases(data, Split.TEST, config.evaluate)
    ours = _figures(config, candidate, data, asked, progress)
    theirs = _figures(config, serving, data, asked, progress)
    tested = bootstrap.paired(ours, theirs, units(asked), max(config.evaluate.bootstrap, 1), config.seed)
    return Decision(
        version=version,
        metric=metric,
        value=float(ours.mean()),
        margin=margin,
        num_cases=len(asked),
        production=production,
        production_value=float(theirs.mean()),
        p_value=tested.p_value,
        unanswered=unanswered,
        force=force,
    )


def _figures(config: Config, recommender: Recommender, data: PreparedData, asked: Cases, progress: Progress) -> Floats:
    """(C,) the deciding metric of every case."""
    ks = config.evaluate.ks
    lists = ask(recommender, data, asked, max(ks), progress)
    return metrics.per_case(lists.ranked, asked.truth, ks)[config.publish.metric]


def models(config: Config) -> Table:
    """All versions with their figures and decisions, for a terminal."""
    columns = tuple(dict.fromkeys([config.publish.metric, *SHOWN_METRICS]))
    table = Table("version", "made", *columns, "decision", box=None, pad_edge=False, header_style="dim")
    for version in Registry(config.registry_dir).versions():
        name = f"[bold green]{version.name} production[/]" if version.in_production else version.name
        test = version.manifest.metrics.get("test", {})
        figures = (f"{test[column]:.4f}" if column in test else "" for column in columns)
        table.add_row(name, version.manifest.created, *figures, escape(version.manifest.gate.get("decision", "")))
    return table


def activate(config: Config, version: str) -> str:
    """Puts a version into production; returns a sentence for the terminal."""
    registry = Registry(config.registry_dir)
    before = registry.production
    registry.activate(version)
    return f"production: {before or 'none'} -> {version}"


def rollback(config: Config, version: str = "") -> str:
    """Goes back to a version, or to the one before the present one; returns a sentence for the terminal."""
    registry = Registry(config.registry_dir)
    before = registry.production
    return f"production: {before or 'none'} -> {registry.rollback(version)}"
