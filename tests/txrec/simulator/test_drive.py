"""Users of the world visit a shop: over HTTP against a running server, and in process."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pytest

from pipelines import simulate
from pipelines.simulate import LocalShop, Plan
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.clients.servers import listening
from tests.serve.fake import FakeCatalogue, FakeRecommender
from tests.txrec.data.workbench import configured
from txrec.client import Client, Retry
from txrec.config import Config, ShopConfig
from txrec.errors import ConfigError
from txrec.online.sqlite_history import SqliteHistory
from txrec.simulator import Shop
from txrec.simulator.drive import HttpShop, Shown, Simulation, Visitor
from txrec.simulator.world import World

SHOP = ShopConfig(num_items=60, num_users=50, num_events=1_000, days=20)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.generate(SHOP)


def recommender(shop: Shop) -> FakeRecommender:
    return FakeRecommender(FakeCatalogue({one.item_id: one.title for one in shop.catalogue.products}))


@pytest.fixture
def served(shop: Shop) -> Iterator[tuple[str, SqliteHistory]]:
    store = SqliteHistory()
    app = create_app(LocalService(recommender(shop), Model("v1")), components=Components(store=store))
    with listening(app) as url:
        yield url, store
    store.close()


@pytest.mark.server
def test_users_visit_a_running_server_and_it_keeps_what_they_did(shop: Shop, served: tuple[str, SqliteHistory]) -> None:
    url, store = served
    with Client(url) as client:
        front = HttpShop(client, threads=4)
        tally = Simulation(World(shop), front, top_k=8, batch=64).run(200, days=1.0)
        front.close()
    assert tally.errors == []
    assert (tally.visits, tally.failed) == (200, 0)
    assert 0 < tally.satisfaction < 1
    assert tally.clicks > 0
    events = pl.DataFrame(pl.from_arrow(store.export()))
    kinds = Counter(events["event"].to_list())
    expected = {"search": tally.searches, "click": tally.clicks, "cart": tally.carts, "purchase": tally.purchases}
    assert kinds == {kind: count for kind, count in expected.items() if count}
    assert events.filter(pl.col("event") == "purchase")["value"].sum() == pytest.approx(tally.revenue)
    assert events.filter(pl.col("event") == "click")["request_id"].null_count() == 0
    assert events.filter(pl.col("event") == "purchase")["request_id"].null_count() == tally.purchases
    assert events["user_id"].n_unique() <= tally.users


@pytest.mark.server
def test_the_command_tells_what_users_met_with_before_and_after_a_change(
    served: tuple[str, SqliteHistory], config: Config
) -> None:
    plan = Plan(visits=150, days=1.0, threads=4, drift_after=50, drift_tastes=0.5, new_products=0.2)
    found = simulate.run(config, plan, served[0])
    assert found.before is not None
    assert (found.before.visits, found.after.visits) == (50, 100)
    assert "before the change: 50 visits" in found.render()
    assert "0 requests failed" in found.headline()


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("run")
    return configured(folder, {"root": str(folder), "shop": SHOP.model_dump()})


def test_a_server_that_is_down_is_counted_and_named_not_raised(shop: Shop) -> None:
    with Client("http://127.0.0.1:9", retry=Retry(attempts=1)) as client:
        front = HttpShop(client, threads=2)
        tally = Simulation(World(shop), front, top_k=5).run(10, days=1.0)
        front.close()
    assert tally.failed == 10
    assert (tally.clicks, tally.expected) == (0, 0.0)
    assert tally.best > 0
    assert len(tally.errors) == 10


def test_in_process_the_answers_know_what_users_did_before(shop: Shop) -> None:
    front = LocalShop(recommender(shop))
    tally = Simulation(World(shop), front, top_k=8, batch=32, clock=iter((0.0, 30.0)).__next__).run(300, days=2.0)
    assert tally.failed == 0
    assert f"{tally.visits} visits of {tally.users} users in 30 s (600 per minute)" in str(tally)
    assert sum(len(events) for events in front._live.values()) == (
        tally.searches + tally.clicks + tally.carts + tally.purchases
    )


def test_the_best_possible_slates_leave_no_regret(shop: Shop) -> None:
    world = World(shop)
    ids = np.array([one.item_id for one in shop.catalogue.products], dtype=object)

    class Best(LocalShop):
        """Knows the truth: orders the products by what attracts the visitor, one visit at a time."""

        def slates(self, visitors: Sequence[Visitor], top_k: int) -> list[Shown]:
            super().slates(visitors, top_k)
            return [Shown(tuple(ids[row[:top_k]])) for row in orders]

    simulation = Simulation(world, Best(recommender(shop)), top_k=8)
    twin = World(shop)
    visits = twin.visits(50, 1.0)
    attraction = twin.attraction(visits, np.broadcast_to(np.arange(len(ids)), (50, len(ids))))
    orders = np.argsort(-attraction, axis=1)
    tally = simulation.run(50, 1.0)
    assert tally.expected == pytest.approx(tally.best)
    assert tally.regret == pytest.approx(0, abs=1e-9)
    assert tally.satisfaction == pytest.approx(1)


def test_a_shop_whose_users_are_real_cannot_be_simulated(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ConfigError, match=r"data\.shop is not set"):
        simulate.run(configured(tmp_path_factory.mktemp("real")), Plan())
