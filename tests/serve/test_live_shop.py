"""A shop that is open: products and models change under a real cluster with several replicas and a real registry."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve import suggester
from serve.documents import live_documents, placements
from serve.models import replica_models
from tests.applications import deployed
from tests.load import Load
from tests.serve.conftest import replicas
from tests.services import free_port
from tests.waiting import wait_until
from txrec.client import ApiError, Client, Json, Retry
from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry
from txrec.registry.rollout import Rollout

pytestmark = pytest.mark.ray

LAMP = {"item_id": "new-1", "title": "Zyx lamp", "brand": "zyx", "category": ["home", "lamp"], "price": 3.0}

ONLY_IT = {"brand": ["zyx"]}


class Shop:
    """A server over a registry with v1 in production, v2 as good, v3 damaged and v4 of another format."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.registry = Registry(folder / "registry")
        self.state = folder / "state" / "history.sqlite"
        for number in range(1, 5):
            with self.registry.locked() as version:
                decision = Decision(version, "ndcg@10", 0.2, 0.0, 10, production_value=None if number == 1 else 0.3)
                self.registry.add(bundle, {"test": {"ndcg@10": 0.2}}, decision)
        with (self.registry.path / "v3" / "items.parquet").open("r+b") as damaged:
            damaged.truncate(1000)
        manifest = self.registry.path / "v4" / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace('"format": 2', '"format": 99'))
        self.config = ServeConfig(
            port=free_port(),
            console=False,
            num_ingresses=2,
            num_retrievers=2,
            num_rankers=2,
            ranker_timeout_s=20,
            request_timeout_s=30,
        )

    def open(self) -> str:
        from serve import app

        return app.start(self.registry.path, self.config)


@pytest.fixture(scope="module")
def shop(ray_cluster: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"), tiny_bundle)
    deployed.use("live shop", shop.open)
    return shop


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{shop.config.port}", timeout_s=60) as client:
        yield client


def found(client: Client, times: int = 12) -> list[bool]:
    """Whether the new lamp is in the answers of as many requests at once, which reach every replica."""

    def ask(_: int) -> bool:
        slate = client.search("zyx lamp", top_k=5, filters=ONLY_IT)
        assert slate["fallback"] is None, "the ranker must know what the retriever knows"
        return "new-1" in {item["item_id"] for item in slate["items"]}

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, range(times)))


def wait_for_lamp(client: Client, on_sale: bool) -> None:
    """Waits until every replica knows whether the new lamp is on sale: so say two rounds of requests."""
    wait_until(f"on sale everywhere: {on_sale}", lambda: [*found(client), *found(client)] == [on_sale] * 24)


def roles(client: Client) -> dict[str, str | None]:
    return {model["version"]: model["variant"] for model in client.models()["models"]}


def test_every_replica_reads_what_any_replica_wrote(client: Client) -> None:
    def visit(number: int) -> str | None:
        with Client(str(client._http.base_url), timeout_s=60) as own:  # a connection of its own: any replica answers
            own.log({"user_id": f"visitor-{number}", "event": "click", "item_id": "sku-012"})
            return own.recommend(user_id=f"visitor-{number}", top_k=3)["fallback"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(visit, range(24))) == [None] * 24


def test_changes_are_looked_for_often_enough_to_hold_everywhere_within_two_seconds() -> None:
    assert max(replica_models.POLL_S, live_documents.POLL_S, placements.REFRESH_S, suggester.REFRESH_S) <= 0.5


def test_a_product_comes_and_goes_everywhere(client: Client) -> None:
    client.put_items(LAMP)
    wait_for_lamp(client, on_sale=True)
    assert client.item("new-1")["on_sale"] is True
    for gone in (lambda: client.put_items({"item_id": "new-1", "available": False}), lambda: client.retire("new-1")):
        gone()
        wait_for_lamp(client, on_sale=False)
        client.put_items({**LAMP, "available": True})
        wait_for_lamp(client, on_sale=True)


@pytest.mark.parametrize(("version", "reason"), [("v3", "damaged"), ("v4", "format 99")])
def test_a_bad_bundle_is_refused_with_the_reason_and_the_old_one_serves_on(
    client: Client, version: str, reason: str
) -> None:
    with pytest.raises(ApiError, match=reason) as caught:
        client.activate(version)
    assert (caught.value.status, caught.value.field) == (409, "version")
    assert roles(client) == {"v1": "production", "v2": None, "v3": None, "v4": None}
    assert client.search("lamp")["model_version"] == "v1"


class Searches(Load):
    """Searches without a pause from several threads; every answer is kept."""

    def __init__(self, url: str, threads: int = 3) -> None:
        super().__init__(url, threads)
        self.answers: list[Json] = []

    def ask(self, client: Client, place: int, number: int) -> None:
        """One search."""
        self.answers.append(client.search("zyx lamp", user_id=f"user-{place:03}", top_k=5, filters=ONLY_IT))


def test_models_are_swapped_and_rolled_back_under_load_without_a_failed_request(shop: Shop, client: Client) -> None:
    client.put_items(LAMP)
    wait_for_lamp(client, on_sale=True)
    with Searches(f"http://127.0.0.1:{shop.config.port}") as load:
        client.activate("v2")
        assert roles(client)["v2"] == "production"
        swapped = len(load.answers)
        assert client.search("lamp")["model_version"] == "v2"
        client.rollback()
        assert client.search("lamp")["model_version"] == "v1"
    assert load.failures == []
    assert swapped > 0
    assert {answer["model_version"] for answer in load.answers} == {"v1", "v2"}
    assert {answer["fallback"] for answer in load.answers} == {None}
    assert all("new-1" in {item["item_id"] for item in answer["items"]} for answer in load.answers)
    assert shop.registry.production == "v1"
    assert all(found(client)), "live products hold in every model"


def test_a_canary_answers_its_share_of_users_and_a_shadow_nobody(shop: Shop, client: Client) -> None:
    client.activate("v2", "canary", 0.5)
    served = {number: client.recommend(user_id=f"user-{number:03}", top_k=3) for number in range(16)}
    expected = {number: Rollout("v1", canary="v2", share=0.5).variant(f"user-{number:03}") for number in served}
    assert {number: slate["variant"] for number, slate in served.items()} == expected
    assert {slate["variant"]: slate["model_version"] for slate in served.values()} == {
        "production": "v1",
        "canary": "v2",
    }
    client.activate("v2", "shadow")
    shadowed = [client.recommend(user_id=f"user-{number:03}", top_k=3)["model_version"] for number in range(8)]
    assert set(shadowed) == {"v1"}

    def overlap() -> Json | None:
        (shadow,) = (model for model in client.models()["models"] if model["variant"] == "shadow")
        return shadow["overlap"]

    wait_until("slates of the shadow are compared", lambda: (overlap() or {}).get("num_requests"))
    assert (overlap() or {})["mean"] == 1.0, "the same weights give the same slates"

    def logged() -> dict[str, Json]:
        rows = SqliteHistory(shop.state).impressions().to_pylist()
        return {row["request_id"]: row for row in rows if row["variant"] != "shadow"}

    wait_until("all slates are logged", lambda: {slate["request_id"] for slate in served.values()} <= logged().keys())
    rows = logged()
    for slate in served.values():
        row = rows[slate["request_id"]]
        assert (row["variant"], row["model_version"]) == (slate["variant"], slate["model_version"])
        assert row["item_ids"] == [item["item_id"] for item in slate["items"]]
    client.deactivate("v2")
    assert set(roles(client).values()) == {"production", None}


def test_a_rule_acts_on_every_replica_and_survives_a_new_model(client: Client) -> None:
    first = [item["item_id"] for item in client.search("lamp", top_k=3)["items"]]
    when, pin = {"query": {"contains": "lamp"}}, {"type": "pin", "items": first[2:]}
    client.put_rules({"rule_id": "last first", "when": when, "effect": pin})

    def top(_: int) -> tuple[str, str]:
        with Client(str(client._http.base_url), timeout_s=60) as own:
            slate = own.search("lamp", top_k=3)
            return slate["items"][0]["item_id"], slate["model_version"]

    def tops() -> set[str]:
        with ThreadPoolExecutor(8) as pool:
            return {item_id for item_id, _ in pool.map(top, range(16))}

    wait_until("the rule holds on every replica", lambda: tops() == {first[2]})
    client.activate("v2")
    assert top(0) == (first[2], "v2")
    client.rollback()
    client.delete_rule("last first")
    wait_until("the rule is gone from every replica", lambda: tops() == {first[0]})
    assert [item["item_id"] for item in client.search("lamp", top_k=3)["items"]] == first


def test_an_agent_calls_its_tools_on_any_replica(shop: Shop) -> None:
    from mcp.client.client import Client as Agent
    from mcp.client.streamable_http import streamable_http_client

    async def search() -> set[int]:
        counts = set()
        for _ in range(6):  # a connection of its own each time: any replica answers
            async with Agent(streamable_http_client(f"http://127.0.0.1:{shop.config.port}/mcp")) as agent:
                reply = await agent.call_tool("search_products", {"query": "lamp", "top_k": 2})
                counts.add(len(reply.structured_content["items"]))
        return counts

    assert asyncio.run(search()) == {2}


def test_a_forgotten_user_leaves_neither_events_nor_impressions(shop: Shop, client: Client) -> None:
    client.log({"user_id": "gone", "event": "click", "item_id": "sku-012"})
    client.recommend(user_id="gone")
    client.forget("gone")
    store = SqliteHistory(shop.state)
    later = set()
    for number in range(8):  # over connections of their own, which any replica answers
        with Client(f"http://127.0.0.1:{shop.config.port}", timeout_s=60) as own:
            later.add(own.recommend(user_id=f"later-{number}")["request_id"])
    # Each replica writes in order: when these are written, so is everything that waited before them.
    wait_until("later slates are logged", lambda: later <= set(store.impressions()["request_id"].to_pylist()))
    assert "gone" not in store.impressions()["user_id"].to_pylist()
    assert "gone" not in store.export()["user_id"].to_pylist()


def test_no_acknowledged_event_is_lost_when_an_ingress_is_killed_in_a_write_storm(shop: Shop, client: Client) -> None:
    acknowledged: list[str] = []

    def write(place: int) -> None:
        with Client(f"http://127.0.0.1:{shop.config.port}", timeout_s=60, retry=Retry(attempts=12)) as own:
            for number in range(40):
                event = {"user_id": f"storm-{place}", "event": "click", "item_id": f"sku-{number:03}", "ts": number + 1}
                acknowledged.extend(own.log({**event, "event_id": f"{place}-{number}"})["event_ids"])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, place) for place in range(4)]
        wait_until("writing is under way", lambda: len(acknowledged) >= 30)
        victim, _ = replicas("Ingress")
        os.kill(victim.pid, signal.SIGKILL)
        for writer in writers:
            writer.result()
    stored = [row for row in SqliteHistory(shop.state).export().to_pylist() if row["user_id"].startswith("storm-")]
    assert len(acknowledged) == len(set(acknowledged)) == 160
    assert len(stored) == 160
    assert {(row["user_id"], row["item_id"]) for row in stored} == {
        (f"storm-{place}", f"sku-{number:03}") for place in range(4) for number in range(40)
    }


def test_products_models_rules_placements_and_profiles_are_as_they_were_after_a_restart(
    shop: Shop, client: Client
) -> None:
    from serve import app

    client.put_items(LAMP)
    client.activate("v2")
    client.activate("v1", "canary", 0.25)
    client.put_rules(
        {"rule_id": "vips", "when": {"segment": ["tier=gold"]}, "effect": {"type": "pin", "items": ["new-1"]}}
    )
    client.put_placement("shelf", top_k=2)
    client.put_user("vip", properties={"tier": "gold"})
    client.block_words("kettle")
    app.stop()
    shop.config = shop.config.model_copy(update={"num_ingresses": 1, "num_retrievers": 1, "num_rankers": 1})
    shop.open()
    assert all(found(client))
    slate = client.search("tent", user_id="vip", placement="shelf", explain=True)
    assert (slate["items"][0]["item_id"], len(slate["items"])) == ("new-1", 2)
    assert slate["rules"] == [{"rule_id": "vips", "effect": "pin"}]
    assert not any("kettle" in one["text"] for one in client.suggest("ket")["suggestions"])
    assert roles(client) == {"v1": "canary", "v2": "production", "v3": None, "v4": None}
    assert Registry(shop.registry.path).production == "v2"
