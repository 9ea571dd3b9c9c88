"""Off-policy estimates from logged slates: records of exploration, another ranking's order, and credited events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.errors import DataError
from txrec.loop.attribution.attribution import NO_PLACEMENT
from txrec.loop.exploration.exploration import marginal_probability, prefix_probability
from txrec.loop.exploration.exploration_log import Record
from txrec.loop.off_policy.estimators import Estimator, OffPolicyEstimate, Requirements, SlateLog, crossfit, estimate

Floats = NDArray[np.float64]
Rank = Callable[["LoggedSlate"], Sequence[str]]
ESTIMATORS: tuple[Estimator, ...] = ("doubly_robust", "position", "cascade", "slate")


@dataclass(frozen=True)
class LoggedSlate:
    """A slate that exploration could have changed.

    Attributes:
        request_id: of the slate.
        ts: microseconds since 1970 UTC.
        user_id: None for somebody anonymous.
        query: search text.
        items: sorted products, best first, before exploration.
        scores: theirs.
        record: how it was shown.
        placement: that the request named.
    """

    request_id: str
    ts: int
    user_id: str | None
    query: str | None
    items: tuple[str, ...]
    scores: tuple[float, ...]
    record: Record
    placement: str = NO_PLACEMENT

    @property
    def shown(self) -> tuple[str, ...]:
        """Products in the order shown."""
        return tuple(self.items[column] for column in self.record.shown_rank)

    @property
    def pool(self) -> tuple[str, ...]:
        """Products that exploration could draw, best first."""
        return tuple(item for item, odds in zip(self.items, self.record.utility, strict=True) if odds is not None)


@dataclass(frozen=True)
class Evaluation:
    """The value of another ranking on served traffic.

    Attributes:
        reward: the counted event.
        estimates: by estimator, the most precise assumption first.
        exploration: of the ranking that was served, without exploration: its gain is what exploration cost; None where
            nothing was explored.
        drawn: share of the slates that were drawn.
        from_below: share of the places of drawn slates that show a product which sorting would not have shown there
            or above.
    """

    reward: str
    estimates: tuple[OffPolicyEstimate, ...]
    exploration: OffPolicyEstimate | None
    drawn: float
    from_below: float

    @property
    def best(self) -> OffPolicyEstimate:
        """The most precise estimate that was not refused; the first one where all were."""
        usable = [one for one in self.estimates if not one.refusal]
        return usable[0] if usable else self.estimates[0]


def logged_slates(slates: pl.DataFrame) -> list[LoggedSlate]:
    """The slates with a record of exploration, as they were before it.

    Args:
        slates: as `attribution.slates_of` gives them, with `scores`, `exploration` and, where it is known, `placement`.

    Raises:
        DataError: the log has no records: exploration was off.
    """
    rows = slates.filter(pl.col("exploration").is_not_null()) if "exploration" in slates.columns else slates.clear()
    if not rows.height:
        raise DataError(
            "no served slate has a record of exploration; set serve.exploration.share, e.g. to 0.05, and wait for"
            " traffic"
        )
    return [_logged(row) for row in rows.iter_rows(named=True)]


def _logged(row: dict[str, object]) -> LoggedSlate:
    record = Record.from_json(str(row["exploration"]))
    shown = [*row["item_ids"], *record.hidden]  # type: ignore[misc]
    scores = [*row["scores"], *record.hidden_scores]  # type: ignore[misc]
    place = np.argsort(record.rank)  # of each sorted product in the slate that was shown
    return LoggedSlate(
        request_id=str(row["request_id"]),
        ts=int(row["ts"]),  # type: ignore[call-overload]
        user_id=row["user_id"],  # type: ignore[arg-type]
        query=row["query"],  # type: ignore[arg-type]
        items=tuple(str(shown[one]) for one in place),
        scores=tuple(float(scores[one]) for one in place),
        record=record,
        placement=str(row.get("placement") or NO_PLACEMENT),
    )


def evaluate(
    slates: Sequence[LoggedSlate], rank: Rank, credits_: pl.DataFrame, reward: str, required: Requirements | None = None
) -> Evaluation:
    """Estimates what an order of the explored products by `rank` would have earned.

    Args:
        slates: as `logged_slates` gives them.
        rank: the other ranking's order of a slate's `pool`, best first; products that it leaves out follow in theirs.
        credits_: as `attribution.credit` gives them.
        reward: `click`, `cart`, `purchase` (1 per place with such an event) or `revenue`.
        required: the least that an estimate is given for.
    """
    depth = max(slate.record.bounds.depth for slate in slates)
    earned = _rewards(slates, credits_, reward, depth)
    target = [_columns(slate, rank(slate)) for slate in slates]
    plain = [np.arange(slate.record.bounds.depth) for slate in slates]
    log, served = (_slate_log(slates, probabilities, earned, depth) for probabilities in (target, plain))
    drawn = [slate.record for slate in slates if slate.record.drawn]
    below = [rank_ >= record.bounds.depth for record in drawn for rank_ in record.rank[: record.bounds.depth]]
    return Evaluation(
        reward,
        tuple(estimate(log, name, required) for name in ESTIMATORS),
        estimate(served, "position", required),
        len(drawn) / len(slates),
        float(np.mean(below)) if below else 0.0,
    )


def by_placement(slates: Sequence[LoggedSlate]) -> dict[str, list[LoggedSlate]]:
    """The slates of each placement, the placement with most slates first."""
    parts: dict[str, list[LoggedSlate]] = {}
    for slate in slates:
        parts.setdefault(slate.placement, []).append(slate)
    return dict(sorted(parts.items(), key=lambda part: (-len(part[1]), part[0])))


def _columns(slate: LoggedSlate, order: Sequence[str]) -> NDArray[np.int64]:
    """The sorted slate's columns in the places that exploration could change, ordered by another ranking."""
    bounds = slate.record.bounds
    place = {item: column for column, item in enumerate(slate.items)}
    pool = set(slate.pool)
    ordered = [item for item in order if item in pool]
    ordered += [item for item in slate.pool if item not in set(ordered)]
    free = [place[item] for item in ordered[: bounds.num_places]]
    return np.array([*range(bounds.first_place), *free], np.int64)


def _slate_log(
    slates: Sequence[LoggedSlate], target: Sequence[NDArray[np.int64]], reward: Floats, depth: int
) -> SlateLog:
    """Probabilities and rewards; slates of fewer places are filled up with certain places without reward."""
    size = len(slates)
    prefix, marginal, same = (np.ones((size, depth)) for _ in range(3))
    support = np.ones(size)
    score, target_score = np.zeros((size, depth)), np.zeros((size, depth))
    for rows in _alike(slates):
        bounds = slates[rows[0]].record.bounds
        utility = np.array([[-np.inf if one is None else one for one in slates[row].record.utility] for row in rows])
        shown = np.array([slates[row].record.rank[: bounds.depth] for row in rows])
        probabilities = np.stack([target[row] for row in rows])
        block = np.ix_(rows, range(bounds.depth))
        prefix[block] = prefix_probability(utility, shown, bounds)
        marginal[block] = marginal_probability(utility, shown, bounds)
        same[block] = shown == probabilities
        support[rows] = (marginal_probability(utility, probabilities, bounds) > 0).mean(axis=1)
        scores = np.array([slates[row].scores for row in rows])
        score[block] = np.take_along_axis(scores, shown, axis=1)
        target_score[block] = np.take_along_axis(scores, probabilities, axis=1)
    _, user = np.unique([slate.user_id or f"request {slate.request_id}" for slate in slates], return_inverse=True)
    predicted, direct = crossfit(score, target_score, reward, user)
    chained = np.asarray(np.cumprod(same, axis=1), np.float64)
    return SlateLog(reward, prefix, marginal, chained, same, user, support, predicted, direct)


def _alike(slates: Sequence[LoggedSlate]) -> list[list[int]]:
    """Rows of slates with the same bounds and length."""
    groups: dict[tuple[float, int, int, int], list[int]] = {}
    for row, slate in enumerate(slates):
        record = slate.record
        groups.setdefault((record.share, record.first_place, record.num_places, len(slate.items)), []).append(row)
    return list(groups.values())


def _rewards(slates: Sequence[LoggedSlate], credits_: pl.DataFrame, reward: str, depth: int) -> Floats:
    """(n, depth) amount that each place earned."""
    earned = np.zeros((len(slates), depth))
    for row, amounts in enumerate(earned_places(slates, credits_, reward)):
        for place, amount in amounts.items():
            if place < slates[row].record.bounds.depth:
                earned[row, place] = amount
    return earned


def earned_places(slates: Sequence[LoggedSlate], credits_: pl.DataFrame, reward: str) -> list[dict[int, float]]:
    """Amounts that the places of each slate earned, without those that earned nothing.

    Args:
        slates: n served ones.
        credits_: as `attribution.credit` gives them.
        reward: `click`, `cart`, `purchase` (1 per place with such an event) or `revenue`.
    """
    kinds = {"click": ["click", "view"], "cart": ["cart"], "purchase": ["purchase"], "revenue": ["purchase"]}[reward]
    amount = pl.col("value").sum() if reward == "revenue" else (pl.col("weight").sum() > 0).cast(pl.Float64)
    rows = credits_.filter(pl.col("event").is_in(kinds)).group_by("request_id", "place").agg(amount=amount)
    rows = rows.sort("request_id", "place")  # sums over places are then the same each time
    number = {slate.request_id: row for row, slate in enumerate(slates)}
    earned: list[dict[int, float]] = [{} for _ in slates]
    for request, place, value in rows.iter_rows():
        row = number.get(request)
        if row is not None and value:
            earned[row][place] = value
    return earned
