"""The data report of a preparation: tables on the terminal, figures as JSON, one HTML page without network access."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from txrec.data.preparation import row_order
from txrec.data.preparation.event_statistics import EventStatistics
from txrec.data.preparation.fitting import DatasetSizes
from txrec.data.prepared import Meta
from txrec.report.page import markup, render
from txrec.schema import DAY_US, EventKind

LEAST_TEST_USERS = 100
"""Fewer users in the test part, or events in the validation part, are worth a warning."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLOURS = ("#2a6f97", "#e07a5f", "#81b29a", "#f2cc8f", "#6d597a", "#b56576", "#8d99ae")


@dataclass
class RowCounts:
    """Rows of one table: read, kept, rejected by reason."""

    read: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def drop(self, reasons: dict[str, int]) -> None:
        """Moves kept rows to the rejected."""
        self.rejected.update(reasons)
        self.kept -= sum(reasons.values())

    @property
    def num_rejected(self) -> int:
        """Rejected rows of every reason."""
        return sum(self.rejected.values())

    def as_json(self) -> dict[str, Any]:
        """Plain figures, most frequent reason first."""
        return {"read": self.read, "kept": self.kept, "rejected": dict(self.rejected.most_common())}


@dataclass(frozen=True)
class Timing:
    """Times of a preparation's steps."""

    steps: dict[str, float]
    """Seconds per step, in order."""
    operators: dict[str, str] = field(default_factory=dict)
    """Step = Ray Data's statistics of its operators, as text; empty in one process."""


def recorded_warnings(reports_dir: Path) -> tuple[str, ...]:
    """Warnings in the data report `data.json` of a folder of reports; none where there is no such file."""
    file = reports_dir / "data.json"
    return tuple(json.loads(file.read_text(encoding="utf-8")).get("warnings", ())) if file.is_file() else ()


@dataclass(frozen=True)
class Report:
    """The figures of a preparation."""

    name: str
    meta: Meta
    row_counts: dict[str, RowCounts]
    """Row counts by table: events, items, judgments, users."""
    statistics: EventStatistics
    sizes: DatasetSizes
    first_us: int
    """Time of the first event, microseconds since 1970; 0 without times."""
    empty_files: tuple[str, ...]
    path: str
    """Folder of the prepared tables."""
    timing: Timing | None = None
    """Times, which are no part of the figures that two runs on the same data share."""
    remarks: tuple[str, ...] = ()
    """Settings of sources that match nothing, and words that nothing knows."""

    @property
    def total(self) -> RowCounts:
        """All tables together."""
        whole = RowCounts()
        for counts in self.row_counts.values():
            whole.read += counts.read
            whole.kept += counts.kept
            whole.rejected.update(counts.rejected)
        return whole

    def headline(self) -> str:
        """One line: rows, users, items."""
        whole, meta = self.total, self.meta
        rejected = whole.num_rejected
        return (
            f"{whole.read:,} rows read, {whole.kept:,} kept, {rejected:,} rejected; "
            f"{meta.num_users:,} users, {meta.num_items:,} items, {meta.num_queries:,} queries"
        )

    def render(self) -> RenderableType:
        """The data report for a terminal."""
        parts: list[RenderableType] = [_rows_table(self), _data_table(self)]
        parts += [Text(f"warning: {warning}", style="yellow") for warning in self.warnings()]
        if self.empty_files:
            parts.append(Text(f"empty files passed over: {', '.join(self.empty_files)}", style="yellow"))
        return Group(*parts)

    def as_json(self) -> dict[str, Any]:
        """The data report as plain figures; `read` = `kept` + the sum of `rejected`."""
        timed = self.meta.has_time
        return {
            **self.total.as_json(),
            "tables": {name: counts.as_json() for name, counts in self.row_counts.items()},
            "users": self.meta.num_users,
            "profiles": self.sizes.num_profiles,
            "items": self.meta.num_items,
            "queries": self.meta.num_queries,
            "sessions": self.statistics.num_sessions,
            "first_event": _iso(self.first_us) if timed else None,
            "last_event": _iso(self.meta.end_ts) if timed else None,
            "events": {_kind(code): count for code, count in _most_common(self.statistics.by_event)},
            "split": {
                "kind": self.meta.split_kind,
                "events": self.statistics.by_split,
                "judgments": self.sizes.judgments,
            },
            "cold": {name: {"cold": cold, "test": test} for name, cold, test in self._cold()},
            "windows": self._windows(),
            "warnings": self.warnings(),
            "empty_files": list(self.empty_files),
            "fingerprint": self.meta.fingerprint,
        }

    def _windows(self) -> dict[str, float]:
        """Lengths of the test and the validation window, days; none for other splits."""
        meta = self.meta
        if not meta.test_start_ts:
            return {}
        return {
            "validation_days": round((meta.test_start_ts - meta.validation_start_ts) / DAY_US, 2),
            "test_days": round((meta.end_ts - meta.test_start_ts) / DAY_US, 2),
        }

    def warnings(self) -> list[str]:
        """Settings that match nothing, unknown words, and parts of the split too small to measure anything by."""
        unordered = row_order.warning(self.statistics.num_item_pairs, self.statistics.num_sorted_pairs)
        warnings = [*self.remarks, *filter(None, [unordered])]
        events, users = self.statistics.by_split, self.statistics.num_test_users
        if self.statistics.num_events and users < LEAST_TEST_USERS:
            warnings.append(
                f"the test part holds events of {users:,} users; figures over fewer than {LEAST_TEST_USERS} say "
                "little: use a longer log, or a longer prepare.split.test_days"
            )
        validation = events.get("validation", 0)
        if self.statistics.num_events and validation < LEAST_TEST_USERS:
            warnings.append(
                f"the validation part holds {validation:,} events; early stopping needs some hundreds: "
                "set a longer prepare.split.validation_days"
            )
        return warnings

    def timing_rows(self) -> list[tuple[str, str, str]]:
        """(step, seconds, share of all) of every step of the preparation."""
        steps = self.timing.steps if self.timing else {}
        whole = max(sum(steps.values()), 1e-9)
        return [(name, f"{seconds:.2f}", f"{seconds / whole:.0%}") for name, seconds in steps.items()]

    def _cold(self) -> list[tuple[str, int, int]]:
        """(what, of the test part unknown to training, in the test part)."""
        statistics, sizes = self.statistics, self.sizes
        return [
            ("users", statistics.num_cold_test_users, statistics.num_test_users),
            ("items", sizes.num_cold_test_items, sizes.num_test_items),
            ("queries", sizes.num_unseen_test_queries, sizes.num_test_queries),
        ]

    def figures(self) -> list[tuple[str, str]]:
        """(name, value) of everything worth a line, the same for terminal and page."""
        meta, statistics, titled = self.meta, self.statistics, self.sizes.num_titled_items
        lines = [
            ("users", f"{meta.num_users:,} with {statistics.num_sessions:,} sessions"),
            (
                "items",
                f"{meta.num_items:,}, {meta.num_trained_items:,} in training, {titled:,} with text",
            ),
            ("queries", f"{meta.num_queries:,}"),
            ("categories, brands", f"{meta.num_categories:,}, {meta.num_brands:,}"),
            ("time", f"{_iso(self.first_us)} to {_iso(meta.end_ts)}" if meta.has_time else "none in the log"),
            (
                "events",
                ", ".join(f"{_kind(code)} {count:,}" for code, count in _most_common(statistics.by_event)) or "none",
            ),
            (f"split {meta.split_kind}", ", ".join(f"{name} {count:,}" for name, count in statistics.by_split.items())),
        ]
        if windows := self._windows():
            lines.append(("windows", ", ".join(f"{n.removesuffix('_days')} {d:g} days" for n, d in windows.items())))
        if self.sizes.num_profiles:
            lines.append(("users with properties or segments", f"{self.sizes.num_profiles:,}"))
        if self.sizes.judgments:
            split = ", ".join(f"{name} {count:,}" for name, count in self.sizes.judgments.items())
            lines.append(("judgments by query", split))
        for name, cold, test in self._cold():
            if test:
                lines.append((f"{name} of test unknown to training", f"{cold:,} of {test:,} ({cold / test:.1%})"))
        lines.append(("prepared tables", self.path))
        return lines


def _rows_table(report: Report) -> Table:
    table = Table(title="Rows", title_justify="left", header_style="bold")
    for name in ("table", "read", "kept", "rejected"):
        table.add_column(name, justify="left" if name == "table" else "right")
    table.add_column("reasons")
    for name, counts in report.row_counts.items():
        reasons = "\n".join(f"{reason} {count:,}" for reason, count in counts.rejected.most_common())
        table.add_row(name, f"{counts.read:,}", f"{counts.kept:,}", f"{counts.num_rejected:,}", reasons or "none")
    return table


def _data_table(report: Report) -> Table:
    table = Table(title="Data", title_justify="left", show_header=False)
    for name, value in report.figures():
        table.add_row(name, value)
    return table


def _iso(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def _kind(code: str) -> str:
    return EventKind(int(code)).label


def _most_common(counts: dict[str, int]) -> list[tuple[str, int]]:
    return Counter(counts).most_common()


def write_html(report: Report, path: Path) -> None:
    """Writes the data report as one page with plots inside."""
    plots = [
        ("Events per day", _plot_days),
        ("Events per user", _plot_history),
        ("Item popularity in training", _plot_popularity),
        ("Words per query", _plot_queries),
        ("Rejected rows by reason", _plot_rejected),
        ("Events by part", _plot_split),
    ]
    drawn = [(title, markup(_svg(draw, report))) for title, draw in plots]
    path.write_text(render("data_report.html.j2", report=report, plots=drawn), encoding="utf-8")


def _svg(draw: Callable[[Any, Report], bool], report: Report) -> str:
    """One plot as SVG with real text; empty if there is nothing to draw."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "txrec", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(6.2, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        if not draw(axes, report):
            return ""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _plot_days(axes: Any, report: Report) -> bool:
    if not report.meta.has_time or not report.statistics.by_day:
        return False
    keys = [key.split() for key in report.statistics.by_day]
    days = np.array([int(day) for day, _ in keys])
    kinds = [int(kind) for _, kind in keys]
    span = np.arange(days.min(), days.max() + 1)
    order = [int(code) for code, _ in _most_common(report.statistics.by_event)]
    layers = np.zeros((len(order), len(span)))
    for day, kind, count in zip(days, kinds, report.statistics.by_day.values(), strict=True):
        layers[order.index(kind), day - span[0]] += count
    dates = [_EPOCH + timedelta(days=int(day)) for day in span]
    axes.stackplot(dates, layers, labels=[EventKind(kind).label for kind in order], colors=_COLOURS, step="mid")
    starts = (report.meta.validation_start_ts, "validation ", "right"), (report.meta.test_start_ts, " test", "left")
    for start, label, side in starts:
        if start:
            place = _EPOCH + timedelta(microseconds=start)
            axes.axvline(place, color="#333", linewidth=0.8, linestyle="--")
            axes.annotate(label, (place, 1), xycoords=("data", "axes fraction"), fontsize=8, ha=side)
    axes.legend(loc="upper left", frameon=False)
    axes.figure.autofmt_xdate(rotation=30)
    axes.set_ylabel("events")
    return True


def _plot_history(axes: Any, report: Report) -> bool:
    lengths = {int(length): count for length, count in report.statistics.history_lengths.items()}
    if not lengths:
        return False
    top = max(lengths)
    edges = np.unique(np.round(np.geomspace(1, top + 1, 24)).astype(int)) if top > 24 else np.arange(1, top + 2)
    heights = np.zeros(len(edges) - 1)
    places = np.searchsorted(edges, list(lengths), side="right") - 1
    np.add.at(heights, np.clip(places, 0, len(heights) - 1), list(lengths.values()))
    left = edges[:-1] if top > 24 else edges[:-1] - 0.46  # a bar of one length stands over its number
    axes.bar(left, heights, width=np.diff(edges) * 0.92, align="edge", color=_COLOURS[0])
    if top > 24:
        axes.set_xscale("log")
    axes.set_xlabel("events of a user")
    axes.set_ylabel("users")
    return True


def _plot_popularity(axes: Any, report: Report) -> bool:
    if not report.sizes.popularity:
        return False
    axes.loglog(report.sizes.popularity_rank, report.sizes.popularity, color=_COLOURS[1])
    axes.set_xlabel("rank of the item")
    axes.set_ylabel("training events")
    return True


def _plot_queries(axes: Any, report: Report) -> bool:
    words = {min(int(count), 12): 0 for count in report.statistics.query_words}
    for length, events in report.statistics.query_words.items():
        words[min(int(length), 12)] += events
    if not words:
        return False
    axes.bar(list(words), list(words.values()), color=_COLOURS[2])
    axes.set_xticks(range(1, max(words) + 1), [str(n) if n < 12 else "12+" for n in range(1, max(words) + 1)])
    axes.set_xlabel("words")
    axes.set_ylabel("events")
    return True


def _plot_rejected(axes: Any, report: Report) -> bool:
    reasons = report.total.rejected.most_common()[::-1]
    if not reasons:
        return False
    bars = axes.barh([reason for reason, _ in reasons], [count for _, count in reasons], color=_COLOURS[5])
    axes.bar_label(bars, [f"{count:,}" for _, count in reasons], padding=3)
    axes.margins(x=0.18)
    axes.set_xlabel("rows")
    return True


def _plot_split(axes: Any, report: Report) -> bool:
    parts: Sequence[tuple[str, int]] = list(report.statistics.by_split.items()) or list(report.sizes.judgments.items())
    if not sum(count for _, count in parts):
        return False
    bars = axes.bar([name for name, _ in parts], [count for _, count in parts], color=_COLOURS[: len(parts)], width=0.6)
    axes.bar_label(bars, [f"{count:,}" for _, count in parts], padding=3)
    axes.set_ylabel("events" if report.statistics.by_split else "judgments")
    axes.margins(y=0.15)
    return True
