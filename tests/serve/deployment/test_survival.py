"""Replicas are killed and overrun on a real cluster while clients keep asking: who asks again gets right answers."""

import asyncio
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from ray import serve as ray_serve

from tests.applications import deployed
from tests.serve.conftest import replicas
from tests.serve.fake import open_fake
from tests.services import free_port
from tests.waiting import wait_until
from txrec.client import ApiError, Client, Retry
from txrec.config import ServeConfig

pytestmark = pytest.mark.ray

RANKED, RETRIEVED = ["p9", "p6", "p3"], ["p3", "p6", "p9"]
NUM_CLIENTS = 4
CONFIG = ServeConfig(
    console=False, num_ingresses=2, num_retrievers=2, num_rankers=2, max_batch_size=1, max_waiting=4, impression_days=0
)


@pytest.fixture(scope="module")
def url(ray_cluster: None) -> str:
    from serve import app

    config = CONFIG.model_copy(update={"port": free_port()})
    return deployed.use("survival", lambda: app.launch(app.bind(open_fake, config), config))


class Load:
    """Clients that ask for the same slate over and over, in threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._more = threading.Condition()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> None:
        with Client(self._url, timeout_s=10, retry=Retry(attempts=12, max_wait_s=2.0)) as shop:
            while not self._stop.is_set():
                try:
                    slate = shop.search("lamp")
                except ApiError as error:
                    self.failures.append(f"{error.status}: {error}")
                    continue
                items = [item["item_id"] for item in slate["items"]]
                expected = RETRIEVED if slate["fallback"] == "ranker_unavailable" else RANKED
                with self._more:
                    self.answers["right" if items == expected else f"wrong: {items}, {slate['fallback']}"] += 1
                    self._more.notify_all()

    def wait_for(self, count: int) -> None:
        """Returns after so many more right answers."""
        with self._more:
            wanted = self.answers["right"] + count
            assert self._more.wait_for(lambda: self.answers["right"] >= wanted, timeout=90), self.failures

    def stop(self) -> None:
        self._stop.set()


def test_killed_replicas_cost_clients_that_ask_again_nothing(url: str) -> None:
    load = Load(url)
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        asking = [pool.submit(load.run) for _ in range(NUM_CLIENTS)]
        try:
            for kind in ("Retriever", "Ranker", "Ingress"):
                load.wait_for(20)
                victim, *others = replicas(kind)
                assert others
                os.kill(victim.pid, signal.SIGKILL)
                load.wait_for(60)
        finally:
            load.stop()
        for future in asking:
            future.result(timeout=60)
    assert load.failures == []
    assert set(load.answers) == {"right"}


def _running(kind: str) -> int:
    """Replicas of a deployment that Ray Serve's controller holds for running, dead ones too until it looks."""
    states = ray_serve.status().applications["txrec"].deployments[kind].replica_states
    return sum(number for state, number in states.items() if state == "RUNNING")


def test_overload_is_answered_for_later_with_bounded_memory_and_is_over_at_once(url: str) -> None:
    async def burst(count: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(client.post("/v1/search", json={"query": "lamp"}) for _ in range(count)))

    wait_until("the killed ingress is replaced", lambda: len(replicas("Ingress")) == _running("Ingress") == 2)
    asyncio.run(burst(50))  # connections and caches
    before = sum(process.memory_info().rss for process in replicas("Ingress"))
    replies = asyncio.run(burst(300))
    after = sum(process.memory_info().rss for process in replicas("Ingress"))
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) == {200, 503}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status_code == 503)
    assert after - before < 64 << 20
    single = httpx.post(f"{url}/v1/search", json={"query": "lamp"}, timeout=5)
    assert [item["item_id"] for item in single.json()["items"]] == RANKED
