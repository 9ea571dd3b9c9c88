"""Tracker of impressions and clicks on the example shop page, in a real browser against a running server."""

import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.ingress import Components, create_app
from serve.local_service import LocalService
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


class Refusing:
    """An application whose `/v1/events` is overloaded while `refuses` is set, as a reverse proxy before it may be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.refuses = True
        self.num_refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.refuses and scope["type"] == "http" and scope["path"] == "/v1/events" and scope["method"] == "POST":
            self.num_refused += 1
            await PlainTextResponse("overloaded", 503)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def test_events_of_a_beacon_that_was_refused_are_sent_by_the_next_page(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path / "state.sqlite")
    with shop_page() as origin:
        config, parts = ServeConfig(cors_origins=(origin,)), Components(store=store)
        app = Refusing(create_app(LocalService(*open_fake()), config, parts))
        with listening(app) as api, browser.page() as page:
            page.goto(f"{origin}/?api={api}")
            page.wait_for_selector("[data-item-id]")
            page.check("#consent")
            page.evaluate(CLICK)
            page.goto("about:blank")
            for _ in range(100):
                if app.num_refused:
                    break
                page.wait_for_timeout(100)
            assert app.num_refused > 0, "the beacon was sent, and refused"
            app.refuses = False
            page.goto(f"{origin}/?api={api}")
            page.wait_for_selector("[data-item-id]")
            rows = wait_for_rows(page, store, lambda rows: any(row["event"] == "click" for row in rows))
            assert [row["item_id"] for row in rows if row["event"] == "click"] == ["p9"]
            page.wait_for_function("localStorage.getItem('txrec-outbox') === null")


def test_one_bad_event_of_a_beacon_is_dropped_with_a_warning_and_the_others_arrive_once(
    shop: tuple[Page, SqliteHistory],
) -> None:
    page, store = shop
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text) if message.type == "warning" else None)
    page.check("#consent")
    page.evaluate(
        """async () => {
          const { Tracker } = await import("./tracker.js");
          const tracker = new Tracker({ url: new URLSearchParams(location.search).get("api") });
          tracker.track({ event: "click", item_id: "p1" });
          tracker.track({ event: "bought", item_id: "p2" });
          tracker.track({ event: "click", item_id: "p3" });
          tracker.beacon();
        }"""
    )
    assert stored(store) == [], "the beacon as a whole is refused"
    page.reload()
    page.wait_for_selector("[data-item-id]")
    rows = wait_for_rows(page, store, lambda rows: sum(row["event"] == "click" for row in rows) >= 2)
    assert [row["item_id"] for row in rows if row["event"] == "click"] == ["p1", "p3"]
    assert any("HTTP 422" in text and "event" in text for text in warnings)


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


CLICK = "document.querySelector('[data-item-id=p9]').click()"


def test_consent_that_is_withdrawn_while_a_batch_is_sent_drops_the_batch_and_the_old_user(
    shop: tuple[Page, SqliteHistory],
) -> None:
    page, store = shop
    page.check("#consent")
    held: list[Any] = []
    page.route("**/v1/events", lambda route: held.append(route))  # noqa: PLW0108 - it sets an attribute of it
    with page.expect_request("**/v1/events", timeout=20_000):
        page.evaluate(CLICK)
    user = page.evaluate(USER)
    page.uncheck("#consent")
    assert page.evaluate("localStorage.length") == 0
    page.check("#consent")
    for route in held:
        route.abort()  # it fails now, and would be sent again
    page.unroute("**/v1/events")
    with sent(page):
        page.evaluate(CLICK)
    page.wait_for_timeout(500)
    users = {row["user_id"] for row in stored(store)}
    assert users == {page.evaluate(USER)}
    assert user not in users


def test_consent_that_is_withdrawn_in_another_tab_ends_this_one_too(shop: tuple[Page, SqliteHistory]) -> None:
    page, store = shop
    page.check("#consent")
    page.evaluate("document.body.append(Object.assign(document.createElement('iframe'), { src: location.href }))")
    other = page.frame_locator("iframe")  # like a tab, a document of its own with the same storage
    other.locator("[data-item-id]").first.wait_for()
    other.locator("#consent").uncheck()
    page.wait_for_function("localStorage.length === 0")
    page.wait_for_timeout(200)  # the event of the other document
    page.evaluate(CLICK)
    page.wait_for_timeout(2_500)
    assert page.evaluate("localStorage.length") == 0
    assert stored(store) == []


def test_an_event_that_the_server_refuses_does_not_take_its_batch_along(shop: tuple[Page, SqliteHistory]) -> None:
    page, store = shop
    page.check("#consent")
    page.evaluate(
        """async () => {
          const { Tracker } = await import("./tracker.js");
          const tracker = new Tracker({ url: new URLSearchParams(location.search).get("api") });
          tracker.track({ event: "click", item_id: "ok/1?#🙂" });
          tracker.track({ event: "click", item_id: "" });
          tracker.track({ event: "click", item_id: "x".repeat(257) });
          tracker.track({ event: "click", item_id: "\\ud83d" });
          tracker.track({ event: "bought", item_id: "p1" });
          tracker.track({ event: "click", item_id: 42 });
          await tracker.flush();
          await tracker.flush();
        }"""
    )
    rows = wait_for_rows(page, store, lambda rows: len([row for row in rows if row["event"] == "click"]) >= 2)
    assert [row["item_id"] for row in rows if row["event"] == "click"] == ["ok/1?#🙂", "42"]


def test_a_visitor_whose_clock_is_days_ahead_is_heard(shop: tuple[Page, SqliteHistory]) -> None:
    page, store = shop
    page.evaluate("const now = Date.now; void (Date.now = () => now() + 3 * 86_400_000)")
    page.check("#consent")
    page.evaluate(CLICK)
    rows = wait_for_rows(page, store, lambda rows: any(row["event"] == "click" for row in rows))
    assert [row["item_id"] for row in rows if row["event"] == "click"] == ["p9"]


def test_a_browser_that_stores_nothing_for_the_page_still_shows_and_reports(tmp_path: Path) -> None:
    blocked = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } })"
    )
    store = SqliteHistory(tmp_path / "state.sqlite")
    with shop_page() as origin:
        app = create_app(LocalService(*open_fake()), ServeConfig(cors_origins=(origin,)), Components(store=store))
        with listening(app) as api, browser.page() as page:
            page.add_init_script(blocked)
            page.goto(f"{origin}/?api={api}")
            page.wait_for_selector("[data-item-id]")
            page.check("#consent")
            page.evaluate(CLICK)
            rows = wait_for_rows(page, store, lambda rows: any(row["event"] == "click" for row in rows))
            assert len({row["user_id"] for row in rows}) == 1
