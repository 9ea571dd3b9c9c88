"""The deployed application on a real local cluster."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from tests.serve.conftest import replicas
from tests.serve.fake import BREAKING
from tests.waiting import wait_until

pytestmark = pytest.mark.ray


def test_a_search_travels_through_retriever_and_ranker(fake_server: str) -> None:
    body = httpx.post(f"{fake_server}/v1/search", json={"query": "lamp", "candidates": 3}, timeout=30).json()
    assert [item["item_id"] for item in body["items"]] == ["p9", "p6", "p3"]
    assert [item["item_id"] for item in body["candidates"]] == ["p3", "p6", "p9"]
    assert body["fallback"] is None
    assert body["model_version"] == "v1"


def test_errors_of_the_recommender_keep_their_field_across_processes(fake_server: str) -> None:
    reply = httpx.post(f"{fake_server}/v1/similar", json={"item_id": "p99"}, timeout=30)
    assert reply.status_code == 404
    assert reply.json()["error"]["field"] == "item_id"


def test_concurrent_requests_are_answered_each_with_its_own_slate(fake_server: str) -> None:
    def ask(top_k: int) -> int:
        reply = httpx.post(f"{fake_server}/v1/recommend", json={"user_id": "u1", "top_k": top_k}, timeout=30)
        return len(reply.json()["items"])

    asked = [1 + n % 10 for n in range(60)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, asked)) == asked


def test_health_user_and_models_answer(fake_server: str) -> None:
    assert httpx.get(f"{fake_server}/health/ready", timeout=30).json()["model_version"] == "v1"
    assert httpx.get(f"{fake_server}/v1/users/u1", timeout=30).status_code == 200
    assert httpx.get(f"{fake_server}/v1/users/nobody", timeout=30).status_code == 404
    assert httpx.get(f"{fake_server}/v1/models", timeout=30).json()["models"][0]["num_items"] == 10


def test_the_port_is_bound_to_loopback_only(fake_server: str) -> None:
    import psutil

    port = int(fake_server.rsplit(":", 1)[1])
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    assert listening == {"127.0.0.1"}


def test_a_taken_port_is_said_before_anything_starts(fake_server: str) -> None:
    from serve import app
    from tests.serve.fake import open_fake
    from txrec.config import ServeConfig
    from txrec.errors import ConfigError

    config = ServeConfig(port=int(fake_server.rsplit(":", 1)[1]))
    with pytest.raises(ConfigError, match="stop what listens there"):
        app.launch(app.bind(open_fake, config), config)


def log_of(kind: str) -> list[dict[str, Any]]:
    """What the replicas of a deployment have logged; every complete line of it must be JSON."""
    node: Any = ray._private.worker._global_node
    folder = Path(node.get_logs_dir_path())
    files = [file for one in replicas(kind) for file in folder.glob(f"worker-*-{one.pid}.err")]
    assert files
    complete = [line for file in files for line in file.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in complete if line and not line.startswith(":")]


def lines_of(kind: str, request_id: str) -> list[dict[str, Any]]:
    """What the replicas of a deployment have logged about a request."""
    return [line for line in log_of(kind) if request_id in (line.get("request_id"), *line.get("request_ids", ()))]


def test_a_defect_of_the_ranker_costs_the_order_and_is_in_all_three_logs_under_the_request(fake_server: str) -> None:
    reply = httpx.post(f"{fake_server}/v1/search", json={"query": BREAKING}, timeout=30)
    assert (reply.status_code, reply.json()["fallback"]) == (200, "ranker_unavailable")
    own = reply.headers["x-request-id"]
    kinds = ("Ranker", "Retriever", "Ingress")
    wait_until("all three have logged it", lambda: all(lines_of(kind, own) for kind in kinds))
    ranker, retriever, ingress = (lines_of(kind, own) for kind in kinds)
    assert [(line["level"], line["deployment"]) for line in ranker] == [("error", "ranker")]
    assert "ZeroDivisionError: inner detail" in ranker[0]["traceback"]
    assert [(line["level"], line["deployment"]) for line in retriever] == [("warning", "retriever")]
    assert "serving retrieval order" in retriever[0]["message"]
    assert [(line["message"], line["status"]) for line in ingress] == [("answered", 200)]


def test_what_a_request_is_to_blame_for_is_no_defect_in_the_logs(fake_server: str) -> None:
    reply = httpx.post(f"{fake_server}/v1/similar", json={"item_id": "p99"}, timeout=30)
    assert reply.status_code == 404
    own = reply.headers["x-request-id"]
    wait_until("the ingress has logged it", lambda: lines_of("Ingress", own))  # after the others
    lines = [line for kind in ("Retriever", "Ingress") for line in lines_of(kind, own)]
    assert [(line["level"], line["status"]) for line in lines] == [("info", 404)]
