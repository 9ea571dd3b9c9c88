"""Experiments over HTTP: started on one replica, assigned on all, decided by the log, with both stores."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.documents import rules
from serve.experiments.lifecycle import Experiments
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.models.switch import Switch
from serve.types import Answer, ServingRequest
from tests import services
from tests.serve.fake import FakeRecommender, open_fake
from txrec.config import ServeConfig
from txrec.errors import ConflictError, UnavailableError
from txrec.loop.experiments.served_experiments import KIND
from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore
from txrec.online.redis_documents import RedisDocuments
from txrec.online.redis_history import RedisHistory
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.types import Candidates, Slate

HOUR_S = 3_600.0
SPLIT = {"name": "models", "variants": [{"name": "old"}, {"name": "new", "version": "v2"}]}
QUICK = {"min_users": 20, "expected_users": 60, "past_h": 0, "primary": {"name": "clicks", "window_h": 1}}


class Clock:
    """A clock that tests move."""

    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Reversed(FakeRecommender):
    """Version v2: the other order."""

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        return super().rank(candidates, not use_ranker)


class MemorySwitch(Switch):
    """Holds versions v1 and v2 at once, and remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__(None, ServeConfig())
        self.held: tuple[str, ...] = ()
        self.activated: list[str] = []

    async def hold(self, versions: Sequence[str]) -> None:
        if unknown := set(versions) - {"v1", "v2"}:
            raise ConflictError("version", f"{unknown} is refused")
        self.held = tuple(versions)

    async def activate(self, version: str, role: str, share: float = 0.0) -> Any:
        self.activated.append(version)


class Breaking(LocalService):
    """Fails for requests of version v2."""

    async def recommend(self, request: ServingRequest) -> Answer:
        if request.version == "v2":
            raise UnavailableError("", "down")
        return await super().recommend(request)


@dataclass
class Shop:
    """Replicas of one shop over shared stores."""

    replicas: list[TestClient]
    store: HistoryStore
    switch: MemorySwitch
    clock: Clock

    def slate(self, user: str, replica: int = 0, **fields: Any) -> dict[str, Any]:
        body = {"user_id": user, "query": "lamp", "top_k": 3, **fields}
        reply: dict[str, Any] = self.replicas[replica].post("/v1/search", json=body).json()
        return reply

    def flush(self) -> None:
        for client in self.replicas:
            asyncio.run(client.app.state.impressions.flush())  # type: ignore[attr-defined]

    def look(self, replica: int = 0) -> int:
        experiments: Experiments = self.replicas[replica].app.state.experiments  # type: ignore[attr-defined]
        return len(asyncio.run(experiments.look()))

    def create(self, **spec: Any) -> Any:
        return self.replicas[0].post("/v1/experiments", json=spec)

    def standing(self, name: str, replica: int = 1) -> dict[str, Any]:
        standing: dict[str, Any] = self.replicas[replica].get(f"/v1/experiments/{name}").json()["standing"]
        return standing


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[list[DocumentStore], HistoryStore]:
    prefix = request.node.name.partition("[")[0]
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return [RedisDocuments(url, KIND, prefix, 30) for _ in range(2)], RedisHistory(url, prefix, 30)
    file = tmp_path / "state.sqlite"
    return [SqliteDocuments(file, KIND) for _ in range(2)], SqliteHistory(file)


def shop_of(documents: list[DocumentStore], store: HistoryStore, service: type[LocalService] = LocalService) -> Shop:
    switch, clock = MemorySwitch(), Clock()
    recommender, model = open_fake()
    replicas = [
        TestClient(
            create_app(
                service(recommender, model, others={"v2": Reversed()}),
                ServeConfig(impression_days=3_000),
                Components(store=store, experiments=one, switch=switch, clock=clock),
            )
        )
        for one in documents
    ]
    return Shop(replicas, store, switch, clock)


@pytest.fixture
def shop(stores: tuple[list[DocumentStore], HistoryStore]) -> Shop:
    return shop_of(*stores)


@pytest.fixture
def local(tmp_path: Path) -> Shop:
    file = tmp_path / "state.sqlite"
    return shop_of([SqliteDocuments(file, KIND) for _ in range(2)], SqliteHistory(file))


def traffic(shop: Shop, users: int, clicking: str = "") -> None:
    """Every user asks once; seven of eight users of one variant click."""
    for number in range(users):
        reply = shop.slate(f"user{number}", number % 2)
        if clicking and number % 8 and clicking in reply["experiments"].values():
            event = {"user_id": f"user{number}", "event": "click", "request_id": reply["request_id"]}
            event |= {"item_id": reply["items"][number % 2]["item_id"], "ts": int(shop.clock() * 1e6) + 1}
            assert shop.replicas[0].post("/v1/events", json=event).status_code == 202
    shop.flush()


def test_users_keep_their_variant_on_every_replica_and_impressions_record_it(shop: Shop) -> None:
    assert shop.create(**SPLIT).status_code == 201
    assert shop.switch.held == ("v2",)
    first, second = ({f"user{n}": shop.slate(f"user{n}", replica) for n in range(30)} for replica in (0, 1))
    variants = {user: reply["experiments"]["models"] for user, reply in first.items()}
    assert variants == {user: reply["experiments"]["models"] for user, reply in second.items()}
    assert set(variants.values()) == {"old", "new"}
    for user, reply in first.items():
        new = variants[user] == "new"
        assert reply["model_version"] == ("v2" if new else "v1")
        assert [item["item_id"] for item in reply["items"]] == (["p3", "p6", "p9"] if new else ["p9", "p6", "p3"])
    assert shop.slate("", user_id=None)["experiments"] == {}
    shop.flush()
    logged = {row["user_id"]: row["experiments"] for row in shop.store.impressions().to_pylist()}
    assert logged == {None: []} | {user: [f"models:{variant}"] for user, variant in variants.items()}


def test_a_better_variant_is_promoted_with_its_inequality_and_goes_into_production(shop: Shop) -> None:
    shop.create(**SPLIT, decision=QUICK, activate=True)
    traffic(shop, 160, clicking="new")
    assert shop.look() == 1
    assert shop.standing("models")["state"] == "running"
    shop.clock.now_s += 1.1 * HOUR_S
    assert shop.look(1) == 1
    assert shop.look() == 0, "the other replica has just looked"
    standing = shop.standing("models")
    assert standing["state"] == "decided"
    (decision,) = standing["decisions"]
    assert decision["action"] == "promote"
    assert decision["low"] > 0
    assert "gain of at least" in standing["reason"]
    assert shop.switch.activated == ["v2"]
    assert shop.switch.held == ()
    assert shop.slate("user1")["experiments"] == {}


def test_a_guard_stops_a_variant_that_fails_while_the_primary_figure_still_waits(
    stores: tuple[list[DocumentStore], HistoryStore],
) -> None:
    shop = shop_of(*stores, Breaking)
    shop.create(**SPLIT, decision={**QUICK, "primary": {"name": "clicks", "window_h": 24}})
    for number in range(120):
        shop.replicas[0].post("/v1/search", json={"user_id": f"user{number}", "query": "lamp"})
    shop.flush()
    shop.clock.now_s += 0.2 * HOUR_S
    shop.look()
    standing = shop.standing("models")
    assert standing["state"] == "decided"
    assert standing["decisions"][0]["figure"] == "errors"
    assert "loss of at least" in standing["out"]["new"]
    shop.clock.now_s += 1
    assert shop.slate("user1", 1)["model_version"] == "v1"


def test_two_rankings_are_interleaved_and_credited_by_user(shop: Shop) -> None:
    spec = {"name": "draft", "kind": "interleaving", "variants": SPLIT["variants"]}
    shop.create(**spec, decision=QUICK)
    shown = {}
    for number in range(60):
        reply = shop.slate(f"user{number}", number % 2)
        assert reply["experiments"] == {"draft": "interleaved"}
        assert reply["model_version"] == "v1+v2"
        shown[reply["request_id"]] = (f"user{number}", [item["item_id"] for item in reply["items"]])
    shop.flush()
    rows = {row["request_id"]: row for row in shop.store.impressions().to_pylist()}
    assert {team for row in rows.values() for team in row["teams"]} == {0, 1, -1}
    for number, (request_id, (user, items)) in enumerate(shown.items()):
        assert rows[request_id]["item_ids"] == items
        best = rows[request_id]["teams"].index(1 if number % 10 else 0)
        event = {"user_id": user, "event": "click", "item_id": items[best], "request_id": request_id}
        shop.replicas[0].post("/v1/events", json={**event, "ts": int(shop.clock() * 1e6) + 1})
    shop.clock.now_s += 1.1 * HOUR_S
    shop.look()
    standing = shop.standing("draft")
    assert standing["state"] == "decided"
    (decision,) = standing["decisions"]
    assert (decision["action"], decision["figure"]) == ("promote", "preference")
    assert decision["difference"] == pytest.approx(0.8, abs=0.01)


def test_a_variant_may_be_the_same_bundle_with_other_settings_placement_or_rules(tmp_path: Path) -> None:
    documents = SqliteDocuments(tmp_path / "state.sqlite", rules.KIND)
    app = create_app(
        LocalService(*open_fake(), documents=documents), components=Components(rules=documents, clock=Clock())
    )
    with TestClient(app) as client:
        pin = {"rule_id": "pin", "when": {"segment": ["pinned"]}, "effect": {"type": "pin", "items": ["p1"]}}
        client.put("/v1/rules", json=pin)
        client.put("/v1/placements/short", json={"top_k": 1})
        variants = [{"name": "a"}, {"name": "b", "segments": ["pinned"]}, {"name": "c", "placement": "short"}]
        assert client.post("/v1/experiments", json={"name": "x", "variants": variants}).status_code == 201
        slates = [client.post("/v1/search", json={"user_id": f"u{n}", "query": "lamp"}).json() for n in range(60)]
        client.portal.call(app.state.impressions.flush)
        figures = client.get("/v1/monitor").json()["figures"]["rules"]
    pinned = sum(reply["experiments"]["x"] == "b" for reply in slates)
    assert figures["pin"]["click_rate"]["count"] == pinned
    by_variant = {reply["experiments"]["x"]: [item["item_id"] for item in reply["items"]] for reply in slates}
    assert by_variant == {"a": ["p9", "p6", "p3"], "b": ["p1", "p9", "p6", "p3"], "c": ["p9"]}


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"name": "models"}, 409, "name"),
        ({"name": "second"}, 409, "share"),
        ({"name": "second", "layer": "other"}, 409, "layer"),
        ({"name": "second", "variants": [{"name": "one"}]}, 422, "variants"),
        ({"name": "second", "start": 0.5, "share": 0.6}, 422, "body"),
        ({"name": "second", "start": 0.5, "share": 0.5, "variants": [{"name": "a"}, {"name": "a"}]}, 422, "body"),
        ({"name": "2", "start": 0.5, "variants": [{"name": "a"}, {"name": "b", "version": "v9"}]}, 409, "version"),
    ],
)
def test_an_experiment_that_cannot_run_is_refused(local: Shop, changes: Any, status: int, field: str) -> None:
    local.create(**SPLIT, share=0.5)
    reply = local.create(**{**SPLIT, "share": 0.5, **changes})
    assert reply.status_code == status, reply.text
    assert field in reply.json()["error"]["field"]
    assert [one["spec"]["name"] for one in local.replicas[1].get("/v1/experiments").json()["experiments"]] == ["models"]


def test_a_stopped_experiment_gives_its_users_back_and_stays_on_record(local: Shop) -> None:
    local.create(**SPLIT)
    reply = local.replicas[1].post("/v1/experiments/models:stop", json={"reason": "enough"})
    assert reply.json()["standing"] | {"started_us": 0, "ended_us": 0} == {
        "state": "stopped",
        "started_us": 0,
        "ended_us": 0,
        "reason": "enough",
        "out": {},
        "decisions": [],
        "looked_us": 0,
    }
    assert local.switch.held == ()
    assert local.slate("user1", 1)["experiments"] == {}
    assert local.replicas[0].get("/v1/experiments/other").status_code == 404
    assert local.create(**SPLIT).status_code == 409, "a name is used once"


def test_live_figures_tell_the_variants_apart(local: Shop) -> None:
    local.create(**SPLIT)
    traffic(local, 40, clicking="new")
    local.clock.now_s += 120
    figures = local.replicas[0].get("/v1/monitor").json()["figures"]["experiments"]
    assert figures["models:new"]["click_rate"]["value"] > 0.6
    assert figures["models:old"]["click_rate"]["value"] == 0.0
    text = local.replicas[0].get("/metrics").text
    assert 'txrec_live_figure{figure="click_rate"' in text
    assert 'variant="models:new"}' in text
    assert 'txrec_experiment_slates_total{experiment="models"' in text
