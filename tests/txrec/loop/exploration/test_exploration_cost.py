"""What exploration lost and gained, against outcomes that are known."""

import numpy as np
import polars as pl
import pytest

from txrec.loop.attribution.attribution import Windows, credit, events_of, slates_of
from txrec.loop.exploration.exploration import Bounds
from txrec.loop.exploration.exploration_cost import ExplorationCost, cost, placement_costs
from txrec.loop.exploration.exploration_log import Record, explore

START = 1_700_000_000_000_000
MINUTE = 60_000_000
BOUNDS = Bounds(share=0.5, num_places=1, pool=4, temperature=5.0)
SCORES = (0.5, 0.4, 0.3, 0.2)
CHANCE = {"p0": 0.6, "p1": 0.3, "p2": 0.2, "new": 0.1}
"""Click probability of each product in the first place, the only one that users look at."""


def measured(size: int, explored: bool = True) -> tuple[ExplorationCost | None, pl.DataFrame]:
    rng = np.random.default_rng(3)
    slates, events = [], []
    for number in range(size):
        order, record = explore(SCORES, [0.0] * 4, BOUNDS, rng)
        items = [list(CHANCE)[place] for place in order]
        ts = START + number * MINUTE
        row = {"request_id": f"r{number}", "variant": "production", "ts": ts}
        text = record.to_json() if record and explored else None
        slates.append({**row, "user_id": f"u{number}", "item_ids": items, "exploration": text})
        if rng.random() < CHANCE[items[0]]:
            event = {"user_id": f"u{number}", "item_id": items[0], "request_id": f"r{number}", "ts": ts + 1}
            events += [{**event, "event": "click", "value": None}, {**event, "event": "purchase", "value": 7.0}]
    shown = slates_of(pl.DataFrame(slates, infer_schema_length=None))
    return cost(shown, credit(shown, events_of(pl.DataFrame(events)), Windows())), shown


def test_the_loss_is_that_of_drawn_slates_against_sorted_ones() -> None:
    found, shown = measured(8_000)
    assert found is not None
    heads = shown["item_ids"].list.first()
    assert found.slates == 8_000
    assert found.drawn == pytest.approx(4_000, abs=200)
    odds = np.array([score / (1 - score) for score in SCORES]) ** (1 / BOUNDS.temperature)
    mean = 0.6 - odds / odds.sum() @ np.array(list(CHANCE.values()))
    assert found.lost["clicks"].low < mean < found.lost["clicks"].high
    assert found.lost["clicks"].low > 0.2
    assert found.lost["revenue"].value == pytest.approx(7 * found.lost["clicks"].value)
    assert found.moved == int((heads != "p0").sum())
    assert found.clicks == pytest.approx(found.moved * 0.2, rel=0.15)
    assert found.revenue == 7 * found.clicks
    assert "per drawn slate" in str(found)


def test_first_views_are_products_that_were_seen_first_because_a_slate_was_drawn() -> None:
    shown = slates_of(
        pl.DataFrame(
            [
                _slate(0, ["a", "b", "c"], (0, 1, 2), drawn=False),
                _slate(1, ["d", "a", "b"], (3, 0, 1), drawn=True),  # d had never been in the first three
                _slate(2, ["c", "a", "b"], (2, 0, 1), drawn=True),  # c is known already
            ]
        )
    )
    none = credit(shown, events_of(_NO_EVENTS), Windows())
    found = cost(shown, none)
    assert found is not None
    assert (found.drawn, found.moved, found.first_views, found.clicks) == (2, 2, 1, 0)


def test_a_log_without_exploration_has_no_cost() -> None:
    assert measured(5, explored=False)[0] is None


def _slate(number: int, items: list[str], rank: tuple[int, ...], drawn: bool) -> dict[str, object]:
    exploration = Record(0.5, 0, 1, drawn, rank, (0.0, 0.0, 0.0), (1.0,)).to_json()
    row = {"request_id": f"r{number}", "variant": "production", "ts": START + number, "user_id": "u"}
    return {**row, "item_ids": items, "exploration": exploration}


_NO_EVENTS = pl.DataFrame(
    schema={
        **dict.fromkeys(("user_id", "event", "item_id", "request_id"), pl.String),
        "ts": pl.Int64,
        "value": pl.Float64,
    }
)


def test_costs_of_placements_are_those_of_their_slates_alone() -> None:
    _, shown = measured(600)
    events = pl.DataFrame(
        {
            "user_id": ["u0"],
            "item_id": ["p0"],
            "request_id": ["r0"],
            "ts": [START + 1],
            "event": ["click"],
            "value": [0.0],
        }
    )
    credits_ = credit(shown, events_of(events), Windows())
    assert placement_costs(shown, credits_) == {}
    named = shown.with_columns(placement=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("home")))
    found = placement_costs(named, credits_)
    assert list(found) == ["home", "none"]
    assert found["home"] == cost(named.filter(pl.col("placement") == "home"), credits_)
    assert found["home"].slates == found["none"].slates == 300
