"""`txrec evaluate --off-policy`: the value that another bundle would have had on served traffic.

The bundle orders the products that exploration could have shown, with each user's history as it was then; what that
order would have earned is estimated from the logged probabilities, in all and by placement. Leaves
reports/off_policy.json and off_policy.html.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pipelines.closed_loop.served_log import served_log
from pipelines.runs.bundles import bundle_folder
from txrec import object_storage
from txrec.config import Config
from txrec.errors import DataError
from txrec.loop import settings
from txrec.loop.attribution.attribution import NO_PLACEMENT, credit, events_of, slates_of
from txrec.loop.off_policy.estimators import OffPolicyEstimate
from txrec.loop.off_policy.off_policy_log import (
    Evaluation,
    LoggedSlate,
    by_placement,
    evaluate,
    logged_slates,
)
from txrec.loop.off_policy.position_bias import estimate as examination_of
from txrec.loop.off_policy.reordering import reordered, shown_slates
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Event, Request
from txrec.report.page import render
from txrec.storage import write_text

Reward = Literal["click", "cart", "purchase", "revenue"]
_BATCH = 64


_HEAD = ("value", "95 %", "gain", "95 %", "effective slates")


@dataclass(frozen=True)
class OffPolicySummary:
    """Result of an off-policy evaluation.

    Attributes:
        bundle: that was valued.
        evaluation: over all slates.
        report: `off_policy.json`; `off_policy.html` lies next to it.
        placements: the same by placement, largest first.
    """

    bundle: str
    evaluation: Evaluation
    report: Path
    placements: Mapping[str, Evaluation] = field(default_factory=dict)

    def headline(self) -> str:
        """One line: the most precise estimate that was not refused."""
        return f"{self.bundle}, {self.evaluation.reward}s per slate by {self.evaluation.best}"

    @property
    def named_placements(self) -> dict[str, Evaluation]:
        """Evaluations by placement; empty where no request named one."""
        return dict(self.placements) if set(self.placements) - {NO_PLACEMENT} else {}

    def rows(self) -> list[tuple[str, ...]]:
        """Every estimate as cells: name, then those of `_HEAD`."""
        return [(one.estimator.replace("_", " "), *_cells(one)) for one in self.evaluation.estimates]

    def placement_rows(self) -> list[tuple[str, ...]]:
        """The best estimate of every placement as cells: placement, estimator, then those of `_HEAD`."""
        return [
            (name, one.best.estimator.replace("_", " "), *_cells(one.best))
            for name, one in self.named_placements.items()
        ]

    def exploration_lines(self) -> list[str]:
        """Cost of exploration, in all and by placement, and how much it changed."""
        parts = {"": self.evaluation, **self.named_placements}
        return [f"{name}: {_cost(one)}" if name else _cost(one) for name, one in parts.items()]

    def render(self) -> RenderableType:
        """All estimates, those of each placement, and the cost of exploration."""
        table = Table("", *_HEAD, box=None)
        for row in self.rows():
            table.add_row(*row)
        parts: list[RenderableType] = [table]
        if self.named_placements:
            by_placement = Table("placement", "by", *_HEAD, box=None)
            for row in self.placement_rows():
                by_placement.add_row(*(escape(cell) for cell in row))
            parts.append(by_placement)
        return Group(*parts, *(escape(line) for line in self.exploration_lines()))

    def write(self) -> None:
        """Writes `off_policy.json` and `off_policy.html`."""
        placements = {name: asdict(one) for name, one in self.placements.items()}
        body = {"bundle": self.bundle, **asdict(self.evaluation), "placements": placements}
        write_text(self.report, json.dumps(body, indent=1))
        page = render("off_policy.html.j2", report=self, head=["", *_HEAD], placement_head=["", "by", *_HEAD])
        write_text(self.report.with_suffix(".html"), page)


def _cells(one: OffPolicyEstimate) -> tuple[str, ...]:
    cells = (
        ("refused", one.refusal, "", "")
        if one.refusal
        else (
            f"{one.value:.4g}",
            f"{one.low:.4g} to {one.high:.4g}",
            f"{one.gain:+.4g}",
            f"{one.gain_low:+.4g} to {one.gain_high:+.4g}",
        )
    )
    return (*cells, f"{one.effective:,.0f}")


def _cost(evaluation: Evaluation) -> str:
    """`exploration cost 0.01 (0.00 to 0.02) per slate; 5.0% of the slates were drawn; ...`."""
    cost = evaluation.exploration
    if cost is None:
        return "no exploration: the order of the products shown is valued by the examination of their places"
    lost = (
        f"cost of exploration unknown: {cost.refusal}"
        if cost.refusal
        else f"exploration cost {cost.gain:.4g} ({cost.gain_low:.4g} to {cost.gain_high:.4g}) per slate"
    )
    return (
        f"{lost}; {evaluation.drawn:.1%} of the slates were drawn, {evaluation.from_below:.1%} of their places show"
        " products from below"
    )


def run(
    config: Config,
    bundle: str = "candidate",
    reward: Reward = "click",
    limit: int = 5_000,
    progress: Progress = silent,
    since_us: int = 0,
) -> OffPolicySummary:
    """Evaluates a bundle on the latest served slates.

    Args:
        config: of the run.
        bundle: `candidate`, `production`, a registered version or a folder.
        reward: reward of a place.
        limit: slates looked at, the latest ones.
        progress: receives the number of slates done.
        since_us: slates from then on, microseconds since 1970 UTC; those that the bundle was trained on favour it.

    Raises:
        StageError: no server of this configuration has kept any state yet.
        DataError: no slate was explored, and there are too few slates to estimate the examination of places.
    """
    slates, events = (frame.collect() for frame in served_log(config, None, None))
    slates, events = slates_of(slates), events_of(events)
    credits_ = credit(slates, events, settings.windows(config.serve.monitor))
    bias = examination_of(slates, credits_)
    latest = slates.filter(pl.col("ts") >= since_us).sort("ts")
    explored = latest.filter(pl.col("exploration").is_not_null()).tail(limit)
    logged = logged_slates(explored) if explored.height or bias is None else shown_slates(latest.tail(limit))
    if not logged:
        raise DataError(f"no slate was served since {since_us} (microseconds since 1970 UTC)")
    recommender = Recommender.open(bundle_folder(config, bundle))
    histories = _histories(events)
    progress("ranking logged slates", 0, len(logged))
    orders: dict[str, tuple[str, ...]] = {}
    for first in range(0, len(logged), _BATCH):
        batch = logged[first : first + _BATCH]
        ranked = recommender.rank_lists([(slate.pool, _request(recommender, slate, histories)) for slate in batch])
        for slate, order in zip(batch, ranked, strict=True):
            orders[slate.request_id] = tuple(item.item_id for item in order.items)
        progress("ranking logged slates", first, len(logged))

    def value(part: Sequence[LoggedSlate]) -> Evaluation:
        def rank(slate: LoggedSlate) -> tuple[str, ...]:
            return orders[slate.request_id]

        order = () if bias is None else (reordered(part, rank, credits_, reward, bias),)
        if not explored.height:
            return Evaluation(reward, order, None, 0.0, 0.0)
        policy_estimates = evaluate(part, rank, credits_, reward)
        return replace(policy_estimates, estimates=(*policy_estimates.estimates, *order))

    report, whole, parts = config.reports_dir / "off_policy.json", value(logged), by_placement(logged)
    placements = {name: whole if len(parts) == 1 else value(part) for name, part in parts.items()}
    summary = OffPolicySummary(bundle, whole, report, placements)
    summary.write()
    for file in (summary.report, summary.report.with_suffix(".html")):
        object_storage.share(file)
    return summary


def _request(recommender: Recommender, slate: LoggedSlate, histories: dict[str, list[Event]]) -> Request:
    """The request that a slate answered, with the user's history before it."""
    user = slate.user_id
    stored = recommender.history(user) if user is not None else ()
    before = [event for event in stored if event.ts is None or event.ts < slate.ts]
    known = {(event.ts, event.event, event.item_id) for event in before}
    live = (event for event in histories.get(user or "", []) if event.ts is not None and event.ts < slate.ts)
    before += [event for event in live if (event.ts, event.event, event.item_id) not in known]
    history = tuple(sorted(before, key=lambda event: event.ts or 0))
    return Request(user_id=user if history else None, events=history, query=slate.query, now_us=slate.ts)


def _histories(happened: pl.DataFrame) -> dict[str, list[Event]]:
    """Live events by user, oldest first."""
    histories: dict[str, list[Event]] = {}
    columns = ("user_id", "event", "item_id", "query", "ts", "value")
    for user, *fields in happened.sort("ts").select(columns).iter_rows():
        histories.setdefault(user, []).append(Event(*fields))
    return histories
