"""The monitor report: live figures by slice and decisions of experiments, as JSON, terminal table and HTML page."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from txrec.loop.attribution.slate_figures import FIGURES, PLACE_FIGURES, PLACE_SLICES, SLICES, Rate
from txrec.loop.drift.drift import Finding
from txrec.loop.drift.live_drift import TrafficDrift
from txrec.loop.experiments.experiments import ExperimentDecision
from txrec.loop.exploration.exploration_cost import ExplorationCost
from txrec.loop.exposure import exposure_table
from txrec.report.page import markup, render
from txrec.storage import write_text

Figures = dict[str, dict[str, dict[str, Rate]]]
SHOWN_PARTS = 40
"""Parts of a slice in the HTML page, largest first; JSON holds all."""
_HEAD = ("click_rate", "conversion", "revenue_per_slate", "ndcg", "no_result_rate", "fallback_rate")


@dataclass(frozen=True)
class Monitor:
    """Figures of served traffic.

    Attributes:
        name: of the run.
        figures: slice -> part -> figure -> `Rate`.
        decisions: of experiments and of the canary.
        since_us: time of the first slate, microseconds since 1970 UTC; 0 without slates.
        until_us: time of the last one.
        folder: of the reports.
        exposure: shares of product groups, as `exposure.report_rows` gives them.
        exposure_alarms: a line for each share outside its limits.
        exploration: its costs and gains; None = no slate could be drawn.
        exploration_placements: the same by placement.
        exposure_placements: `exposure` by placement.
        drift: the last day compared with the training log of production.
    """

    name: str
    figures: Figures
    decisions: tuple[ExperimentDecision, ...]
    since_us: int
    until_us: int
    folder: Path
    exposure: tuple[Mapping[str, Any], ...] = ()
    exposure_alarms: tuple[str, ...] = ()
    exploration: ExplorationCost | None = None
    exploration_placements: Mapping[str, ExplorationCost] = field(default_factory=dict)
    exposure_placements: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    drift: TrafficDrift = field(default_factory=lambda: TrafficDrift("not judged", "it was not compared"))

    @property
    def drift_alarms(self) -> tuple[str, ...]:
        """The alarm of live drift; nothing where traffic is as usual or is not judged."""
        return (str(self.drift),) if self.drift.outcome in ("drift", "fault") else ()

    def headline(self) -> str:
        """One line: slates, users, click rate."""
        whole = self.figures.get("all", {}).get("all", {}).get("click_rate")
        if whole is None:
            return "no slates were served"
        rate = f"{whole.value:.3f} ({whole.low:.3f} to {whole.high:.3f})"
        return f"{whole.count:,.0f} slates of {whole.users:,} users, click rate {rate}; {self.folder / 'monitor.html'}"

    def render(self) -> RenderableType:
        """Figures by variant and decisions for a terminal."""
        table = Table("", *(name.replace("_", " ") for name in _HEAD), box=None)
        for slice_ in ("all", "variant", "placement", "kind", "model_version"):
            for part, figures in self.figures.get(slice_, {}).items():
                table.add_row(
                    f"{slice_}: {part}" if slice_ != "all" else "all", *(_cell(figures, one) for one in _HEAD)
                )
        alarms = [f"[yellow]warning: {escape(alarm)}" for alarm in (*self.exposure_alarms, *self.drift_alarms)]
        cost = [escape(line) for line in self.exploration_lines()]
        cost += [str(self.drift)] if not self.drift_alarms else []
        return Group(table, *(str(decision) for decision in self.decisions), *cost, *alarms)

    def exploration_lines(self) -> list[str]:
        """Costs and gains of exploration, in all and by placement."""
        whole = [str(self.exploration)] if self.exploration else []
        return [*whole, *(f"{name}: {one}" for name, one in self.exploration_placements.items())]

    def to_dict(self) -> dict[str, Any]:
        """JSON object for monitor.json."""
        return {
            "since": _instant(self.since_us),
            "until": _instant(self.until_us),
            "figures": {
                slice_: {part: {name: rate.to_dict() for name, rate in row.items()} for part, row in parts.items()}
                for slice_, parts in self.figures.items()
            },
            "decisions": [decision.to_dict() for decision in self.decisions],
            "exposure": {
                "shares": list(self.exposure),
                "alarms": list(self.exposure_alarms),
                "placements": {name: list(rows) for name, rows in self.exposure_placements.items()},
            },
            "exploration": self.exploration.to_dict() if self.exploration else None,
            "exploration_placements": {name: one.to_dict() for name, one in self.exploration_placements.items()},
            "drift": self.drift.to_dict(),
        }

    def write(self) -> None:
        """Writes `monitor.json` and `monitor.html` below `folder`."""
        text = json.dumps(self.to_dict(), indent=1)
        for name, content in (("monitor.json", text), ("monitor.html", self.html())):
            write_text(self.folder / name, content)

    def html(self) -> str:
        """The page."""
        whole = self.figures.get("all", {}).get("all", {})
        tiles = [(name.replace("_", " "), _cell(whole, name), _interval(whole.get(name))) for name in _HEAD]
        sections = [
            (slice_, list(figures), _rows(self.figures[slice_], list(figures)))
            for slices, figures in ((SLICES, FIGURES), (PLACE_SLICES, PLACE_FIGURES))
            for slice_ in slices
            if slice_ in self.figures and slice_ != "hour"
        ]
        return render(
            "monitor.html.j2",
            report=self,
            tiles=tiles,
            exposures=[
                ("Exposure", exposure_table(self.exposure)),
                *((f"Exposure: {name}", exposure_table(rows)) for name, rows in self.exposure_placements.items()),
            ],
            plots=[(caption, _by_hour(self.figures.get("hour", {}), name)) for caption, name in _PLOTS],
            sections=sections,
            drift_rows=[_drift_row(one) for one in self.drift.readings],
        )


_PLOTS = (
    ("click rate per hour", "click_rate"),
    ("revenue per slate and hour", "revenue_per_slate"),
    ("searches without result per hour", "no_result_rate"),
    ("fallbacks per hour", "fallback_rate"),
)


def _drift_row(one: Finding) -> list[str]:
    mark = "unusual" if one.unusual else ""
    return [one.figure, f"{one.value:.4g}", f"{one.usual:.4g}", f"{one.deviation:.1f}", f"{one.threshold:.1f}", mark]


def _instant(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()


def _cell(figures: dict[str, Rate], name: str) -> str:
    rate = figures.get(name)
    return "" if rate is None or not math.isfinite(rate.value) else f"{rate.value:.4g}"


def _interval(rate: Rate | None) -> str:
    return "" if rate is None else f"{rate.low:.4g} to {rate.high:.4g}"


def _rows(parts: dict[str, dict[str, Rate]], names: list[str]) -> list[list[str]]:
    """Parts, largest first, with their figures."""
    size = {part: max((rate.count for rate in row.values()), default=0.0) for part, row in parts.items()}
    largest = sorted(parts, key=lambda part: -size[part])[:SHOWN_PARTS]
    return [[part, f"{size[part]:,.0f}", *(_cell(parts[part], name) for name in names)] for part in largest]


def _by_hour(hours: dict[str, dict[str, Rate]], name: str) -> Any:
    """A figure by hour with its interval, as SVG; empty where there is nothing to draw."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    rates = {np.datetime64(hour): row[name] for hour, row in sorted(hours.items()) if name in row}
    if len(rates) < 2:
        return ""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "txrec", "font.size": 10}):
        figure = Figure(figsize=(6.2, 2.8), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        times = np.array(list(rates))
        low, high = ([getattr(rate, end) for rate in rates.values()] for end in ("low", "high"))
        finite = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(times, np.where(finite, low, np.nan), np.where(finite, high, np.nan), alpha=0.2, lw=0)
        axes.plot(times, [rate.value for rate in rates.values()])
        axes.tick_params(axis="x", rotation=30)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return markup(text[text.index("<svg") :])
