"""Redis is stopped and started again under a running application: slates go on, events are refused and none is lost."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.event_log import STORE_COOLDOWN_S
from serve.ingress import Components, create_app
from serve.local import LocalService
from tests import services
from tests.serve.fake import open_fake
from txrec.online.redis_history import RedisHistory


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def click(item_id: str) -> dict[str, str]:
    return {"user_id": "visitor", "event": "click", "item_id": item_id, "event_id": f"click-{item_id}"}


@pytest.mark.server
def test_without_redis_slates_go_on_and_events_wait_with_the_caller(tmp_path: Path) -> None:
    clock = Clock()
    with services.redis(tmp_path) as url:
        parts = Components(store=RedisHistory(url), clock=clock)
        client = TestClient(create_app(LocalService(*open_fake()), components=parts))
        assert client.post("/v1/events", json=click("p1")).status_code == 202
        assert client.post("/v1/recommend", json={"user_id": "visitor"}).json()["notes"] == ["1 events"]
    for _ in range(3):
        slate = client.post("/v1/recommend", json={"user_id": "visitor"})
        assert slate.status_code == 200
        assert slate.json()["fallback"] == "history_unavailable"
        assert slate.json()["items"]
        refused = client.post("/v1/events", json=click("p2"))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    with services.redis(tmp_path, int(url.split(":")[2].split("/")[0])):
        clock.now_s += STORE_COOLDOWN_S
        assert client.post("/v1/events", json=click("p2")).json()["stored"] == 1
        assert client.post("/v1/events", json=click("p1")).json()["repeated"] == 1
        slate = client.post("/v1/recommend", json={"user_id": "visitor"})
        assert slate.json()["fallback"] is None
        assert slate.json()["notes"] == ["2 events"]
