"""Tracker of impressions and clicks on the example shop page, in a real browser against a running server."""

import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from serve.ingress import Components, create_app
from serve.local import LocalService
from tests.clients.servers import listening
from tests.documents import ROOT
from tests.serve import browser
from tests.serve.fake import open_fake
from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory

pytestmark = [pytest.mark.browser, pytest.mark.server]

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "shop" / "serve.py"))
Rows = list[dict[str, Any]]
USER = "localStorage.getItem('txrec-user')"


@contextmanager
def shop_page() -> Iterator[str]:
    """Runs the server of the example page; yields its origin."""
    server = EXAMPLE["server"](0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Page, SqliteHistory]]:
    """The opened page with its products, and the events that arrive."""
    store = SqliteHistory(tmp_path / "state.sqlite")
    with shop_page() as origin:
        app = create_app(LocalService(*open_fake()), ServeConfig(cors_origins=(origin,)), Components(store=store))
        with listening(app) as api, browser.page() as page:
            page.goto(f"{origin}/?api={api}")
            page.wait_for_selector("[data-item-id]")
            yield page, store


def stored(store: SqliteHistory) -> Rows:
    return store.export().to_pylist()


def wait_for_rows(page: Page, store: SqliteHistory, enough: Callable[[Rows], bool]) -> Rows:
    """The stored events once there are enough, however the page batches them; after 20 s those that there are."""
    for _ in range(100):
        rows = stored(store)
        if enough(rows):
            return rows
        page.wait_for_timeout(200)
    return stored(store)


def sent(page: Page) -> Any:
    """Waits for the next answer to a report of events."""
    return page.expect_response(
        lambda reply: reply.url.endswith("/v1/events") and reply.request.method == "POST", timeout=20_000
    )


def test_impressions_and_clicks_of_a_search_arrive_once_with_the_slate_and_the_user(
    shop: tuple[Page, SqliteHistory],
) -> None:
    page, store = shop
    page.check("#consent")
    page.fill("input", "lamp")
    page.click("button")
    page.wait_for_function("document.querySelectorAll('[data-item-id]').length === 3")
    page.click("[data-item-id=p6]")
    rows = wait_for_rows(page, store, lambda rows: sum(row["query"] == "lamp" for row in rows) >= 4)
    clicks = [row for row in rows if row["event"] == "click"]
    seen = {row["item_id"] for row in rows if row["event"] == "impression" and row["query"] == "lamp"}
    assert [(row["item_id"], row["query"]) for row in clicks] == [("p6", "lamp")]
    assert seen == {"p9", "p6", "p3"}
    slates = {row["request_id"] for row in store.impressions().to_pylist() if row["query"] == "lamp"}
    assert {row["request_id"] for row in rows if row["query"] == "lamp"} == slates
    assert {row["user_id"] for row in rows} == {page.evaluate(USER)}


def test_without_consent_nothing_is_stored_and_nothing_is_sent(shop: tuple[Page, SqliteHistory]) -> None:
    page, store = shop
    reports = []
    page.on("request", lambda one: reports.append(one.url) if one.url.endswith("/v1/events") else None)
    page.click("[data-item-id=p9]")
    page.wait_for_timeout(1_500)  # longer than an impression takes
    assert page.evaluate("localStorage.length") == 0
    page.check("#consent")
    page.click("[data-item-id=p9]")
    page.uncheck("#consent")  # withdrawn before the batch was due
    page.wait_for_timeout(2_500)
    assert reports == []
    assert stored(store) == []
    assert page.evaluate("localStorage.length") == 0


def test_events_that_wait_when_the_page_is_left_go_as_a_beacon(shop: tuple[Page, SqliteHistory]) -> None:
    page, store = shop
    page.check("#consent")
    page.evaluate("void (window.fetch = () => Promise.reject(new Error('only a beacon gets through')))")
    page.click("[data-item-id=p9]")
    page.goto("about:blank")
    rows = wait_for_rows(page, store, lambda rows: len(rows) > 0)
    assert [(row["event"], row["item_id"]) for row in rows] == [("click", "p9")]


def test_events_wait_while_the_server_is_out_of_reach_and_are_then_sent_together(
    shop: tuple[Page, SqliteHistory],
) -> None:
    page, store = shop
    page.check("#consent")
    page.route("**/v1/events", lambda route: route.abort())
    with page.expect_event("requestfailed", timeout=20_000):
        page.click("[data-item-id=p9]")
    assert stored(store) == []
    page.unroute("**/v1/events")
    with sent(page):
        page.click("[data-item-id=p8]")
    rows = [row["item_id"] for row in stored(store) if row["event"] == "click"]
    assert rows == ["p9", "p8"]
