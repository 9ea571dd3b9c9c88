"""`txrec models`: list the published versions, put one into production, go back to an earlier one."""

from rich.markup import escape
from rich.table import Table

from txrec.config import Config
from txrec.registry.registry import Registry

SHOWN_METRICS = ("recall@10", "mrr")
"""Beside the deciding one in the list of versions."""


def models(config: Config) -> Table:
    """All versions with their figures and decisions, for a terminal."""
    versions = Registry(config.registry_dir).versions()
    deciding = (version.manifest.gate.get("metric", config.publish.metric) for version in versions)
    columns = tuple(dict.fromkeys([*deciding, *SHOWN_METRICS]))
    table = Table("version", "made", *columns, "decision", box=None, pad_edge=False, header_style="dim")
    for version in versions:
        name = f"[bold green]{version.name} production[/]" if version.in_production else version.name
        gate = version.manifest.gate
        known = version.manifest.metrics.get("test", {}) | {gate["metric"]: gate["value"]}
        figures = (f"{known[column]:.4f}" if column in known else "" for column in columns)
        table.add_row(name, version.manifest.created, *figures, escape(gate.get("decision", "")))
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
