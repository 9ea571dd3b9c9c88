"""What the console renders, over the fake recommender and without a browser."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from serve.console import main_page
from serve.ingress import create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.serve.fake import open_fake
from txrec.client import AsyncClient
from txrec.recommender.recommender import Recommender


def rendered(query: str, user: str = "", top_k: int = 3) -> tuple[str, str, str, str]:
    app = create_app(LocalService(*open_fake()))
    client = AsyncClient("http://console", transport=httpx.ASGITransport(app))
    return asyncio.run(main_page.answer(client, query, user, top_k))


def test_candidates_say_where_ranking_put_them_and_the_slate_where_they_came_from() -> None:
    _, _, before, after = rendered("lamp")  # retrieved p3 p6 p9, ranked p9 p6 p3
    assert [before.index(f"data-item='{key}'") for key in ("p3", "p6", "p9")] == sorted(
        before.index(f"data-item='{key}'") for key in ("p3", "p6", "p9")
    )
    assert before.index("&rarr; 3") < before.index("&rarr; 1")
    assert after.index("&#9650; 2") < after.index("&#9660; 2")


def test_the_history_is_told_newest_first_in_words() -> None:
    _, history, _, _ = rendered("lamp", "u1")
    assert "clicked" in history
    assert "blue kettle 1" in history
    assert "for “lamp”" in history
    assert "tier silver" in history  # of the profile
    assert "club" in history


def test_an_unknown_user_is_no_error() -> None:
    status, history, _, after = rendered("", "nobody")
    assert "unknown user" in status
    assert "Nothing is known about nobody" in history
    assert "data-item" in after


def test_a_refused_request_is_shown_with_its_reason() -> None:
    status, _, _, after = rendered("x" * 600)
    assert "at most 512" in status
    assert "data-item" not in after


def test_a_search_page_shows_its_total_its_facets_and_marked_titles(tiny_bundle: Path) -> None:
    app = create_app(LocalService(Recommender.open(tiny_bundle), Model("v1")))
    client = AsyncClient("http://console", transport=httpx.ASGITransport(app))
    view = main_page.View(whole=True, sort="-price", page=2, where="brand = acme")
    after = asyncio.run(main_page.answer(client, "lamps", "", 2, view)).slate
    assert "3 to 4 of 5" in after
    assert "<mark>lamp</mark>" in after
    assert "<b>colour</b>" in after


def test_what_users_type_is_never_markup() -> None:
    for text in rendered("<script>alert(1)</script>", "<img src=x>"):
        assert "<script>" not in text
        assert "<img" not in text


def test_the_page_is_mounted_beside_the_api_and_loads_nothing_from_elsewhere() -> None:
    app = main_page.mount(create_app(LocalService(*open_fake())))
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        page = client.get("/console/")
        assert page.status_code == 200
        assert "fonts.googleapis" not in page.text
        assert "/console" not in client.get("/openapi.json").json()["paths"]


def titled(*models: Mapping[str, object]) -> str:
    reply = {"models": list(models)}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
    return asyncio.run(main_page.title(AsyncClient("http://console", transport=transport)))


def test_the_title_names_the_model_in_production_among_several_versions() -> None:
    old, new = {"version": "v1", "variant": None, "num_items": 5}, {"version": "v2", "variant": "production"}
    head = titled(old, {**new, "num_items": 1_234}, {"version": "v3", "variant": "canary", "num_items": 9})
    assert "model v2" in head
    assert "1,234 products" in head
    assert "no model in production" in titled(old)


def test_the_search_field_shows_completions_of_what_is_typed() -> None:
    app = create_app(LocalService(*open_fake()))

    async def typed(text: str) -> str:
        client = AsyncClient("http://console", transport=httpx.ASGITransport(app))
        return await main_page.suggestions(client, text, "")

    assert "red lamp" in asyncio.run(typed("red"))
    assert asyncio.run(typed("  ")) == ""
    assert "<b>" not in asyncio.run(typed("<b>"))
