"""Live traffic compared with the training log of the bundle that answers."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.traffic import LAST_DAY, LAST_US, TRAINING, profile_of
from tests.txrec.loop.drift.test_drift import LOG, with_tastes
from txrec.errors import BundleError
from txrec.loop.attribution.attribution import slates_of
from txrec.loop.drift import usual_categories
from txrec.loop.drift.drift import Finding
from txrec.loop.drift.live_drift import TASTES, LiveDrift, TrafficDrift, is_taste, usual_days
from txrec.loop.drift.placement_drift import PlacementDrift
from txrec.loop.drift.traffic import FILE, TrafficProfile
from txrec.schema import DAY_US

NOW_US = LAST_US + DAY_US


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> TrafficProfile:
    return profile_of(tmp_path_factory.mktemp("log"))


def slates(days: int = 1, shift: float = 0.0) -> pl.DataFrame:
    """Three hundred slates per day up to NOW_US; the scores of the last day are moved by `shift`."""
    rng = np.random.default_rng(3)
    ts = np.sort(rng.integers(NOW_US - days * DAY_US, NOW_US, size=300 * days))
    score = rng.normal(1.0, 0.3, len(ts)) + shift * (ts >= LAST_US)
    frame = pl.DataFrame(
        {
            "request_id": [f"r{number}" for number in range(len(ts))],
            "variant": ["production"] * len(ts),
            "ts": ts,
            "user_id": [f"u{number}" for number in rng.integers(120, size=len(ts))],
            "model_version": ["v1"] * len(ts),
            "item_ids": [["p1"]] * len(ts),
            "scores": score[:, None].tolist(),
        }
    )
    return slates_of(frame)


def compared(profile: TrafficProfile, day: pl.DataFrame, shown: pl.DataFrame | None = None) -> TrafficDrift:
    before = LOG.filter(pl.col("ts").is_between(LAST_US - DAY_US, LAST_US, closed="left"))
    return LiveDrift(profile, "v1").look(slates() if shown is None else shown, pl.concat([before, day]), NOW_US)


def test_a_quiet_day_is_quiet_and_has_all_figures(profile: TrafficProfile) -> None:
    found = compared(profile, LAST_DAY)
    assert found.outcome == "quiet", str(found)
    assert {"mix of query", "mix of item", "mix of category", "share of events with unknown users"} <= {
        one.figure for one in found.readings
    }
    assert (found.events, found.version) == (LAST_DAY.height, "v1")


def marked(share: int) -> pl.Expr:
    return pl.int_range(pl.len()) % share == 0


FAULTS = {
    "share of events that are a purchase": LAST_DAY.filter(pl.col("event") != "purchase"),
    "mean value of a purchase": LAST_DAY.with_columns(pl.col("value") * 100),
    "share of events at the time of the user's last one": LAST_DAY.with_columns(
        ts=pl.when(marked(2)).then(LAST_US + 5).otherwise("ts")
    ),
    "mix of events by activity of the user": pl.concat(
        [LAST_DAY, LAST_DAY.head(140).with_columns(user_id=pl.lit("u5"))]
    ),
}


@pytest.mark.parametrize("figure", FAULTS)
def test_a_fault_of_the_data_is_named_and_asks_for_no_training(profile: TrafficProfile, figure: str) -> None:
    found = compared(profile, FAULTS[figure])
    assert found.outcome == "fault"
    assert figure in {one.figure for one in found.findings}
    assert f"{figure} " in str(found)


def test_another_taste_is_a_drift(profile: TrafficProfile) -> None:
    wanted = "p" + (15 + pl.int_range(pl.len()) % 5).cast(pl.String)
    found = compared(profile, LAST_DAY.with_columns(item_id=pl.when(pl.col("item_id").is_not_null()).then(wanted)))
    figures = {one.figure for one in found.findings}
    assert found.outcome == "drift"
    assert {"mix of item", "mix of category"} <= figures <= TASTES


@pytest.mark.parametrize("column", ["user_id", "item_id", "query"])
def test_ids_and_queries_that_the_log_does_not_know_are_found(profile: TrafficProfile, column: str) -> None:
    fresh = pl.when(marked(2) & pl.col(column).is_not_null()).then("new-" + pl.col(column)).otherwise(column)
    found = compared(profile, LAST_DAY.with_columns(fresh.alias(column)))
    name = {"user_id": "users", "item_id": "products", "query": "queries"}[column]
    assert f"share of events with unknown {name}" in {one.figure for one in found.findings}


def test_a_small_part_of_the_traffic_is_judged_by_wider_thresholds(profile: TrafficProfile) -> None:
    part = LAST_DAY.filter(pl.col("user_id").hash(5) % 3 == 0)
    small, whole = (compared(profile, day) for day in (part, LAST_DAY))
    assert small.outcome == "quiet", str(small)
    widths = [{one.figure: one.threshold for one in found.readings} for found in (small, whole)]
    assert widths[0]["mix of item"] > widths[1]["mix of item"]


def test_too_little_traffic_is_not_judged(profile: TrafficProfile) -> None:
    assert "199 events within a day, 200 are needed" in compared(profile, LAST_DAY.head(199)).reason
    late = LAST_DAY.filter(pl.col("ts") > LAST_US + DAY_US // 2)
    alone = LiveDrift(profile, "v1").look(slates().filter(pl.col("ts") > LAST_US + DAY_US // 2), late, NOW_US)
    assert alone.outcome == "not judged"
    assert "of 24 hours" in alone.reason


def test_scores_are_compared_with_those_of_the_same_version_on_the_days_before(profile: TrafficProfile) -> None:
    assert "mix of score" not in {one.figure for one in compared(profile, LAST_DAY, slates(5)).readings}
    quiet = compared(profile, LAST_DAY, slates(12))
    assert quiet.outcome == "quiet", str(quiet)
    assert "mix of score" in {one.figure for one in quiet.readings}
    moved = compared(profile, LAST_DAY, slates(12, shift=1.0))
    assert [one.figure for one in moved.findings] == ["mix of score"]
    assert moved.outcome == "drift"


def test_scores_of_past_days_are_remembered_from_look_to_look(profile: TrafficProfile) -> None:
    shown, comparison = slates(12, shift=1.0), LiveDrift(profile, "v1")
    found = TrafficDrift("not judged")
    for day in range(11, -1, -1):
        now = NOW_US - day * DAY_US
        last = shown.filter(pl.col("ts").is_between(now - DAY_US, now, closed="left"))
        found = comparison.look(last, LAST_DAY.with_columns(pl.col("ts") - day * DAY_US), now)
    assert "mix of score" in {one.figure for one in found.findings}


def test_unknown_shares_are_compared_at_the_age_of_the_bundle(profile: TrafficProfile) -> None:
    assert [usual_days(profile, age)[1] for age in (-1, 0.5, 2, 5, 40)] == [1, 1, 3, 7, 14]
    rows = {name: profile.days.totals[:, profile.days.names.index(f"unknown_user@{name}")].sum() for name in (1, 14)}
    assert rows[1] <= rows[14]


def test_a_profile_comes_back_from_its_file_without_ids_of_users(profile: TrafficProfile, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(profile.to_bytes())
    again = TrafficProfile.read(tmp_path)
    assert again is not None
    assert again.days.names == profile.days.names
    assert np.allclose(again.days.counts, profile.days.counts)
    assert np.array_equal(again.vocabulary.users, profile.vocabulary.users)
    assert again.end_us == profile.end_us
    with np.load(tmp_path / FILE, allow_pickle=False) as stored:
        texts = [text for name in stored.files if stored[name].dtype.kind == "U" for text in stored[name].tolist()]
    assert not {"u1", "q1", "p1"} & set(texts)
    assert TrafficProfile.read(tmp_path / "elsewhere") is None
    (tmp_path / FILE).write_bytes(b"PK")
    with pytest.raises(BundleError, match="traffic"):
        TrafficProfile.read(tmp_path)


def test_a_log_of_few_days_has_no_profile(tmp_path: Path) -> None:
    few = TRAINING.filter(pl.col("ts") < 20_006 * DAY_US)
    with pytest.raises(AssertionError):
        profile_of(tmp_path, few)


def test_users_who_swap_their_tastes_are_found_against_their_training_events(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, with_tastes(TRAINING))
    quiet = LiveDrift(profile, "v1").look(slates(), with_tastes(LOG), NOW_US)
    assert quiet.outcome == "quiet", str(quiet)
    third = pl.col("user_id").str.slice(1).cast(pl.Int64) % 6 < 2
    moved = with_tastes(LOG, (pl.col("ts") >= LAST_US) & third)
    found = LiveDrift(profile, "v1").look(slates(), moved, NOW_US)
    assert [one.figure for one in found.findings] == [usual_categories.FIGURE]
    assert found.outcome == "drift"


def moving(log: pl.DataFrame, since_us: int, share: float) -> pl.DataFrame:
    """A log whose users take two of three products from their own category; a share of them swaps tastes."""
    user = pl.col("user_id").str.slice(1).cast(pl.Int64)
    strange = pl.int_range(pl.len()).hash(1) % 3 == 0
    return with_tastes(log, strange ^ ((pl.col("ts") >= since_us) & (user.hash(2) % 100 < 100 * share)))


def looked(profile: TrafficProfile, log: pl.DataFrame, days: int) -> list[TrafficDrift]:
    """A look at the end of each of the last days, each with the log of its own day alone."""
    comparison, results = LiveDrift(profile, "v1"), []
    for age in range(days - 1, -1, -1):
        now = NOW_US - age * DAY_US
        known = log.filter(pl.col("ts").is_between(now - DAY_US, now, closed="left"))
        results.append(comparison.look(slates(), known, now))
    return results


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> TrafficProfile:
    """The profile of a bundle that was trained four days before the end of the log."""
    known = moving(LOG, NOW_US, 0).filter(pl.col("ts") < NOW_US - 4 * DAY_US)
    return profile_of(tmp_path_factory.mktemp("earlier"), known)


def test_a_change_of_taste_that_a_day_does_not_show_is_found_over_three_days(earlier: TrafficProfile) -> None:
    assert [one.outcome for one in looked(earlier, moving(LOG, NOW_US, 0), 4)] == ["quiet"] * 4
    found = looked(earlier, moving(LOG, NOW_US - 3 * DAY_US, 0.55), 3)
    assert [one.outcome for one in found] == ["quiet", "quiet", "drift"], [str(one) for one in found]
    assert [one.figure for one in found[-1].findings] == [f"{usual_categories.FIGURE} over 3 days"]
    assert is_taste(f"{usual_categories.FIGURE} over 3 days")


def test_days_in_a_row_are_judged_once_they_were_seen_whole(earlier: TrafficProfile) -> None:
    found = looked(earlier, moving(LOG, NOW_US, 0), 3)
    over = [{one.figure for one in result.readings if one.figure.endswith(" over 3 days")} for result in found]
    tastes = {one.figure for one in found[0].readings if one.figure in TASTES}
    assert over == [set(), set(), {f"{name} over 3 days" for name in tastes}]


def test_a_new_comparison_has_seen_nothing(earlier: TrafficProfile) -> None:
    comparison = LiveDrift(earlier, "v1")
    log = moving(LOG, NOW_US, 0)
    whole = log.filter(pl.col("ts") >= NOW_US - 4 * DAY_US)
    assert any(" over " in one.figure for one in comparison.look(slates(), whole, NOW_US).readings)
    last = comparison.forgetful().look(slates(), log.filter(pl.col("ts") >= LAST_US), NOW_US)
    assert last.outcome == "quiet"
    assert not any(" over " in one.figure for one in last.readings)


def test_a_change_that_the_training_log_ends_with_starts_no_training_again(tmp_path: Path) -> None:
    wanted = "p" + (15 + pl.int_range(pl.len()) % 5).cast(pl.String)
    late = (pl.col("ts") >= LAST_US - DAY_US) & pl.col("item_id").is_not_null()
    changed = LOG.with_columns(item_id=pl.when(late).then(wanted).otherwise("item_id"))
    profile = profile_of(tmp_path, changed.filter(pl.col("ts") < LAST_US + DAY_US // 12))
    assert int(profile.days.days[-1]) == LAST_US // DAY_US - 1
    again = LiveDrift(profile, "v2").look(slates(), changed.filter(pl.col("ts") >= LAST_US), NOW_US)
    assert again.outcome == "quiet", str(again)
    assert "mix of item" in {one.figure for one in again.readings if one.deviation == one.threshold}


def test_a_bundle_that_knows_the_day_already_raises_no_alarm(tmp_path: Path) -> None:
    found = LiveDrift(profile_of(tmp_path, LOG), "v2").look(slates(), LAST_DAY, NOW_US)
    assert found.outcome == "quiet", str(found)


def placed(days: int, lost: str = "") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Slates of two placements, and clicks on every third; nobody clicks at one of them on the last day."""
    shown = slates(2 * days).with_columns(ts=NOW_US - (NOW_US - pl.col("ts")) // 2)  # 600 per day
    shown = shown.with_columns(placement=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("home")))
    number = pl.col("request_id").str.slice(1).cast(pl.Int64)
    gone = (pl.col("placement").fill_null("none") == lost) & (pl.col("ts") >= LAST_US)
    clicks = shown.filter((number % 3 == 0) & ~gone).select(
        "user_id", "ts", "request_id", event=pl.lit("click"), item_id=pl.lit("p1")
    )
    nothing = {"query": pl.String, "value": pl.Float64}
    clicks = clicks.with_columns(pl.lit(None, kind).alias(name) for name, kind in nothing.items())
    return shown, clicks


def test_a_placement_that_loses_its_clicks_is_named_and_no_other(profile: TrafficProfile) -> None:
    shown, clicks = placed(12)
    home = PlacementDrift(0.001).readings(shown, clicks, profile.vocabulary, NOW_US)
    assert {one.figure.partition(" in placement ")[2] for one in home} == {"home", "none"}
    assert not [str(one) for one in home if one.unusual]
    shown, clicks = placed(12, lost="home")
    found = PlacementDrift(0.001).readings(shown, clicks, profile.vocabulary, NOW_US)
    assert [one.figure for one in found if one.unusual] == ["share of slates with a click in placement home"]
    assert is_taste("share of slates with a click in placement home")
    assert not is_taste("share of fallbacks in placement home")


def test_a_placement_is_part_of_the_comparison_with_its_outcome(profile: TrafficProfile) -> None:
    shown, _ = placed(12)
    found = compared(profile, LAST_DAY, shown)
    assert "share of slates with a click in placement home" in {one.figure for one in found.readings}
    rows = {one["figure"]: one["taste"] for one in found.to_dict()["figures"]}
    assert rows["share of slates with a click in placement none"] is True
    assert rows["share of fallbacks in placement none"] is False


def test_usual_days_of_a_placement_are_remembered_from_look_to_look(profile: TrafficProfile) -> None:
    shown, clicks = placed(12, lost="none")
    comparison = PlacementDrift(0.001)
    found: tuple[Finding, ...] = ()
    for age in range(11, -1, -1):
        now = NOW_US - age * DAY_US
        day_of = pl.col("ts").is_between(now - DAY_US, now, closed="left")
        found = comparison.readings(shown.filter(day_of), clicks.filter(day_of), profile.vocabulary, now)
    assert "share of slates with a click in placement none" in {one.figure for one in found if one.unusual}
