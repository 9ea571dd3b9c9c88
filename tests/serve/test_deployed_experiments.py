"""Experiments of a server of several replicas over a real registry, with both stores: HTTP alone."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import serve as ray_serve

from tests import services
from tests.services import free_port
from txrec.client import ApiError, Client
from txrec.config import ServeConfig
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry

pytestmark = pytest.mark.ray

EVERYWHERE_S = 2.0
"""An experiment runs on every replica after so long."""
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
            yield app.start(registry.path, config)
        finally:
            ray_serve.shutdown()


def slates(url: str, prefix: str) -> dict[str, dict[str, object]]:
    """Slates of as many users, each over a connection of its own, so that any replica answers."""
    replies = {}
    for number in range(USERS):
        with Client(url, timeout_s=60) as client:
            user = f"{prefix}{number}"
            replies[user] = client.search("lamp", user_id=user, top_k=4)
    return replies


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
        time.sleep(EVERYWHERE_S)
        first, second = slates(url, "user"), slates(url, "user")
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
        deadline = time.monotonic() + 60
        while not client.experiment("models")["standing"]["decisions"]:
            assert time.monotonic() < deadline, "no replica looks at the experiment"
            time.sleep(0.3)
        (decision,) = client.experiment("models")["standing"]["decisions"]
        assert decision["action"] == "continue"
        for name in ("models", "draft"):
            assert client.stop_experiment(name, "enough")["standing"]["state"] == "stopped"
        assert {one["version"]: one["variant"] for one in client.models()["models"]} == {"v1": "production", "v2": None}
    time.sleep(EVERYWHERE_S)
    assert all(reply["experiments"] == {} for reply in slates(url, "user").values())
