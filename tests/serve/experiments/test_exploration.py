"""Exploration in served slates, and its record in the log of impressions."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from serve.experiments.exploration import Explorer
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.config import ExplorationConfig, ServeConfig
from txrec.loop.attribution.attribution import slates_of
from txrec.loop.exploration.exploration import marginal_probability, prefix_probability
from txrec.loop.exploration.exploration_log import Record, explore
from txrec.loop.off_policy.off_policy_log import logged_slates
from txrec.loop.settings import bounds
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Slate, SlateItem

CONFIG = ExplorationConfig(share=0.5, first_place=1, num_places=2, pool=4, temperature=2.0)
SLATE = Slate(tuple(SlateItem(f"p{number}", 0.6 - 0.1 * number) for number in range(6)))


def test_a_share_of_the_slates_is_drawn_within_the_bounds() -> None:
    explorer = Explorer(CONFIG, seed=0)
    orders = []
    for _ in range(2_000):
        slate, record = explorer.apply(SLATE)
        assert record is not None
        orders.append([item.item_id for item in slate.items])
        assert record.rank == tuple(int(item_id[1:]) for item_id in orders[-1])
        if not record.drawn:
            assert orders[-1] == [item.item_id for item in SLATE.items]
    assert {order[0] for order in orders} == {"p0"}
    assert {order[1] for order in orders} == {"p1", "p2", "p3", "p4"}
    assert all(sorted(order) == [item.item_id for item in SLATE.items] for order in orders)
    drawn = np.mean([order != orders[0] for order in orders]) if orders[0] == sorted(orders[0]) else 0.5
    assert 0.3 < drawn < 0.6


def test_the_record_tells_the_exact_probabilities_of_any_slate() -> None:
    explorer = Explorer(CONFIG, seed=1)
    seen: dict[tuple[int, ...], int] = {}
    for _ in range(6_000):
        _, record = explorer.apply(SLATE)
        assert record is not None
        seen[record.rank[:3]] = seen.get(record.rank[:3], 0) + 1
        again = Record.from_json(record.to_json())
        assert again == record
    utility = np.array([[np.nan if value is None else value for value in again.utility]])
    utility = np.where(np.isnan(utility), -np.inf, utility)
    for ranks, count in seen.items():
        place = np.array([ranks])
        chance = prefix_probability(utility, place, again.bounds)[0, -1]
        assert count / 6_000 == pytest.approx(chance, abs=5 * np.sqrt(chance / 6_000))
    assert marginal_probability(utility, np.array([[0, 1, 2]]), again.bounds)[0, 0] == pytest.approx(1.0)


def test_products_from_below_the_slate_are_shown_and_the_record_knows_those_that_were_not() -> None:
    explorer = Explorer(ExplorationConfig(share=1.0, num_places=2, pool=6), seed=0)
    assert explorer.depth() == 6
    assert Explorer(ExplorationConfig()).depth() == 0
    shown = set()
    for _ in range(200):
        slate, record = explorer.apply(SLATE, top_k=3)
        assert record is not None
        assert len(slate.items) == len(record.shown_rank) == 3
        ids = [item.item_id for item in slate.items]
        assert sorted([*ids, *record.hidden]) == [item.item_id for item in SLATE.items]
        assert record.hidden_scores == tuple(0.6 - 0.1 * int(item_id[1:]) for item_id in record.hidden)
        assert record.rank == tuple(int(item_id[1:]) for item_id in (*ids, *record.hidden))
        shown |= set(ids)
    assert shown == {item.item_id for item in SLATE.items}


def test_places_below_the_slate_are_not_explored() -> None:
    slate, record = Explorer(ExplorationConfig(share=1.0, num_places=5, pool=6), seed=0).apply(SLATE, top_k=2)
    assert record is not None
    assert (len(slate.items), record.num_places, len(record.prefix)) == (2, 2, 2)


def test_new_products_are_shown_sooner_with_a_bonus() -> None:
    config = CONFIG.model_copy(update={"share": 1.0, "bonus": 4.0, "bonus_views": 5.0})
    views = [1e6, 1e6, 1e6, 1e6, 0.0, 1e6]
    rng = np.random.default_rng(0)
    scores = [item.score for item in SLATE.items]
    first = [explore(scores, views, bounds(config), rng)[0][1] for _ in range(300)]
    assert np.mean(np.array(first) == 4) > 0.6


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_slate_that_cannot_change_has_no_record(size: int) -> None:
    short = Slate(SLATE.items[:size])
    assert Explorer(CONFIG, seed=0).apply(short) == (short, None)


def test_a_slate_on_which_a_rule_acted_stays_as_it_is() -> None:
    ruled = replace(SLATE, rules={"summer": "pin"})
    config = CONFIG.model_copy(update={"share": 1.0})
    assert Explorer(config, seed=0).apply(ruled) == (ruled, None)


def test_a_placement_has_bounds_of_its_own() -> None:
    explorer = Explorer(ExplorationConfig(), seed=0)
    slate, record = explorer.apply(SLATE, CONFIG.model_copy(update={"share": 1.0}))
    assert record is not None
    assert (record.share, record.num_places) == (1.0, 2)
    assert explorer.apply(slate) == (slate, None)


def test_slates_by_expected_worth_are_drawn_in_proportion_to_it() -> None:
    worth = (400.0, 200.0, 100.0)
    slate = Slate(tuple(SlateItem(f"p{n}", value, estimates={"click": 0.1}) for n, value in enumerate(worth)))
    explorer = Explorer(ExplorationConfig(share=1.0, num_places=1, pool=3), seed=0)
    first = [explorer.apply(slate)[0].items[0].item_id for _ in range(4_000)]
    shares = [first.count(f"p{n}") / len(first) for n in range(3)]
    assert shares == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.03)


def test_exploration_of_a_placement_over_http(store: SqliteHistory) -> None:
    app = create_app(LocalService(*open_fake()), ServeConfig(), Components(store=store, clock=time.time))
    with TestClient(app) as client:
        exploration = {"share": 1.0, "num_places": 2, "pool": 3}
        assert client.put("/v1/placements/home", json={"exploration": exploration}).status_code == 200
        assert client.put("/v1/placements/mail", json={"exploration": {"share": 2}}).status_code == 422
        for placement in ("home", "mail"):
            client.post("/v1/recommend", json={"user_id": "u1", "top_k": 3, "placement": placement})
    records = {row["placement"]: row["exploration"] for row in store.impressions().to_pylist()}
    assert records["mail"] is None
    assert Record.from_json(records["home"]).share == 1.0


def test_a_short_slate_over_http_shows_products_of_the_whole_pool_and_can_be_valued(store: SqliteHistory) -> None:
    config = ServeConfig(exploration=ExplorationConfig(share=1.0, num_places=2, pool=8))
    app = create_app(LocalService(*open_fake()), config, Components(store=store, clock=time.time))
    with TestClient(app) as client:
        replies = [client.post("/v1/recommend", json={"user_id": "u1", "top_k": 2}).json() for _ in range(60)]
    assert {len(reply["items"]) for reply in replies} == {2}
    assert len({item["item_id"] for reply in replies for item in reply["items"]}) > 4
    log = slates_of(pl.DataFrame(pl.from_arrow(store.impressions())))
    explored = logged_slates(log.filter(pl.col("exploration").is_not_null()))
    assert {len(slate.items) for slate in explored} == {8}
    shown = {row["request_id"]: tuple(row["item_ids"]) for row in log.iter_rows(named=True)}
    assert all(slate.shown == shown[slate.request_id] for slate in explored)


def test_without_exploration_nothing_changes() -> None:
    assert Explorer(ExplorationConfig(), seed=0).apply(SLATE) == (SLATE, None)


@pytest.fixture
def store() -> Iterator[SqliteHistory]:
    history = SqliteHistory()
    yield history
    history.close()


def test_served_slates_are_logged_as_shown_with_their_record(store: SqliteHistory) -> None:
    config = ServeConfig(exploration=ExplorationConfig(share=1.0, num_places=2, pool=3))
    app = create_app(LocalService(*open_fake()), config, Components(store=store, clock=time.time))
    with TestClient(app) as client:
        reply = client.post("/v1/recommend", json={"user_id": "u1", "top_k": 3}).json()
        client.post("/v1/similar", json={"item_id": reply["items"][0]["item_id"], "top_k": 3})
    first, second = store.impressions().to_pylist()
    shown = [item["item_id"] for item in reply["items"]]
    assert first["item_ids"] == shown
    record = Record.from_json(first["exploration"])
    assert record.drawn
    assert len(record.shown_rank) == len(shown)
    assert 0 < record.prefix[-1] <= record.prefix[0] <= 1
    assert first["took_ms"] > 0
    assert len(first["sources"]) == len(shown)
    assert second["exploration"] is None
