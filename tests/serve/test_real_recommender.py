"""The HTTP application over a trained recommender in this process: its slates, and what a request may say of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.ingress import create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.serve.slate_cases import CASES
from txrec.recommender.recommender import Recommender, Request, Slate


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def client(recommender: Recommender) -> Iterator[TestClient]:
    with TestClient(create_app(LocalService(recommender, Model("v7")))) as client:
        yield client


def post(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    assert answer["model_version"] == "v7"
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def same(answer: dict[str, Any], slate: Slate) -> bool:
    scores = [item["score"] for item in answer["items"]]
    return ids(answer) == [item.item_id for item in slate.items] and scores == pytest.approx(
        [item.score for item in slate.items], abs=1e-4
    )


@pytest.mark.parametrize("name", CASES)
def test_a_slate_over_http_is_that_of_the_recommender(client: TestClient, recommender: Recommender, name: str) -> None:
    body, request = CASES[name]
    path = "/v1/search" if "query" in body else "/v1/recommend"
    answer = post(client, path, **body)
    (slate,) = recommender.recommend([request])
    assert same(answer, slate)
    assert answer["fallback"] == slate.fallback


def test_cart_and_excluded_items_leave_their_places_to_others(client: TestClient, recommender: Recommender) -> None:
    first, second, *_ = ids(post(client, "/v1/search", query="lamp", top_k=8))
    answer = post(client, "/v1/search", query="lamp", top_k=8, exclude=[first], items=[second])
    (slate,) = recommender.recommend([Request(query="lamp", top_k=8, exclude=frozenset({first}), cart=(second,))])
    assert same(answer, slate)
    assert len(ids(answer)) == 8
    assert not {first, second} & set(ids(answer))


def test_similar_items_are_those_of_the_recommender(client: TestClient, recommender: Recommender) -> None:
    answer = post(client, "/v1/similar", item_id="sku-015", top_k=5)
    assert same(answer, recommender.similar("sku-015", 5))
    assert len(ids(answer)) == 5
    assert "sku-015" not in ids(answer)
    kinds = [item["title"].split()[1] for item in answer["items"]]
    assert kinds.count("lamp") >= 3  # like the product itself


def test_a_callers_list_is_put_in_the_recommenders_order(client: TestClient, recommender: Recommender) -> None:
    items = ["sku-001", "sku-gone", "sku-055", "sku-015"]
    answer = post(client, "/v1/rank", items=items, query="lamp", user_id="user-003")
    assert same(answer, recommender.rank_items(items, Request(query="lamp", user_id="user-003")))
    assert ids(answer)[0] == "sku-015"
    assert sorted(ids(answer)) == ["sku-001", "sku-015", "sku-055"]
    assert "sku-gone" in answer["notes"][0]


def test_candidates_are_the_first_of_retrieval_with_reasons_only_for_the_slate(
    client: TestClient, recommender: Recommender
) -> None:
    answer = post(client, "/v1/search", query="lamp", top_k=3, candidates=4, explain=True)
    (found,) = recommender.retrieve([Request(query="lamp", top_k=3)])
    proposed = [str(recommender.catalogue.item_ids[item]) for item in found.item_idx[:4]]
    assert [item["item_id"] for item in answer["candidates"]] == proposed
    assert all(any("lamp" in reason for reason in item["reasons"]) for item in answer["items"])
    timings = answer["timings_ms"]
    assert {"encode", "search", "rank", "decorate"} <= set(timings)
    assert 0 < sum(timings.values()) <= answer["took_ms"]
