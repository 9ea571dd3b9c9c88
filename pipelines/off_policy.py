"""`txrec evaluate --off-policy`: the value that another bundle would have had on served traffic.

The bundle orders the products that exploration could have shown, with each user's history as it was then; what that
order would have earned is estimated from the logged probabilities. Leaves reports/off_policy.json.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table

from pipelines.bundles import bundle_folder
from pipelines.served_log import served_log
from txrec import object_storage
from txrec.config import Config
from txrec.loop import settings
from txrec.loop.attribution import credit, events_of, slates_of
from txrec.loop.off_policy_log import Evaluation, LoggedSlate, evaluate, logged_slates
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Event, Request
from txrec.storage import write_text

Reward = Literal["click", "cart", "purchase", "revenue"]
_EVERY = 100


@dataclass(frozen=True)
class OffPolicySummary:
    """Result of an off-policy evaluation."""

    bundle: str
    evaluation: Evaluation
    report: Path

    def headline(self) -> str:
        """One line: the most precise estimate that was not refused."""
        usable = [one for one in self.evaluation.estimates if not one.refusal]
        best = usable[0] if usable else self.evaluation.estimates[0]
        return f"{self.bundle}, {self.evaluation.reward}s per slate by {best}"

    def render(self) -> RenderableType:
        """All estimates, and what exploration cost."""
        table = Table("", "value", "95 %", "gain", "95 %", "effective slates", box=None)
        for one in self.evaluation.estimates:
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
            table.add_row(one.estimator.replace("_", " "), *cells, f"{one.effective:,.0f}")
        cost = self.evaluation.exploration
        lost = (
            f"cost of exploration unknown: {cost.refusal}"
            if cost.refusal
            else f"exploration cost {cost.gain:.4g} ({cost.gain_low:.4g} to {cost.gain_high:.4g}) per slate"
        )
        gained = (
            f"{self.evaluation.drawn:.1%} of the slates were drawn; {self.evaluation.from_below:.1%} of their places"
            " show products from below"
        )
        return Group(table, lost, gained)

    def write(self) -> None:
        """Writes off_policy.json."""
        write_text(self.report, json.dumps({"bundle": self.bundle, **asdict(self.evaluation)}, indent=1))


def run(
    config: Config,
    bundle: str = "candidate",
    reward: Reward = "click",
    limit: int = 5_000,
    progress: Progress = silent,
) -> OffPolicySummary:
    """Evaluates a bundle on the latest served slates.

    Args:
        config: of the run.
        bundle: `candidate`, `production`, a registered version or a folder.
        reward: reward of a place.
        limit: slates looked at, the latest ones.
        progress: receives the number of slates done.

    Raises:
        StageError: no server of this configuration has kept any state yet.
        DataError: no slate was explored.
    """
    slates, events = (frame.collect() for frame in served_log(config, None, None))
    slates, events = slates_of(slates), events_of(events)
    explored = slates.filter(pl.col("exploration").is_not_null()).sort("ts").tail(limit)
    logged = logged_slates(explored)
    recommender = Recommender.open(bundle_folder(config, bundle))
    histories = _histories(events)
    progress("ranking logged slates", 0, len(logged))
    orders: dict[str, tuple[str, ...]] = {}
    for number, slate in enumerate(logged):
        orders[slate.request_id] = _order(recommender, slate, histories)
        if number % _EVERY == 0:
            progress("ranking logged slates", number, len(logged))
    credits_ = credit(explored, events, settings.windows(config.serve.monitor))
    evaluation = evaluate(logged, lambda slate: orders[slate.request_id], credits_, reward)
    summary = OffPolicySummary(bundle, evaluation, config.reports_dir / "off_policy.json")
    summary.write()
    object_storage.share(summary.report)
    return summary


def _order(recommender: Recommender, slate: LoggedSlate, histories: dict[str, list[Event]]) -> tuple[str, ...]:
    """The bundle's order of a slate's products, for the user's history before it."""
    user = slate.user_id
    stored = recommender.history(user) if user is not None else ()
    before = [event for event in stored if event.ts is None or event.ts < slate.ts]
    known = {(event.ts, event.event, event.item_id) for event in before}
    live = (event for event in histories.get(user or "", []) if event.ts is not None and event.ts < slate.ts)
    before += [event for event in live if (event.ts, event.event, event.item_id) not in known]
    history = tuple(sorted(before, key=lambda event: event.ts or 0))
    request = Request(user_id=user if history else None, events=history, query=slate.query, now_us=slate.ts)
    return tuple(item.item_id for item in recommender.rank_items(slate.pool, request).items)


def _histories(happened: pl.DataFrame) -> dict[str, list[Event]]:
    """Live events by user, oldest first."""
    histories: dict[str, list[Event]] = {}
    columns = ("user_id", "event", "item_id", "query", "ts", "value")
    for user, *fields in happened.sort("ts").select(columns).iter_rows():
        histories.setdefault(user, []).append(Event(*fields))
    return histories
