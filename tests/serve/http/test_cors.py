"""Pages of other origins: shut out unless the operator lets them in."""

from fastapi.testclient import TestClient

from serve.http.middleware import MAX_BODY_BYTES
from serve.ingress import create_app
from serve.local_service import LocalService
from serve.types import Answer, ServingRequest
from tests.serve.fake import open_fake
from txrec.config import ServeConfig

SHOP = "https://shop.example"


def client(*origins: str) -> TestClient:
    return TestClient(create_app(LocalService(*open_fake()), ServeConfig(cors_origins=origins)))


def test_by_default_no_page_of_another_origin_may_read_an_answer() -> None:
    reply = client().post("/v1/recommend", json={}, headers={"Origin": SHOP})
    assert not any(name.startswith("access-control") for name in reply.headers)
    preflight = client().options("/v1/recommend", headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 405


def test_a_listed_origin_may_call_with_a_key_and_read_the_request_id() -> None:
    asked = {
        "Origin": SHOP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    preflight = client(SHOP).options("/v1/recommend", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SHOP
    reply = client(SHOP).post("/v1/recommend", json={}, headers={"Origin": SHOP})
    assert reply.headers["access-control-allow-origin"] == SHOP
    assert "X-Request-ID" in reply.headers["access-control-expose-headers"]


def test_an_origin_that_is_not_listed_stays_out() -> None:
    reply = client(SHOP).post("/v1/recommend", json={}, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in reply.headers


class Defective(LocalService):
    async def recommend(self, request: ServingRequest) -> Answer:
        raise ZeroDivisionError


def test_a_page_can_read_refusals_of_the_request_middleware_too() -> None:
    config = ServeConfig(cors_origins=(SHOP,), rate_limit_per_s=0.001)
    limited = TestClient(create_app(LocalService(*open_fake()), config))
    limited.post("/v1/recommend", json={}, headers={"Origin": SHOP})
    too_many = limited.post("/v1/recommend", json={}, headers={"Origin": SHOP})
    too_large = client(SHOP).post("/v1/recommend", content=b" " * (MAX_BODY_BYTES + 1), headers={"Origin": SHOP})
    app = create_app(Defective(*open_fake()), ServeConfig(cors_origins=(SHOP,)))
    broken = TestClient(app, raise_server_exceptions=False).post("/v1/recommend", json={}, headers={"Origin": SHOP})
    assert [reply.status_code for reply in (too_many, too_large, broken)] == [429, 413, 500]
    for reply in (too_many, too_large, broken):
        assert reply.headers["access-control-allow-origin"] == SHOP
        assert "Retry-After" in reply.headers["access-control-expose-headers"]


def test_a_beacon_of_a_listed_origin_may_call_its_json_text_and_that_of_no_other() -> None:
    event = '[{"user_id": "u1", "event": "click", "item_id": "p1"}]'

    def status(origin: str) -> int:
        headers = {"Origin": origin, "Content-Type": "text/plain;charset=UTF-8"}
        return client(SHOP).post("/v1/events", content=event, headers=headers).status_code

    assert status(SHOP) == 202
    assert status("https://evil.example") == 422
