"""Experiments of a server of several replicas over a real registry, with both stores: HTTP alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.applications import deployed
from tests.services import free_port
from tests.waiting import wait_until
from txrec.client import ApiError, Client
from txrec.config import ServeConfig
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry

pytestmark = pytest.mark.ray

USERS = 24
VARIANTS = [{"name": "old", "version": "v1"}, {"name": "new", "version": "v2"}]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def url(
    ray_cluster: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str]:
    from serve import app

    registry = Registry(tmp_path_factory.mktemp("shop") / "registry")
    for required in (None, 0.3):
        with registry.locked() as version:
            registry.add(tiny_bundle, {}, Decision(version, "ndcg@10", 0.2, 0.0, 10, production_value=required))
    with services.redis() as redis:
        config = ServeConfig(
            port=free_port(),
            console=False,
            num_ingresses=2,
            num_retrievers=2,
            num_rankers=0,
            request_timeout_s=30,
            state=redis if request.param == "redis" else "",
            experiment_check_s=0.5,
        )
        try:
            yield deployed.use(registry.path, lambda: app.start(registry.path, config))
        finally:
            deployed.stop()


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
