"""Placements: defaults from a file and over HTTP, live on every replica, recorded with impressions and counted.

With both stores.
"""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.documents import placements
from serve.ingress import create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.serve.fake import open_fake
from tests.serve.shared_state import replica
from txrec.config import ServeConfig
from txrec.errors import ConfigError
from txrec.online.stores import open_history
from txrec.recommender.recommender import Recommender, Request

FILE = """
[home]
top_k = 2
rules = false

["product page"]
fallback_items = ["p1", "p2"]
"""


@pytest.fixture
def replicas(state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TestClient]:
    monkeypatch.setattr(placements, "REFRESH_S", 0.0)
    (tmp_path / "placements.toml").write_text(FILE)
    config = ServeConfig(placements_file=str(tmp_path / "placements.toml"))
    return [replica(open_fake()[0], state, config) for _ in range(2)]


def ids(client: TestClient, path: str = "/v1/search", **fields: object) -> list[str]:
    reply = client.post(path, json={"query": "lamp", **fields})
    assert reply.status_code == 200, reply.text
    return [item["item_id"] for item in reply.json()["items"]]


def test_a_request_takes_the_defaults_of_its_placement_and_keeps_what_it_says_itself(
    replicas: list[TestClient],
) -> None:
    assert ids(replicas[0], placement="home") == ["p9", "p6"]
    assert ids(replicas[0], placement="home", top_k=1) == ["p9"]
    assert ids(replicas[0], placement="elsewhere") == ["p9", "p6", "p3"]


def test_what_is_put_over_http_holds_on_every_replica_and_gives_way_to_the_file_when_removed(
    replicas: list[TestClient],
) -> None:
    one, other = replicas
    assert one.put("/v1/placements/home", json={"top_k": 1}).json()["top_k"] == 1
    assert ids(other, placement="home") == ["p9"]
    assert set(other.get("/v1/placements").json()["placements"]) == {"home", "product page"}
    assert other.get("/v1/placements/home").json()["top_k"] == 1
    assert one.delete("/v1/placements/home").json() == {"name": "home"}
    assert ids(other, placement="home") == ["p9", "p6"]
    assert one.delete("/v1/placements/home").status_code == 404
    assert one.get("/v1/placements/nowhere").status_code == 404


def test_a_short_slate_is_filled_with_the_fallback_products_that_the_request_allows(replicas: list[TestClient]) -> None:
    assert ids(replicas[0], placement="product page", top_k=5) == ["p9", "p6", "p3", "p1", "p2"]
    assert ids(replicas[0], placement="product page", top_k=5, exclude=["p1"]) == ["p9", "p6", "p3", "p2"]
    assert ids(replicas[0], placement="product page", top_k=2) == ["p9", "p6"]


def test_impressions_and_metrics_tell_the_placement(replicas: list[TestClient], state: str) -> None:
    with replicas[0] as client:
        ids(client, placement="home")
        ids(client, placement="elsewhere")
        ids(client)
        figures = client.get("/metrics").text
    logged = open_history(state).impressions()["placement"].to_pylist()
    assert sorted(logged, key=str) == [None, "elsewhere", "home"]
    for name in ("home", "other", "none"):
        assert f'txrec_placement_slates_total{{placement="{name}"' in figures


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"diversity": 2}, 422, "diversity"),
        ({"colour": 1}, 422, "colour"),
        ({"top_k": 5_000}, 422, "top_k"),
        ({"fallback_items": ["p99"]}, 404, "fallback_items"),
    ],
)
def test_a_bad_placement_is_refused_by_field(
    replicas: list[TestClient], body: dict[str, object], status: int, field: str
) -> None:
    reply = replicas[0].put("/v1/placements/home", json=body)
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[home]\ntop_k = 0", r"home\.top_k"), ("[home]\ncolour = 1", r"home\.colour"), ("home", "is not TOML")],
)
def test_a_bad_file_is_refused_with_placement_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "placements.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        placements.read_file(str(tmp_path / "placements.toml"))
    with pytest.raises(ConfigError, match="No such file"):
        placements.read_file(str(tmp_path / "nothing.toml"))


def test_a_placement_decides_sources_and_search_page_of_its_requests(tiny_bundle: Path) -> None:
    service = LocalService(Recommender.open(tiny_bundle), Model("v1"))
    client = TestClient(create_app(service))
    defaults = {"sources": ["popularity"], "sort": "-price", "quotas": [{"field": "brand", "max": 1}]}
    assert client.put("/v1/placements/home", json={"sources": ["popularity"]}).status_code == 200
    assert client.put("/v1/placements/search", json=defaults).status_code == 200
    home = client.post("/v1/recommend", json={"user_id": "user-003", "placement": "home"}).json()
    assert {source for item in home["items"] for source in item["sources"]} == {"popularity"}
    recommender = Recommender.open(tiny_bundle)
    both = [Request(user_id="user-003"), Request(user_id="user-003", sources=("popularity",))]
    free, bound = recommender.recommend(both)  # in one batch, which searches every source once
    assert {source for item in free.items for source in item.sources} > {"popularity"}
    assert {source for item in bound.items for source in item.sources} == {"popularity"}
    own = client.post("/v1/recommend", json={"user_id": "user-003", "placement": "home", "sources": ["dense"]}).json()
    assert {source for item in own["items"] for source in item["sources"]} == {"dense"}
    page = client.post("/v1/search", json={"query": "lamp", "placement": "search"}).json()
    assert len(page["items"]) == 2
    assert page["page"]["total"] > 2
    assert page["items"][0]["item_id"] > page["items"][1]["item_id"], "the dearest first"
    refused = client.post("/v1/recommend", json={"sources": ["magic"]})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "sources")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sources": ["magic"]}, "sources"),
        ({"sort": "size"}, "sort"),
        ({"facets": ["size"]}, "facets.0"),
        ({"group_by": "size"}, "group_by"),
        ({"quotas": [{"field": "size", "max": 1}]}, "quotas.0.field"),
        ({"filters": {"attributes": {"size": ["s"]}}}, "filters"),
    ],
)
def test_a_placement_that_every_request_would_be_refused_with_is_refused_itself(
    recommender: Recommender, tmp_path: Path, body: dict[str, object], field: str
) -> None:
    one = replica(recommender, str(tmp_path / "state.sqlite"))
    reply = one.put("/v1/placements/list", json=body)
    assert (reply.status_code, reply.json()["error"]["field"]) == (422, field)
    good = {"sources": ["dense"], "sort": "-price", "facets": ["auto"], "group_by": "colour"}
    assert one.put("/v1/placements/list", json=good).status_code == 200
