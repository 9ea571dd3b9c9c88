"""`txrec loop` beside a deployed server that answers clients: canary, decision and promotion."""

import time

import pytest

from pipelines.closed_loop import loop
from tests.applications import deployed
from tests.load import Load
from tests.services import free_port
from txrec.client import Client
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.loop.rounds import Entry
from txrec.registry.registry import Registry

pytestmark = pytest.mark.slow

HOUR_S = 3_600.0


class Visitors(Load):
    """Users who ask a server without a pause, and click in slates of one variant."""

    def __init__(self, url: str, clicking: str) -> None:
        super().__init__(url, num_threads=2)
        self.asked = 0
        self._clicking = clicking

    def ask(self, client: Client, place: int, number: int) -> None:
        """A slate and, of that variant, a click."""
        user = f"visitor-{place}-{number % 150}"
        try:
            slate = client.recommend(user_id=user, top_k=3)
            if slate["variant"] == self._clicking:
                clicked = {"item_id": slate["items"][0]["item_id"], "request_id": slate["request_id"]}
                client.log({"user_id": user, "event": "click", **clicked})
        finally:
            self.asked += 1

    def wait_for(self, visits: int) -> None:
        """Returns once so many visits more were made."""
        limit = self.asked + visits
        deadline = time.monotonic() + 120
        while self.asked < limit and time.monotonic() < deadline:
            self._stopped.wait(0.05)
        assert self.asked >= limit, "the server answers too slowly"


@pytest.mark.ray
def test_a_served_application_is_driven_from_publish_to_the_decision_without_a_failed_request(
    config: Config, ray_cluster: None
) -> None:
    from serve import app

    served = with_overrides(config, {"serve.port": free_port(), "serve.console": False, "loop.canary_max_h": 72})
    served = with_overrides(served, {"loop.url": f"http://127.0.0.1:{served.serve.port}"})
    told, ahead = list[Entry](), [0.0]
    try:
        url = deployed.use("loop", lambda: app.start(served.registry_dir, served.serve))
        with Client(url, timeout_s=60) as client, Visitors(url, "canary") as visitors:
            tools = loop.Tools(lambda *_: None, client, lambda: time.time() + ahead[0], told.append)
            visitors.wait_for(20)
            loop.run(served, tools, once=True)
            roles = {one["version"]: one["variant"] for one in client.models()["models"]}
            assert roles == {"v1": "production", "v2": "canary"}
            visitors.wait_for(400)  # every user comes once and more
            ahead[0] = 2 * HOUR_S  # their hour is over
            loop.run(served, tools, once=True)
            visitors.wait_for(20)
            roles = {one["version"]: one["variant"] for one in client.models()["models"]}
    finally:
        deployed.stop()
    assert visitors.failures == []
    assert roles["v2"] == "production"
    texts = {one.step: one.text for one in told}
    assert "v2 answers 50% of the users" in texts["canary"]
    assert "canary v2: promote canary" in texts["decide"]
    assert Registry(served.registry_dir).production == "v2"
