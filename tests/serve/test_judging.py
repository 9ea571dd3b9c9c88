"""Judging over HTTP on two replicas, on the console's page, and exported as a source of `prepare`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pipelines.closed_loop import export
from serve import judging
from serve.console import judging_page
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.client import AsyncClient
from txrec.config import Config, ServeConfig
from txrec.errors import StageError
from txrec.loop.judging import JUDGMENTS_KIND
from txrec.online.sqlite_documents import SqliteDocuments


def application(state: Path) -> FastAPI:
    return create_app(
        LocalService(*open_fake()), ServeConfig(), Components(judgments=SqliteDocuments(state, JUDGMENTS_KIND))
    )


@pytest.fixture
def replicas(tmp_path: Path) -> list[TestClient]:
    return [TestClient(application(tmp_path / "state.sqlite")) for _ in range(2)]


def grade(client: TestClient, judge: str, grades: dict[str, int | None], query: str = "red lamp") -> Any:
    return client.post("/v1/judging/grades", json={"judge": judge, "query": query, "grades": grades})


def test_a_task_has_products_of_all_rankings_and_neither_rank_nor_score(replicas: list[TestClient]) -> None:
    task = replicas[0].get("/v1/judging/task", params={"judge": "anna"}).json()
    assert task["query"] == "red lamp"
    assert {product["item_id"] for product in task["products"]} >= {"p3", "p6", "p9"}
    assert set(task["products"][0]) == {"item_id", "title", "description", "category", "brand", "price"}
    assert set(task["grades"]) == {"0", "1", "2", "3"}


def test_grades_count_on_every_replica_until_the_judge_is_removed(replicas: list[TestClient]) -> None:
    one, other = replicas
    assert grade(one, "anna", {"p3": 3, "p6": 0, "p9": None}).json() == {"stored": 3}
    assert other.get("/v1/judging/task", params={"judge": "anna"}).json()["query"] is None
    assert other.get("/v1/judging/task", params={"judge": "ben"}).json()["query"] == "red lamp"
    assert grade(other, "ben", {"p3": 3, "p6": 1}).status_code == 200
    state = one.get("/v1/judging").json()
    assert (state["num_queries"], state["num_pairs"], state["num_shared"]) == (1, 2, 2)
    assert state["judges"] == {"anna": 1, "ben": 1}
    assert -1 <= state["agreement"] < 1
    assert one.delete("/v1/judging/judges/anna").json() == {"judge": "anna", "removed": 1}
    assert other.get("/v1/judging").json()["judges"] == {"ben": 1}


def test_later_grades_of_a_judge_replace_and_complete_the_earlier_ones(replicas: list[TestClient]) -> None:
    grade(replicas[0], "anna", {"p3": 3, "p6": 0})
    grade(replicas[1], "anna", {"p6": 2, "p9": 1})
    (stored,) = asyncio.run(replicas[0].app.state.judging.all())  # type: ignore[attr-defined]
    assert stored.grades == {"p3": 3, "p6": 2, "p9": 1}


@pytest.mark.parametrize(
    ("grades", "status", "field"),
    [({"p3": 4}, 422, "grades.p3"), ({"nowhere": 1}, 404, "grades.nowhere"), ({}, 422, "grades")],
)
def test_a_bad_grade_is_refused_by_field(
    replicas: list[TestClient], grades: dict[str, int | None], status: int, field: str
) -> None:
    reply = grade(replicas[0], "anna", grades)
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field)


def test_a_canary_ranks_the_query_too(tmp_path: Path) -> None:
    service = LocalService(*open_fake())
    asked: list[str] = []

    class Recorded:
        def __getattr__(self, name: str) -> Any:
            return getattr(service, name)

        async def recommend(self, request: Any) -> Any:
            asked.append(request.key)
            return await service.recommend(request)

    one = judging.Judging(Recorded(), SqliteDocuments(), lambda: 0.05, lambda: 0.0, np.random.default_rng(0))
    asyncio.run(one.task("anna"))
    assert len(set(asked)) == 2


def test_the_page_shows_a_task_stores_its_grades_and_goes_on(tmp_path: Path) -> None:
    app = application(tmp_path / "state.sqlite")
    client = AsyncClient("http://console", transport=httpx.ASGITransport(app))

    async def judged() -> tuple[list[Any], list[Any], Any]:
        shown = await judging_page.next_task(client, "anna")
        chosen = ["3 exactly what was searched", judging_page.CANNOT_TELL, *[None] * 10]
        after = await judging_page.save_grades(client, "anna", shown[1], chosen)
        return shown, after, await client.judging()

    shown, after, state = asyncio.run(judged())
    assert "red lamp" in shown[0]
    assert [product["item_id"] for product in json.loads(shown[1])["products"]]
    assert state["num_pairs"] == 1
    assert "every query" in after[0]
    assert "your name" in asyncio.run(judging_page.next_task(client, " "))[0]


def test_what_a_catalogue_holds_is_never_markup_on_the_page() -> None:
    product: dict[str, Any] = {
        "item_id": "<b>",
        "title": "<script>",
        "description": "<img>",
        "category": [],
        "brand": None,
        "price": 1,
    }
    html = judging_page._product(product)
    assert not any(tag in html for tag in ("<b>", "<script>", "<img>"))


def test_judgments_are_exported_as_a_source_of_prepare(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    config = Config(name="shop", serve=ServeConfig(state=str(state)))
    with pytest.raises(StageError, match="nothing is kept here"):
        export.run_judgments(config, tmp_path / "judgments.parquet")
    with TestClient(application(state)) as client:
        with pytest.raises(StageError, match="no product has been graded"):
            export.run_judgments(config, tmp_path / "judgments.parquet")
        grade(client, "anna", {"p3": 3, "p6": 0})
        grade(client, "ben", {"p3": 2, "p6": 0})
    summary = export.run_judgments(config, tmp_path / "judgments.parquet")
    assert "2 judged pairs of 2 judges" in summary.headline()
    table = pq.read_table(tmp_path / "judgments.parquet")
    assert table.select(["query", "item_id", "grade"]).to_pylist() == [
        {"query": "red lamp", "item_id": "p3", "grade": 2.5},
        {"query": "red lamp", "item_id": "p6", "grade": 0.0},
    ]
