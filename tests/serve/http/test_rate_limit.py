"""How often a caller may ask, with a clock that the test turns."""

import pytest
from fastapi.testclient import TestClient

from serve.http.api_keys import Keys
from serve.http.rate_limit import MAX_CALLERS, RateLimit
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from tests.serve.http.test_api_keys import key_lines
from txrec.config import ServeConfig


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_of_one_second_is_allowed_and_then_the_rate(clock: Clock) -> None:
    limit = RateLimit(4.0, clock)
    assert [limit.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 1]
    clock.now_s += 0.25
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 1]


def test_a_slow_rate_says_how_long_to_wait_and_saves_up_no_more_than_one_request(clock: Clock) -> None:
    limit = RateLimit(0.1, clock)
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 10]
    clock.now_s += 1_000.0
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 10]


def test_callers_do_not_share_a_bucket(clock: Clock) -> None:
    limit = RateLimit(1.0, clock)
    assert [limit.wait_s("a"), limit.wait_s("b"), limit.wait_s("a")] == [0, 0, 1]


def test_no_rate_is_no_limit(clock: Clock) -> None:
    limit = RateLimit(0.0, clock)
    assert not any(limit.wait_s("a") for _ in range(100))


def test_the_number_of_callers_kept_is_bounded(clock: Clock) -> None:
    limit = RateLimit(1.0, clock)
    for number in range(MAX_CALLERS + 100):
        limit.wait_s(str(number))
    assert len(limit._buckets) == MAX_CALLERS


def test_a_caller_over_the_limit_is_told_when_to_come_back_and_probes_are_not_limited() -> None:
    client = TestClient(create_app(LocalService(*open_fake()), ServeConfig(rate_limit_per_s=0.001)))
    assert client.post("/v1/recommend", json={}).status_code == 200
    refused = client.post("/v1/recommend", json={})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 900
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_every_key_has_its_own_limit_and_unknown_ones_share_that_of_their_address() -> None:
    keys = Keys.read("", ",".join(key_lines()))
    app = create_app(LocalService(*open_fake()), ServeConfig(rate_limit_per_s=0.001), Components(keys=keys))
    client = TestClient(app)

    def status(key: str) -> int:
        return client.post("/v1/recommend", json={}, headers={"Authorization": f"Bearer {key}"}).status_code

    assert [status("read-key"), status("events-key"), status("read-key")] == [200, 200, 429]
    assert [status("guess-1"), status("guess-2")] == [401, 429]
