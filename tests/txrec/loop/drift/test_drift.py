"""Drift of daily figures and the data checks that are made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from txrec.loop.drift import data_checks, usual_categories
from txrec.loop.drift.data_checks import LAYOUT, check, days_of, profile
from txrec.loop.drift.drift import MIN_REFERENCE, Days, Layout, Ratio, Reference, Side, psi
from txrec.schema import DAY_US

ITEMS = pl.DataFrame(
    {
        "item_id": [f"p{number}" for number in range(20)],
        "title": [f"product {number}" for number in range(20)],
        "category": [["a"] if number < 15 else ["b"] for number in range(20)],
        "price": [float(10 + number) for number in range(20)],
    }
)


def log(days: int, seed: int = 0, users: int = 120) -> pl.DataFrame:
    """A quiet shop: each day some users view, search, click, put into the cart and buy."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(days):
        size = rng.poisson(700)
        kind = rng.choice(["view", "search", "click", "cart", "purchase"], size, p=[0.3, 0.2, 0.3, 0.1, 0.1])
        item = np.minimum(rng.geometric(0.15, size) - 1, 19)
        rows.append(
            pl.DataFrame(
                {
                    "user_id": [f"u{user}" for user in rng.integers(users, size=size)],
                    "ts": 20_000 * DAY_US + day * DAY_US + np.sort(rng.integers(DAY_US, size=size)),
                    "event": kind,
                    "item_id": [
                        None if one == "search" else f"p{number}" for one, number in zip(kind, item, strict=True)
                    ],
                    "query": [
                        f"q{number % 7}" if one == "search" else None for one, number in zip(kind, item, strict=True)
                    ],
                    "value": np.where(kind == "purchase", 10.0 + item, np.nan),
                }
            ).with_columns(pl.col("value").fill_nan(None))
        )
    return pl.concat(rows)


LOG = log(40)
LAST = pl.col("ts") >= 20_039 * DAY_US


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return profile(days_of(LOG.filter(~LAST), ITEMS))


def test_psi_is_zero_for_the_same_mix_and_the_textbook_value_for_another() -> None:
    assert psi(np.array([200.0, 800.0]), np.array([2e6, 8e6])) == pytest.approx(0, abs=1e-5)
    expected = (0.3 - 0.2) * np.log(0.3 / 0.2) + (0.7 - 0.8) * np.log(0.7 / 0.8)
    assert psi(np.array([3e6, 7e6]), np.array([2e6, 8e6])) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_false_alarms_of_all_figures_together_are_as_rare_as_stated() -> None:
    rng = np.random.default_rng(0)
    layout = Layout(("a", "b"), {"share of b": Ratio("b", "a")}, {"mix": "m:"})
    names = ("a", "b", "m:0", "m:1", "m:2", "m:3")
    alarms = 0
    for run in range(25):
        level = np.exp(0.05 * rng.standard_normal((48, 1, 1)))
        counts = rng.poisson(level * np.array([2.0, 0.5, 0.4, 0.4, 0.6, 0.6]), (48, 200, 6)).astype(float)
        days = Days(names, counts, np.arange(48))
        reference = Reference(days.take(slice(0, 28)), layout, seed=run)
        alarms += sum(bool(reference.findings(day)) for day in days.totals[28:])
    assert alarms <= 500 * 0.02


def counted(days: int, share: float, seed: int) -> Days:
    """Days of two counts by 200 groups of users, the second one a share of the first."""
    of = np.random.default_rng(seed).poisson(2.0, (days, 200))
    count = np.random.default_rng(seed + 1).binomial(of, share)
    return Days(("count", "of"), np.stack([count, of], axis=2).astype(float), np.arange(days))


def test_a_change_that_no_single_day_shows_stands_out_over_a_week() -> None:
    ratios = {"share": Ratio("count", "of")}
    usual, changed = counted(28, 0.2, 0), counted(7, 0.16, 11)
    by_day = Reference(usual, Layout((), ratios, {}))
    assert not any(by_day.findings(day) for day in changed.totals)
    by_week = Reference(usual, Layout((), ratios, {}, span=7))
    assert [one.figure for one in by_week.findings(changed.totals.sum(axis=0))] == ["share"]
    assert not by_week.findings(counted(7, 0.2, 9).totals.sum(axis=0))


def test_a_longer_span_needs_more_reference_days() -> None:
    with pytest.raises(ValueError, match="27 reference days; at least 28"):
        Reference(counted(27, 0.2, 0), Layout((), {"share": Ratio("count", "of")}, {}, span=7))


@pytest.mark.parametrize(("side", "unusual"), [("above", [0.6]), ("below", [0.02]), ("both", [0.02, 0.6])])
def test_a_share_is_unusual_on_its_side_alone(side: Side, unusual: list[float]) -> None:
    reference = Reference(counted(28, 0.2, 0), Layout((), {"share": Ratio("count", "of", side)}, {}))
    assert [share for share in (0.02, 0.6) if reference.findings(counted(1, share, 5).totals[0])] == unusual


def test_rare_false_alarms_are_extrapolated_beyond_the_resampled_days() -> None:
    usual = counted(28, 0.2, 0)
    layout = Layout((), {"share": Ratio("count", "of")}, {})
    rare, frequent = (Reference(usual, layout, alpha).thresholds[0] for alpha in (1e-6, 1e-4))
    assert rare > frequent >= 4.0


def test_counts_of_a_day_are_those_of_its_rows() -> None:
    days = days_of(LOG, ITEMS)
    day = LOG.filter(LAST)
    totals = dict(zip(days.names, days.totals[-1], strict=True))
    assert totals["events"] == day.height
    assert totals["users"] == day["user_id"].n_unique()
    assert totals["purchase"] == day.filter(pl.col("event") == "purchase").height
    assert totals["category:b"] == day["item_id"].is_in([f"p{number}" for number in range(15, 20)]).sum()
    assert totals["squares"] == (day["user_id"].value_counts()["count"].cast(pl.Int64) ** 2).sum()
    assert totals["value"] == pytest.approx(day["value"].sum())
    assert totals["no_query"] == day["query"].null_count()
    assert sum(value for name, value in totals.items() if name.startswith("hour:")) == day.height
    assert sum(value for name, value in totals.items() if name.startswith("query:")) == day["query"].count()


def test_a_quiet_day_passes(before: dict[str, Any]) -> None:
    found = check(days_of(LOG, ITEMS), before)
    assert (found.outcome, found.days) == ("pass", 1)
    assert str(found) == "pass: 1 days look like those before"


FAULTS = {
    "volume of purchase": LOG.filter(~LAST | (pl.col("event") != "purchase")),
    "mean value of a purchase": LOG.with_columns(value=pl.when(LAST).then(pl.col("value") * 100).otherwise("value")),
    "share of events at the time of the user's last one": LOG.with_columns(
        ts=pl.when(LAST).then(20_039 * DAY_US + 5).otherwise("ts")
    ),
    "mean squared events per user": pl.concat([LOG, LOG.filter(LAST).head(90).with_columns(user_id=pl.lit("u5"))]),
    "share of events on products without a title": LOG.with_columns(
        item_id=pl.when(LAST & (pl.int_range(pl.len()) % 3 == 0)).then(pl.lit("nobody knows")).otherwise("item_id")
    ),
}


@pytest.mark.parametrize("figure", FAULTS)
def test_a_fault_breaks_the_check_and_is_named(before: dict[str, Any], figure: str) -> None:
    found = check(days_of(FAULTS[figure], ITEMS), before)
    assert found.outcome == "break"
    assert figure in [finding.figure for _, finding in found.findings]
    assert "2024-11-1" in str(found)
    assert "deviation" in str(found)


def test_another_taste_is_a_drift_and_not_a_break(before: dict[str, Any]) -> None:
    last = LOG.filter(LAST)
    wanted = "p" + (15 + pl.int_range(pl.len()) % 5).cast(pl.String)
    changed = last.with_columns(item_id=pl.when(pl.col("item_id").is_not_null()).then(wanted))
    found = check(days_of(pl.concat([LOG.filter(~LAST), changed]), ITEMS), before)
    figures = {finding.figure for _, finding in found.findings}
    assert "mix of category" in figures
    assert figures <= data_checks.DRIFTS
    assert found.outcome == "drift"


def test_a_source_that_is_missing_from_all_days_is_found_in_the_known_ones(before: dict[str, Any]) -> None:
    found = check(days_of(LOG.filter(pl.col("event") != "cart"), ITEMS), before)
    assert found.outcome == "break"
    assert found.missing[0].startswith("volume of cart on known days 0, ")


def test_a_log_of_other_days_altogether_is_a_break(before: dict[str, Any]) -> None:
    found = check(days_of(LOG.with_columns(pl.col("ts") - 400 * DAY_US), ITEMS), before)
    assert found.missing == ("none of the days of the last preparation is there any more",)


def test_without_a_last_preparation_the_end_is_checked_against_the_beginning() -> None:
    assert check(days_of(LOG, ITEMS), None).outcome == "pass"
    found = check(days_of(FAULTS["volume of purchase"], ITEMS), None)
    assert found.outcome == "break"


def test_too_few_days_are_not_judged() -> None:
    short = LOG.filter(pl.col("ts") < (20_000 + MIN_REFERENCE) * DAY_US)
    assert check(days_of(short, ITEMS), None).days == 0
    with pytest.raises(ValueError, match="at least 8"):
        Reference(days_of(short, ITEMS).take(slice(0, 3)), LAYOUT)


def test_a_break_keeps_the_profile_of_the_last_good_preparation_until_it_is_accepted(tmp_path: Path) -> None:
    good, bad = days_of(LOG.filter(~LAST), ITEMS), days_of(FAULTS["volume of purchase"], ITEMS)
    data_checks.write(tmp_path, check(good, None), good)
    first = data_checks.read(tmp_path)
    assert first is not None
    broken = check(bad, first["profile"])
    data_checks.write(tmp_path, broken, bad)
    second = data_checks.read(tmp_path)
    assert second is not None
    assert (second["outcome"], second["profile"]) == ("break", first["profile"])
    data_checks.write(tmp_path, replace(broken, accepted="anna: the till was closed"), bad)
    third = data_checks.read(tmp_path)
    assert third is not None
    assert third["accepted"] == "anna: the till was closed"
    assert len(third["profile"]["days"]) == 40
    assert check(bad, third["profile"]).days == 0


def with_tastes(log: pl.DataFrame, swapped: pl.Expr | None = None) -> pl.DataFrame:
    """A log whose even users want category a and whose odd ones category b; tastes are the others' where swapped."""
    odd = pl.col("user_id").str.slice(1).cast(pl.Int64) % 2 == 1
    wants_b = odd if swapped is None else odd ^ swapped
    number = pl.int_range(pl.len())
    item = pl.when(wants_b).then("p" + (15 + number % 5).cast(pl.String)).otherwise("p" + (number % 15).cast(pl.String))
    return log.with_columns(item_id=pl.when(pl.col("item_id").is_not_null()).then(item))


def test_users_who_swap_their_tastes_are_found_though_the_mix_of_the_shop_stays() -> None:
    known = profile(days_of(with_tastes(LOG.filter(~LAST)), ITEMS))
    quiet = check(days_of(with_tastes(LOG), ITEMS), known)
    assert quiet.outcome == "pass", str(quiet)
    third = pl.col("user_id").str.slice(1).cast(pl.Int64) % 6 < 2
    found = check(days_of(with_tastes(LOG, LAST & third), ITEMS), known)
    assert [finding.figure for _, finding in found.findings] == [usual_categories.FIGURE]
    assert found.outcome == "drift"
