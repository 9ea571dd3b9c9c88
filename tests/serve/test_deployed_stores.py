"""A server of several replicas with a ranker over a real registry, with both stores: HTTP alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests import services
from tests.applications import deployed
from tests.services import free_port
from tests.waiting import wait_until
from txrec.client import ApiError, Client, Json
from txrec.config import ServeConfig
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry

pytestmark = pytest.mark.ray

T = TypeVar("T")
USERS = 24
VARIANTS = [{"name": "old", "version": "v1"}, {"name": "new", "version": "v2"}]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def url(
    ray_cluster: None, outcome_bundle: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str]:
    from serve import app

    registry = Registry(tmp_path_factory.mktemp("shop") / "registry")
    for required in (None, 0.3):
        with registry.locked() as version:
            registry.add(outcome_bundle, {}, Decision(version, "ndcg@10", 0.2, 0.0, 10, production_value=required))
    with services.redis() as redis:
        config = ServeConfig(
            port=free_port(),
            console=False,
            num_ingresses=2,
            num_retrievers=2,
            num_rankers=1,
            ranker_timeout_s=20,
            request_timeout_s=30,
            state=redis if request.param == "redis" else "",
            experiment_check_s=0.5,
        )
        try:
            yield deployed.use(registry.path, lambda: app.start(registry.path, config))
        finally:
            deployed.stop()


def everywhere(url: str, call: Callable[[Client], T]) -> list[T]:
    """Answers of as many requests at once, each over a connection of its own, so that every replica answers some."""

    def on_any(_: int) -> T:
        with Client(url, timeout_s=60) as client:
            return call(client)

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(on_any, range(12)))


def ids(slate: Json) -> tuple[str, ...]:
    return tuple(item["item_id"] for item in slate["items"])


def test_what_merchandisers_put_holds_on_every_replica_and_ends_again(url: str) -> None:
    def seen(client: Client) -> tuple[object, ...]:
        """Effects of a rule, of a placement, of a rule for a profile's property, and of a blocked word."""
        return (
            ids(client.search("lamp", top_k=1)),
            len(client.recommend(user_id="user-001", placement="shelf")["items"]),
            ids(client.search("tent", user_id="vip", top_k=1)),
            ids(client.rank(["sku-041", "sku-042"], context={"store": "vienna"}))[-1:],
            any("kettle" in one["text"] for one in client.suggest("ket")["suggestions"]),
        )

    with Client(url, timeout_s=60) as client:
        (before,) = set(everywhere(url, seen))
        lamp, tent = (ids(client.search(query, top_k=3))[-1] for query in ("lamp", "tent"))
        last = before[3][0] if isinstance(before[3], tuple) else ""
        other = "sku-041" if last == "sku-042" else "sku-042"
        client.put_rules(
            {"rule_id": "lamp", "when": {"query": {"exact": "lamp"}}, "effect": {"type": "pin", "items": [lamp]}},
            {
                "rule_id": "gold",
                "when": {"segment": ["tier=gold"]},
                "effect": {"type": "pin", "items": [tent]},
                "priority": 1,
            },
        )
        client.put_placement("shelf", top_k=2)
        client.put_user("vip", properties={"tier": "gold"})
        client.put_items({"item_id": other, "stock": {"vienna": 0}}, {"item_id": last, "stock": {"vienna": 5}})
        client.block_words("kettle")
        assert before[1:] == (25, before[2], (last,), True)
        after = {((lamp,), 2, (tent,), (other,), False)}
        wait_until("all of it holds on every replica", lambda: set(everywhere(url, seen)) == after)
        for rule in ("lamp", "gold"):
            client.delete_rule(rule)
        client.delete_placement("shelf")
        client.forget("vip")
        client.put_items({"item_id": other, "stock": None}, {"item_id": last, "stock": None})
        client.block_words()
        ended = {(*before[:3], True)}
        wait_until("all of it is over", lambda: {(*one[:3], one[4]) for one in everywhere(url, seen)} == ended)


def test_todays_clicks_teach_every_retriever_and_the_ranker_behind_them(url: str) -> None:
    asked = "zorgblatt"
    with Client(url, timeout_s=60) as client:
        for visitor in range(4):
            click = {"user_id": f"visitor-{visitor}", "event": "click", "item_id": "sku-031", "query": asked}
            client.log(click)
    answers: list[Json] = []

    def taught() -> bool:
        answers[:] = everywhere(url, lambda client: client.search(asked, top_k=3))
        return all("query_clicks" in answer["items"][0]["sources"] for answer in answers)

    wait_until("every retriever has counted the clicks", taught)
    assert {ids(answer)[0] for answer in answers} == {"sku-031"}
    assert {answer["fallback"] for answer in answers} == {None}
    wait_until(
        "the ranker counts what the retrievers count",
        lambda: taught() and len({answer["items"][0]["score"] for answer in answers}) == 1,
    )

    def suggestions(client: Client) -> list[str]:
        return [hit["text"] for hit in client.suggest("zorg")["suggestions"]]

    wait_until("every ingress suggests the query", lambda: everywhere(url, suggestions) == [[asked]] * 12)


def test_an_objective_orders_by_worth_in_the_ranker_deployment(url: str) -> None:
    goal = {"purchase": 1.0, "revenue": 0.02}

    def both(client: Client) -> tuple[Json, Json]:
        query = {"user_id": "user-002", "top_k": 10}
        return client.recommend(**query), client.recommend(**query, objective=goal, explain=True)

    for plain, by_worth in everywhere(url, both):
        assert "ranker_call" in by_worth["timings_ms"], "the ranker's own deployment answered"
        assert by_worth["fallback"] is None
        assert not any(item["estimates"] for item in plain["items"])
        assert ids(plain) != ids(by_worth)
        for item in by_worth["items"]:
            own = item["estimates"]
            assert item["score"] == pytest.approx(own["purchase"] + 0.02 * own["revenue"], rel=1e-4)
    with Client(url, timeout_s=60) as client:
        client.put_placement("cart", objective=goal)

        def of_placement(one: Client) -> tuple[str, ...]:
            return ids(one.recommend(user_id="user-002", top_k=10, placement="cart"))

        wait_until("the placement orders by worth", lambda: set(everywhere(url, of_placement)) == {ids(by_worth)})
        client.delete_placement("cart")


def test_pages_go_on_where_they_were_while_another_model_takes_over(url: str) -> None:
    with Client(url, timeout_s=60) as client:
        whole = ids(client.search("lamp", top_k=100, offset=0))
        reply = client.search("lamp", top_k=2, offset=0)
        shown: list[str] = []
        versions: list[str] = []
        while True:
            shown += ids(reply)
            versions.append(reply["model_version"])
            token = reply["page"]["next_page_token"]
            if not token:
                break
            if len(versions) == 2:
                client.activate("v2")
            reply = client.search("lamp", top_k=2, page_token=token)
        client.rollback()
    assert tuple(shown) == whole
    assert set(versions) == {"v1", "v2"}


def slates(url: str) -> dict[str, dict[str, object]]:
    """Slates of all users, each over a connection of its own, so that any replica answers."""
    replies = {}
    for number in range(USERS):
        with Client(url, timeout_s=60) as client:
            replies[f"user{number}"] = client.search("lamp", user_id=f"user{number}", top_k=4)
    return replies


def wait_for_replicas(url: str, running: bool) -> None:
    """Waits until every replica knows whether experiments run, which all users take part in."""
    wait_until(
        "all replicas know of the experiments",
        lambda: all(bool(reply["experiments"]) == running for reply in slates(url).values()),
    )


def test_all_replicas_assign_alike_record_the_variant_and_let_go_in_the_end(url: str) -> None:
    with Client(url, timeout_s=60) as client:
        client.create_experiment("models", VARIANTS, share=0.5)
        with pytest.raises(ApiError, match="must not overlap"):
            client.create_experiment("again", VARIANTS)
        client.create_experiment("draft", VARIANTS, kind="interleaving", start=0.5, share=0.5)
        assert {one["version"]: one["variant"] for one in client.models()["models"]} == {
            "v1": "production",
            "v2": "experiment",
        }
        wait_for_replicas(url, running=True)
        first, second = slates(url), slates(url)
        parts = {user: reply["experiments"] for user, reply in first.items()}
        assert parts == {user: reply["experiments"] for user, reply in second.items()}
        kinds = {variant for part in parts.values() for variant in part.values()}  # type: ignore[attr-defined]
        assert kinds == {"old", "new", "interleaved"}
        for user, reply in first.items():
            expected = {"old": "v1", "new": "v2", "interleaved": "v1+v2"}
            (variant,) = parts[user].values()  # type: ignore[attr-defined]
            assert (reply["model_version"], reply["variant"]) == (expected[variant], "experiment")
            assert reply["fallback"] is None
        figures = client.monitor()["figures"]["experiments"]
        assert sum(part["click_rate"]["users"] for part in figures.values()) == USERS
        wait_until("a replica looks at it", lambda: client.experiment("models")["standing"]["decisions"])
        (decision,) = client.experiment("models")["standing"]["decisions"]
        assert decision["action"] == "continue"
        for name in ("models", "draft"):
            assert client.stop_experiment(name, "enough")["standing"]["state"] == "stopped"
        assert {one["version"]: one["variant"] for one in client.models()["models"]} == {"v1": "production", "v2": None}
    wait_for_replicas(url, running=False)
